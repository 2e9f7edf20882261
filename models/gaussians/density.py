"""Density control (Kerbl et al., 3D Gaussian Splatting, 2023, section 5): where Gaussians are added and removed."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.gaussians.adam import FieldAdam
from models.gaussians.field import GaussianField, inverse_softplus
from models.gaussians.plan import Density
from models.gaussians.rasterize import Raster

CHILD_SHRINK = 1.6
"""A split Gaussian's two children have its scale divided by this."""
GREEN_LOW, GREEN_HIGH = 0.12, 0.88
"""A Gaussian with red and blue below and green above these only paints the backdrop of training."""


class Change(NamedTuple):
    """What one refinement did."""

    cloned: int
    split: int
    pruned: int


class DensityControl:
    """Gradient statistics of a field and the surgery that follows from them."""

    def __init__(self, plan: Density, count: int, generator: torch.Generator, device: str | torch.device = "cpu"):
        self.plan, self.generator = plan, generator
        self._reset(count, torch.device(device))

    def _reset(self, count: int, device: torch.device) -> None:
        self.total = torch.zeros(count, device=device)  # sum of gradient norms
        self.seen = torch.zeros(count, device=device)  # draws in which the Gaussian was on the screen

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

    def due(self, step: int, steps: int) -> bool:
        """Return whether the field is refined after `step` (from 1) of `steps`."""
        plan = self.plan
        return plan.start <= step < plan.stop * steps and step % plan.every == 0

    @torch.no_grad()
    def refine(self, field: GaussianField, adam: FieldAdam, progress: float) -> Change:
        """Prune, clone and split `field` in place; `adam` follows.

        Args:
            field: the Gaussians.
            adam: their optimiser.
            progress: 0..1, how much of the phase is done.

        Returns:
            How many were cloned, split and pruned.
        """
        plan = self.plan
        largest = field.scales.max(1).values
        limit = plan.prune_opacity[0] + (plan.prune_opacity[1] - plan.prune_opacity[0]) * progress
        # One that no draw of a whole interval has shown lies outside all views and would never change again.
        alive = (field.opacities > limit) & (largest < plan.prune_above_m) & (self.seen > 0)
        if plan.remove_green:
            red, green, blue = field.base_color.unbind(1)
            alive &= ~((red < GREEN_LOW) & (green > GREEN_HIGH) & (blue < GREEN_LOW))
        grows = self._chosen(alive)
        splits, clones = grows & (largest > plan.split_above_m), grows & (largest <= plan.split_above_m)
        kept = torch.where(alive & ~splits)[0]

        new: dict[str, Tensor] = {}
        for name, tensor in field.tensors().items():
            new[name] = torch.cat([tensor[kept], tensor[clones], tensor[splits], tensor[splits]])
        children = 2 * int(splits.sum())
        if children:
            deviations = field.scales[splits].repeat(2, 1)
            noise = torch.randn(children, 3, generator=self.generator).to(deviations)
            new["means"][-children:] += _rotate(field.quats[splits].repeat(2, 1), noise * deviations)
            new["raw_scales"][-children:] = inverse_softplus(deviations / CHILD_SHRINK)
        field.replace(new)
        adam.resize(kept, len(field) - len(kept))
        self._reset(len(field), field.means.device)
        return Change(int(clones.sum()), children // 2, int((~alive).sum()))

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
        return {"total": self.total, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        device = self.total.device
        self.total, self.seen = state["total"].to(device, copy=True), state["seen"].to(device, copy=True)


def _rotate(quats: Tensor, vectors: Tensor) -> Tensor:
    """Turn `vectors` `[N, 3]` by the quaternions `[N, 4]` (wxyz, any length)."""
    quats = F.normalize(quats, dim=-1)
    real, imaginary = quats[:, :1], quats[:, 1:]
    twice = 2 * torch.linalg.cross(imaginary, vectors)
    return vectors + real * twice + torch.linalg.cross(imaginary, twice)
