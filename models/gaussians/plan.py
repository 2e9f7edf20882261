"""The plan of density control, as data.

Two rules decide which Gaussians grow. `threshold` is the one of the paper: every Gaussian whose mean gradient on the
screen is above a threshold. `top` is for short schedules, in which few would ever reach it: the given fraction of
Gaussians with the largest gradients, so that the number of Gaussians follows a plan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from models.schedule import MOST_GAUSSIANS, Row, first_after

Green = Literal["remove", "shrink", "shrink_raw", "keep"]


@dataclass(frozen=True)
class Density:
    """When and by which rule a field grows and is thinned out. Lengths are in the phase's unit."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    rule: Literal["top", "threshold"] = "top"
    start: float = 0.075  # fraction of the phase before which the field is left alone
    stop: float = 0.8  # fraction after which it is
    every: float = 0.0375  # fraction between two refinements
    growth: float = 0.08  # rule "top": fraction of the living Gaussians that grows each time
    gradient: float = 5e-4  # rule "threshold": mean gradient in half image widths, as in the paper
    capacity: int = 7000  # Gaussians at most
    split_above: float = 3e-3  # larger ones are split in two, smaller ones doubled
    prune_opacity: tuple[float, float] = (0.03, 0.10)  # fainter ones are removed: limit at the start, at the end
    prune_above: float = 0.02  # larger ones are removed
    prune_radius_px: float = 0.0  # also those that are wider on the screen, at 256 pixels; 0: whatever their width
    prune_size_from: float = 0.0  # fraction up to which large ones stay
    remove_unseen: bool = True  # also those that no draw of a whole interval has shown
    least: int = 0  # however faint or large they are, so many stay: the most opaque in sight
    # What is done to Gaussians that paint the green backdrop. shrink makes them faint and ten times smaller.
    # shrink_raw is what the released code does to the mouth's: it divides the scale before its softplus, a negative
    # number, so that a Gaussian of 5 mm becomes one of half a metre, and is removed as too large.
    green: Green = "remove"
    green_limits: tuple[float, float] = (0.12, 0.88)  # red and blue are below the first, green above the second
    green_until: float = 0.0  # fraction up to which this goes on after `stop`

    def __post_init__(self) -> None:
        """Check the interval and the number of Gaussians.

        Raises:
            ValueError: it is none, or so many fit nowhere.
        """
        if not 0 <= self.capacity <= MOST_GAUSSIANS:
            raise ValueError(f"capacity is 0 to {MOST_GAUSSIANS}, not {self.capacity}")
        if not 0 < self.every <= 1:
            raise ValueError(f"every is a fraction of the phase between two refinements: above 0, not {self.every}")

    def interval(self, steps: int) -> int:
        """Return the steps between two refinements in a phase of `steps`."""
        return max(1, round(self.every * steps))

    def due(self, step: int, steps: int) -> bool:
        """Return whether the field is refined after `step` (from 1) of `steps`."""
        first = max(1, round(self.start * steps))
        return first <= step < max(self.stop, self.green_until) * steps and step % self.interval(steps) == 0

    def opacity_floor(self, progress: float) -> float:
        """Return the opacity below which Gaussians are removed at `progress` 0..1 of the phase."""
        return self.prune_opacity[0] + (self.prune_opacity[1] - self.prune_opacity[0]) * progress

    def rows(self, name: str, steps: int) -> list[Row]:
        """Describe it."""
        if not steps:
            return []
        start = max(1, round(self.start * steps))
        last = math.ceil(self.stop * steps) - 1
        often = f"every {self.interval(steps)}"
        grow = f"top {self.growth:.0%}" if self.rule == "top" else f"gradient above {self.gradient:g}"
        floor = dict.fromkeys(f"{self.opacity_floor(step / steps):.2f}" for step in (start, last))
        size = f"above {self.prune_above:g}" + (f" or {self.prune_radius_px:g} px" if self.prune_radius_px else "")
        green_last = max(last, math.ceil(self.green_until * steps) - 1)
        rows = [
            Row(f"{name}: grow", start, last, f"{grow} {often}, up to {self.capacity}"),
            Row(f"{name}: prune faint", start, last, f"below {' → '.join(floor)}"),
            Row(f"{name}: prune large", max(start, first_after(self.prune_size_from, steps)), last, size),
        ]
        if self.green != "keep":
            rows.append(Row(f"{name}: green", start, green_last, f"{self.green} {often}"))
        return rows


@dataclass(frozen=True)
class Harmonics:
    """How view-dependent colour comes in: a degree more after every fraction of the phase; 0: all at once."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    every: float = 0.0

    def degree(self, progress: float, most: int) -> int:
        """Return the highest degree that is drawn at `progress` 0..1."""
        return most if not self.every else min(most, int(progress / self.every + 1e-9))

    def rows(self, name: str, steps: int) -> list[Row]:
        """Describe it."""
        says = f"a degree more every {max(1, round(self.every * steps))}" if self.every else "all degrees"
        return [Row(name, 1, steps, says)]
