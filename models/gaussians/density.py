"""Density control (Kerbl et al., 3D Gaussian Splatting, 2023, section 5): where Gaussians are added and removed."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import InputError
from models.gaussians.adam import FieldAdam
from models.gaussians.field import GaussianField, inverse_softplus
from models.gaussians.plan import Density
from models.gaussians.rasterize import Raster
from models.gaussians.rotation import rotate

CHILD_SHRINK = 1.6
"""A split Gaussian's two children have its scale divided by this."""
GREEN_SHRINK = 10.0
"""A Gaussian that paints the backdrop has its scale divided by this where it is not removed."""
GREEN_OPACITY = 0.1
"""Its opacity then."""


class Change(NamedTuple):
    """What one refinement did."""

    cloned: int
    split: int
    pruned: int


class DensityControl:
    """Gradient statistics of a field and the surgery that follows from them."""

    def __init__(
        self,
        plan: Density,
        count: int,
        generator: torch.Generator,
        device: str | torch.device = "cpu",
        unit_m: float = 1.0,
        pixel: float = 1.0,
    ):
        """Prepare for `count` Gaussians; `unit_m` and `pixel` are what a length of 1 in the plan means."""
        self.plan, self.generator, self.unit_m, self.pixel = plan, generator, unit_m, pixel
        self._reset(count, torch.device(device))

    def _reset(self, count: int, device: torch.device) -> None:
        self.total = torch.zeros(count, device=device)  # sum of gradient norms
        self.seen = torch.zeros(count, device=device)  # draws in which the Gaussian was on the screen
        self.widest = torch.zeros(count, device=device)  # largest radius on the screen, pixels

    @torch.no_grad()
    def observe(self, raster: Raster) -> None:
        """Take in the screen gradients of one draw, after its backward."""
        gradient = raster.means2d.grad
        if gradient is None:
            raise ValueError("density control observes a draw before its backward")
        height, width = raster.alpha.shape[-2:]
        # Half image widths, as in the paper, so that thresholds do not depend on the resolution.
        self.total += gradient.norm(dim=1) * (0.5 * max(width, height))
        self.seen += raster.radii > 0
        if self.plan.prune_radius_px:
            self.widest = torch.maximum(self.widest, raster.radii)

    @torch.no_grad()
    def refine(self, field: GaussianField, adam: FieldAdam, progress: float) -> Change:
        """Prune, clone and split `field` in place; `adam` follows.

        Args:
            field: the Gaussians.
            adam: their optimiser.
            progress: 0..1, how much of the phase is done.

        Returns:
            How many were cloned, split and pruned.

        Raises:
            InputError: no Gaussian is left.
        """
        plan = self.plan
        largest = field.scales.max(1).values
        grown = progress < plan.stop
        alive = self._worth(field, largest, progress) if grown else torch.ones_like(largest, dtype=torch.bool)
        green = self._green(field)
        if plan.green == "remove":
            alive &= ~green
        if int(alive.sum()) < plan.least:
            visible = field.opacities * (self.seen > 0)
            alive[visible.topk(min(plan.least, len(field))).indices] = True
        alive = field.spared(alive)
        grows = self._chosen(alive) if grown else torch.zeros_like(alive)
        split_above = plan.split_above * self.unit_m
        splits, clones = grows & (largest > split_above), grows & (largest <= split_above)
        if plan.green.startswith("shrink"):
            self._shrink(field, adam, green)
        kept = torch.where(alive & ~splits)[0]

        new: dict[str, Tensor] = {}
        for name, tensor in field.tensors().items():
            new[name] = torch.cat([tensor[kept], tensor[clones], tensor[splits], tensor[splits]])
        children = 2 * int(splits.sum())
        if children:
            deviations = field.scales[splits].repeat(2, 1)
            noise = torch.randn(children, 3, generator=self.generator).to(deviations)
            new["means"][-children:] += rotate(field.quats[splits].repeat(2, 1), noise * deviations)
            new["raw_scales"][-children:] = inverse_softplus(deviations / CHILD_SHRINK)
        if not len(new["means"]):
            raise InputError(
                f"density control found none of {len(field)} Gaussians worth keeping",
                "all are too faint, too large or out of sight at this point of the phase",
                "give prune_opacity, prune_above or prune_size_from of its density other values",
            )
        field.replace(new)
        adam.resize(kept, len(field) - len(kept))
        self._reset(len(field), field.means.device)
        return Change(int(clones.sum()), children // 2, int((~alive).sum()))

    def _worth(self, field: GaussianField, largest: Tensor, progress: float) -> Tensor:
        """Return which Gaussians are neither faint nor too large nor out of sight."""
        plan = self.plan
        worth = field.opacities > plan.opacity_floor(progress)
        if progress > plan.prune_size_from:
            worth &= largest < plan.prune_above * self.unit_m
            if plan.prune_radius_px:
                worth &= self.widest <= plan.prune_radius_px * self.pixel
        # One that no draw of a whole interval has shown lies outside all views and would never change again.
        return worth & (self.seen > 0) if plan.remove_unseen else worth

    def _green(self, field: GaussianField) -> Tensor:
        """Return which Gaussians only paint the green backdrop of training."""
        (low, high), (red, green, blue) = self.plan.green_limits, field.base_color.unbind(1)
        return (red < low) & (green > high) & (blue < low)

    def _shrink(self, field: GaussianField, adam: FieldAdam, green: Tensor) -> None:
        """Make Gaussians faint and small, so that they may become something else."""
        faint = torch.full_like(field.raw_opacities[green], math.log(GREEN_OPACITY / (1 - GREEN_OPACITY)))
        field.raw_opacities[green] = faint
        raw = field.raw_scales[green]
        by_scale = self.plan.green == "shrink"
        field.raw_scales[green] = inverse_softplus(F.softplus(raw) / GREEN_SHRINK) if by_scale else raw / GREEN_SHRINK
        for moments in (adam.first, adam.second):  # they belong to what the Gaussian was
            for name in ("raw_opacities", "raw_scales"):
                moments[name][green] = 0

    def _chosen(self, alive: Tensor) -> Tensor:
        plan, count = self.plan, int(alive.sum())
        mean = torch.where(alive, self.total / self.seen.clamp(min=1), torch.zeros_like(self.total))
        room = max(0, plan.capacity - count)
        if plan.rule == "top":
            room = min(room, int(plan.growth * count))
        chosen = torch.zeros_like(alive)
        chosen[mean.topk(min(room, len(mean))).indices] = True
        if plan.rule == "threshold":
            chosen &= mean >= plan.gradient
        return chosen & alive & (mean > 0)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs (the generator's owner saves the generator)."""
        return {"total": self.total, "seen": self.seen, "widest": self.widest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        device = self.total.device
        self.total, self.seen, self.widest = (state[name].to(device, copy=True) for name in ("total", "seen", "widest"))
