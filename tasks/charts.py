"""Line charts as SVG text, coloured by the page's style sheet (classes c0, c1, ... and axis), or by their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 10, 26
LEAST = 1e-4  # of the largest value: what a logarithmic axis still shows

MOST = 1500  # points of a line that are drawn; of more, the least and the greatest of each stretch
ABOVE = 44  # units above a chart that stands alone
ALONE = (
    "svg{background:#fff;font:12px sans-serif}text{fill:#63666d}.grid{stroke:#e3e3de}.line{fill:none;stroke-width:1.8;"
    "stroke:currentColor}.c0{color:#1c1d20}.c1{color:#2457c5}.c2{color:#c2601a}.c3{color:#13713c}.c4{color:#8a3fa8}"
    ".c5{color:#0f8b95}.c6{color:#a8323e}.c7{color:#7a6a17}"
)

Line = Sequence[float | None]


@dataclass(frozen=True)
class Chart:
    """A drawn chart.

    Args:
        body: what stands inside the SVG element.
        names: of its lines and the numbers of their colours.
        width: in the units of its view box.
        height: the same.
        scales: attributes that tell a script how to put a cursor on the chart and to read values from its lines.
    """

    body: str
    names: tuple[tuple[str, int], ...]
    width: int
    height: int
    scales: str

    @property
    def html(self) -> str:
        """The chart for a page, with its legend."""
        named = escape(", ".join(name for name, _ in self.names))
        view = f'viewBox="0 0 {self.width} {self.height}"'
        keys = "".join(
            f'<span class="key"><i class="c{colour}"></i>{escape(name)} <output></output></span>'
            for name, colour in self.names
        )
        svg = f'<svg {view} role="img" aria-label="{named}"{self.scales}>{self.body}</svg>'
        return f'<figure class="chart">{svg}<figcaption>{keys}</figcaption></figure>'

    def alone(self, title: str) -> str:
        """Return the chart as a file that needs no page: with title, legend and style."""
        texts = [f'<text x="{LEFT}" y="-{2 * ABOVE // 3}" font-weight="bold">{escape(title)}</text>']
        x = LEFT
        for name, colour in self.names:
            texts.append(f'<line class="line c{colour}" x1="{x}" x2="{x + 16}" y1="-9" y2="-9"/>')
            texts.append(f'<text x="{x + 22}" y="-5">{escape(name)}</text>')
            x += 40 + 7 * len(name)
        height = self.height + ABOVE
        size = f'viewBox="0 -{ABOVE} {self.width} {height}" width="{self.width}" height="{height}"'
        inner = f"<style>{ALONE}</style>{''.join(texts)}{self.body}"
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{inner}</svg>\n'


def line_chart(
    lines: Mapping[str, Line],
    x: Sequence[float],
    x_label: str,
    logarithmic: bool = False,
    width: int = WIDTH,
    height: int = HEIGHT,
    colours: Mapping[str, int] | None = None,
) -> Chart | None:
    """Return a chart of `lines` (name -> values over `x`, None is a gap), None if there is nothing to draw.

    A logarithmic axis leaves out what is not positive or less than `LEAST` of the largest value. The first line lies
    over the others. Lines take colours in turn, or those of `colours`.
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
        return None
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)  # stays positive if it is

    def scale(value: float) -> float:
        return math.log10(value) if logarithmic else value

    low_y, span_y = scale(low), scale(high) - scale(low)
    first, span_x = x[0], (x[-1] - x[0]) or 1.0

    def place(at: float, value: float) -> str:
        across = LEFT + (at - first) / span_x * (width - LEFT - RIGHT)
        up = height - BOTTOM - (scale(value) - low_y) / span_y * (height - TOP - BOTTOM)
        return f"{across:.1f},{up:.1f}"

    across, down = f"{LEFT} {width - RIGHT}", f"{height - BOTTOM} {TOP}"
    scales = f' data-x="{first:g} {x[-1]:g} {across}" data-y="{low:g} {high:g} {down}"'
    parts: list[str] = []
    ticks = _decades(low, high) if logarithmic else _even(low, high, 5 if height >= HEIGHT else 3)
    for tick in ticks:
        y = place(first, tick).split(",")[1]
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="axis" x="{LEFT - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
    for at, anchor in ((x[0], "start"), (x[-1], "end")):
        left = place(at, low).split(",")[0]
        parts.append(f'<text class="axis" x="{left}" y="{height - 8}" text-anchor="{anchor}">{at:g}</text>')
    middle = (LEFT + width - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle:.0f}" y="{height - 8}" text-anchor="middle">{escape(x_label)}</text>')
    names = tuple((name, (colours or {}).get(name, number % 8)) for number, name in enumerate(lines))
    for name, colour in reversed(names):
        line = lines[name]
        for piece in _pieces(line):
            points = " ".join(place(x[k], float(line[k] or 0.0)) for k in _thinned(piece, line))
            parts.append(f'<polyline class="line c{colour}" points="{points}"/>')
    return Chart("".join(parts), names, width, height, "" if logarithmic else scales)


def _thinned(piece: list[int], line: Line) -> list[int]:
    """Return at most `MOST` positions of a piece, the extremes of each stretch among them."""
    if len(piece) <= MOST:
        return piece
    size = -(-2 * len(piece) // MOST)
    kept: set[int] = set()
    for start in range(0, len(piece), size):
        stretch = piece[start : start + size]
        kept |= {min(stretch, key=lambda k: line[k] or 0.0), max(stretch, key=lambda k: line[k] or 0.0)}
    return sorted(kept | {piece[0], piece[-1]})


def _pieces(line: Line) -> list[list[int]]:
    """Return runs of positions with finite values."""
    runs: list[list[int]] = [[]]
    for k, value in enumerate(line):
        if value is None or not math.isfinite(value):
            runs.append([])
        else:
            runs[-1].append(k)
    return [run for run in runs if run]


def _even(low: float, high: float, most: int = 5) -> list[float]:
    """Return round values between `low` and `high`, at most one more than `most`."""
    step = 10 ** math.floor(math.log10((high - low) / 2))
    for factor in (1, 2, 2.5, 5, 10):
        first, last = math.ceil(low / (step * factor)), math.floor(high / (step * factor))
        if last - first <= most:
            return [k * step * factor for k in range(first, last + 1)]
    return [low, high]


def _decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten between `low` and `high`, or only the powers where they are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) <= 3 else (1,)
    found = [factor * 10.0**power for power in powers for factor in steps if low <= factor * 10.0**power <= high]
    return found or [low, high]
