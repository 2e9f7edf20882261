"""Line charts as SVG text, coloured by the page's style sheet (classes c0, c1, ... and axis)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 10, 26
LEAST = 1e-4  # of the largest value: what a logarithmic axis still shows

Line = Sequence[float | None]


def line_chart(
    lines: Mapping[str, Line], x: Sequence[float], x_label: str, logarithmic: bool = False, width: int = WIDTH
) -> str:
    """Return a chart of `lines` (name -> values over `x`, None is a gap) with a legend of HTML below.

    A logarithmic axis leaves out what is not positive or less than `LEAST` of the largest value.
    """
    if logarithmic:
        largest = max((v for line in lines.values() for v in line if v is not None and math.isfinite(v)), default=0.0)
        lines = {
            name: [None if v is None or not v > LEAST * largest or v <= 0 else v for v in line]
            for name, line in lines.items()
        }
    lines = {name: line for name, line in lines.items() if any(v is not None for v in line)}
    values = [v for line in lines.values() for v in line if v is not None and math.isfinite(v)]
    if not values or len(x) < 2:
        return '<p class="quiet">no curve</p>'
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)  # stays positive if it is

    def scale(value: float) -> float:
        return math.log10(value) if logarithmic else value

    low_y, span_y = scale(low), scale(high) - scale(low)
    first, span_x = x[0], (x[-1] - x[0]) or 1.0

    def place(at: float, value: float) -> str:
        across = LEFT + (at - first) / span_x * (width - LEFT - RIGHT)
        up = HEIGHT - BOTTOM - (scale(value) - low_y) / span_y * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f},{up:.1f}"

    parts = [f'<svg viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{escape(", ".join(lines))}">']
    ticks = _decades(low, high) if logarithmic else _even(low, high)
    for tick in ticks:
        y = place(first, tick).split(",")[1]
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="axis" x="{LEFT - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
    for at, anchor in ((x[0], "start"), (x[-1], "end")):
        across = place(at, low).split(",")[0]
        parts.append(f'<text class="axis" x="{across}" y="{HEIGHT - 8}" text-anchor="{anchor}">{at:g}</text>')
    middle = (LEFT + width - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    for number, line in enumerate(lines.values()):
        for piece in _pieces(line):
            points = " ".join(place(x[k], float(line[k] or 0.0)) for k in piece)
            parts.append(f'<polyline class="line c{number % 8}" points="{points}"/>')
    parts.append("</svg>")
    legend = "".join(
        f'<span class="key"><i class="c{number % 8}"></i>{escape(name)}</span>' for number, name in enumerate(lines)
    )
    return f'<figure class="chart">{"".join(parts)}<figcaption>{legend}</figcaption></figure>'


def _pieces(line: Line) -> list[list[int]]:
    """Return runs of positions with finite values."""
    runs: list[list[int]] = [[]]
    for k, value in enumerate(line):
        if value is None or not math.isfinite(value):
            runs.append([])
        else:
            runs[-1].append(k)
    return [run for run in runs if run]


def _even(low: float, high: float) -> list[float]:
    """Return three to six round values between `low` and `high`."""
    step = 10 ** math.floor(math.log10((high - low) / 2))
    for factor in (1, 2, 2.5, 5, 10):
        first, last = math.ceil(low / (step * factor)), math.floor(high / (step * factor))
        if last - first <= 5:
            return [k * step * factor for k in range(first, last + 1)]
    return [low, high]


def _decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten between `low` and `high`, or only the powers where they are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) <= 3 else (1,)
    found = [factor * 10.0**power for power in powers for factor in steps if low <= factor * 10.0**power <= high]
    return found or [low, high]
