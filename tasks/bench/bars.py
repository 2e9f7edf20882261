"""What the fast backends must reach, as data, and the verdict on a measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tasks.bench.timing import Figure, rounded

State = Literal["pass", "fail", "too noisy", "not measured"]


@dataclass(frozen=True)
class Bar:
    """The least ratio or rate, or the most seconds, of a figure.

    Bars are for two cores; ratios are those of the least samples. A figure that was not measured has no verdict.
    """

    figure: str
    kind: Literal["ratio", "per second", "seconds"]
    value: float
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def text(self) -> str:
        """For a table."""
        unit = {"ratio": "x the reference", "per second": "a second", "seconds": "s"}[self.kind]
        return f"{'at most' if self.kind == 'seconds' else 'at least'} {self.value:g} {unit}"


BARS = (
    Bar("raster_10k_forward", "ratio", 40),
    Bar("raster_10k", "ratio", 40),
    Bar("raster_30k_forward", "ratio", 45),
    Bar("raster_30k", "ratio", 45),
    Bar("first_call", "seconds", 2),
    Bar("grid_10k", "ratio", 10),
    Bar("bound_14k", "ratio", 2),
    Bar("ssim", "ratio", 3),
    Bar("iteration", "ratio", 25),
    Bar("render_512", "per second", 25),
)


def judge(bar: Bar, figure: Figure | None, disturbed: bool = False) -> dict[str, Any]:
    """Compare a figure with its bar.

    Args:
        bar: what must be reached.
        figure: what was measured, if it was.
        disturbed: whether others used the machine at the same time. Ratios bear that, for it slows both sides; a rate
            or a time that misses its bar then says nothing.

    Returns:
        `state`, and `measured` and `median` (the figure by its least and by its median sample; None without a figure).
    """
    measured, median = (None, None) if figure is None else _values(bar, figure)
    state: State = "not measured"
    if measured is not None:
        reached = measured <= bar.value if bar.kind == "seconds" else measured >= bar.value
        state = "pass" if reached else "too noisy" if disturbed and bar.kind != "ratio" else "fail"
    return {
        "figure": bar.figure,
        "bar": bar.text,
        "measured": None if measured is None else rounded(measured),
        "median": None if median is None else rounded(median),
        "state": state,
        "noisy": bool(figure and figure.noisy),
    }


def _values(bar: Bar, figure: Figure) -> tuple[float | None, float | None]:
    if bar.kind == "ratio":
        return figure.ratio, figure.ratio_median
    if bar.kind == "per second":
        return 1e3 / figure.fast.least, 1e3 / figure.fast.median
    return figure.fast.least / 1e3, figure.fast.median / 1e3


def verdicts(figures: list[Figure], device: str, disturbed: bool = False) -> list[dict[str, Any]]:
    """Judge every bar of a device, see `judge`."""
    found = {figure.name: figure for figure in figures}
    return [judge(bar, found.get(bar.figure), disturbed) for bar in BARS if bar.device == device]
