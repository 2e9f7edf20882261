"""Cost curves as one PNG: a doubly logarithmic panel for each quantity, with a grey line of exact linearity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tasks.bench.curves import Curve

PANEL, GAP, MARGIN = (460, 360), 26, 62
PAPER, INK, FAINT, GRID, LINE = "white", "#202020", "#8a8a8a", "#e4e4e4", "#1f77b4"


def draw_curves(path: Path, curves: Sequence[Curve], title: str) -> None:
    """Write the PNG.

    Args:
        path: of the file.
        curves: a panel each.
        title: above all of them.
    """
    width = GAP + len(curves) * (PANEL[0] + GAP)
    picture = Image.new("RGB", (width, PANEL[1] + 2 * GAP + 10), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((GAP, 10), f"{title}; grey: proportional to the last point", INK, _font(16))
    for number, curve in enumerate(curves):
        _panel(pen, GAP + number * (PANEL[0] + GAP), 2 * GAP, curve)
    picture.save(path)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _panel(pen: ImageDraw.ImageDraw, x: int, y: int, curve: Curve) -> None:
    left, top, right, bottom = x + MARGIN, y + 24, x + PANEL[0] - 8, y + PANEL[1] - 46
    across, up = _padded(curve.x), _padded(curve.ms)

    def place(quantity: float, milliseconds: float) -> tuple[float, float]:
        return (
            left + (math.log10(quantity) - across[0]) / (across[1] - across[0]) * (right - left),
            bottom - (math.log10(milliseconds) - up[0]) / (up[1] - up[0]) * (bottom - top),
        )

    for value in _ticks(*across):
        at = place(value, 10 ** up[0])[0]
        pen.line((at, top, at, bottom), GRID)
        pen.text((at, bottom + 4), _brief(value), FAINT, _font(12), anchor="ma")
    for value in _ticks(*up):
        at = place(10 ** across[0], value)[1]
        pen.line((left, at, right, at), GRID)
        pen.text((left - 6, at), _brief(value), FAINT, _font(12), anchor="rm")
    # Through the last point: where the curve leaves this line, cost is not proportional.
    first = max(curve.x[0], curve.x[-1] * 10 ** up[0] / curve.ms[-1])
    start = place(first, curve.ms[-1] * first / curve.x[-1])
    pen.line((*start, *place(curve.x[-1], curve.ms[-1])), FAINT)
    points = [place(*point) for point in zip(curve.x, curve.ms, strict=True)]
    pen.line([coordinate for point in points for coordinate in point], LINE, 3)
    for (px, py), value in zip(points, curve.ms, strict=True):
        pen.ellipse((px - 4, py - 4, px + 4, py + 4), LINE)
        text = f"{value:.3g}" if value < 1000 else f"{value:.0f}"
        pen.text((max(px - 6, left + 3), py - 7), text, INK, _font(12), anchor="rs" if px - 6 > left + 30 else "ls")
    pen.rectangle((left, top, right, bottom), outline=FAINT)
    pen.text((left, y), f"ms over {curve.x_label} ({curve.backend})", INK, _font(14))
    words = ", ".join(f"{slope:.2f}" for slope in curve.slopes)
    pen.text((left, bottom + 24), f"slopes: {words}", FAINT, _font(12))


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """Return the decades that an axis spans, a little more than the values."""
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.06 * (high - low), 0.05)
    return low - margin, high + 2 * margin


def _ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(low), math.ceil(high) + 1)
    factors = (1, 2, 5) if high - low < 2.2 else (1,)
    return [factor * 10.0**power for power in powers for factor in factors if low <= math.log10(factor) + power <= high]


def _brief(value: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
