"""The plan of density control, as data.

Two rules decide which Gaussians grow. `threshold` is the one of the paper: every Gaussian whose mean gradient on the
screen is above a threshold. `top` is for short schedules, in which few would ever reach it: the given fraction of
Gaussians with the largest gradients, so that the number of Gaussians follows a plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class Density:
    """When and by which rule a field grows and is thinned out."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    rule: Literal["top", "threshold"] = "top"
    start: int = 300  # first step
    stop: float = 0.8  # fraction of the phase after which the field is left alone
    every: int = 150  # steps
    growth: float = 0.08  # rule "top": fraction of the living Gaussians that grows each time
    gradient: float = 5e-4  # rule "threshold": mean gradient in half image widths, as in the paper
    capacity: int = 7000  # Gaussians at most
    split_above_m: float = 3e-3  # larger ones are split in two, smaller ones doubled
    prune_opacity: tuple[float, float] = (0.03, 0.10)  # fainter ones are removed: limit at the start, at the end
    prune_above_m: float = 0.02  # larger ones are removed
    remove_green: bool = True  # also those that paint the backdrop
