"""A set of 3D Gaussians as free parameters, and how they are first placed.

Scales go through softplus and opacities through a sigmoid, so that every real number is a valid parameter
(TalkingGaussian, Li et al., ECCV 2024; 3D Gaussian Splatting itself uses exp for scales).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from torch import Tensor

from models.gaussians.spherical_harmonics import COLOR_OFFSET, Y0

PARAMETERS = ("means", "quats", "raw_scales", "raw_opacities", "colors", "harmonics")


def inverse_softplus(values: Tensor) -> Tensor:
    """Return x with softplus(x) = `values` (> 0)."""
    return values + torch.log(-torch.expm1(-values))


@dataclass
class GaussianField:
    """Parameters of N Gaussians in the head frame; every tensor is a leaf that can be optimised."""

    means: Tensor
    """`[N, 3]` centres, metres."""
    quats: Tensor
    """`[N, 4]` rotations wxyz, any length."""
    raw_scales: Tensor
    """`[N, 3]` softplus of it is the standard deviation in metres."""
    raw_opacities: Tensor
    """`[N]` sigmoid of it is the opacity."""
    colors: Tensor
    """`[N, 1, 3]` spherical harmonics of degree 0."""
    harmonics: Tensor
    """`[N, K - 1, 3]` the higher degrees."""

    def __post_init__(self) -> None:
        self.replace(self.tensors())

    def __len__(self) -> int:
        return len(self.means)

    @property
    def scales(self) -> Tensor:
        """Standard deviations `[N, 3]`, metres."""
        return F.softplus(self.raw_scales)

    @property
    def opacities(self) -> Tensor:
        """Opacities `[N]`, 0..1."""
        return torch.sigmoid(self.raw_opacities)

    @property
    def coefficients(self) -> Tensor:
        """All spherical harmonics `[N, K, 3]`."""
        return torch.cat([self.colors, self.harmonics], 1) if self.harmonics.shape[1] else self.colors

    @property
    def base_color(self) -> Tensor:
        """Colour without the view-dependent part `[N, 3]`, not clamped."""
        return self.colors[:, 0] * Y0 + COLOR_OFFSET

    def tensors(self) -> dict[str, Tensor]:
        """Return the parameters by name."""
        return {name: getattr(self, name) for name in PARAMETERS}

    def replace(self, tensors: dict[str, Tensor]) -> None:
        """Put other parameters (of another N, perhaps) in place of all present ones."""
        for name in self.tensors():
            tensor = tensors[name].detach().to(self.means.device, copy=True)
            setattr(self, name, tensor.requires_grad_(tensor.is_floating_point()))

    def spared(self, alive: Tensor) -> Tensor:
        """Return which Gaussians stay `[N]` bool when all but those `alive` are to be removed."""
        return alive

    def to(self, device: str | torch.device) -> Self:
        """Return a copy on `device`."""
        return type(self)(**{name: tensor.detach().to(device) for name, tensor in self.tensors().items()})


def create_field(
    points: np.ndarray,
    colors: np.ndarray,
    sh_degree: int,
    opacity: float = 0.1,
    width: float = 0.7,
    scale_range_m: tuple[float, float] = (3e-4, 8e-3),
) -> GaussianField:
    """Place one round Gaussian on every point, as wide as it is far from its neighbours.

    Args:
        points: `[N, 3]` metres, at least four.
        colors: `[N, 3]` in 0..1.
        sh_degree: of the colour, 0 to 3.
        opacity: of every Gaussian.
        width: standard deviation over the mean distance to the three nearest others, 1 in 3D Gaussian Splatting.
        scale_range_m: limits of the standard deviation, metres.

    Returns:
        The field, on the CPU.

    Raises:
        ValueError: fewer than four points, or as many colours as points are not given.
    """
    if len(points) < 4 or len(colors) != len(points):
        raise ValueError(f"a field starts from at least four coloured points, not {len(points)} and {len(colors)}")
    distance = cKDTree(points).query(points, 4)[0][:, 1:].mean(1)
    scales = torch.tensor(width * distance, dtype=torch.float32).clamp(*scale_range_m)
    base = (torch.tensor(colors, dtype=torch.float32) - COLOR_OFFSET) / Y0
    return GaussianField(**round_gaussians(torch.tensor(points, dtype=torch.float32), scales, base, sh_degree, opacity))


def round_gaussians(means: Tensor, scales: Tensor, base: Tensor, sh_degree: int, opacity: float) -> dict[str, Tensor]:
    """Return the parameters by name of round Gaussians that look the same from everywhere.

    Args:
        means: `[N, 3]` centres.
        scales: `[N]` standard deviations, in the same unit.
        base: `[N, 3]` spherical harmonics of degree 0.
        sh_degree: of the colour.
        opacity: of every one.
    """
    count = len(means)
    quats = torch.zeros(count, 4)
    quats[:, 0] = 1
    return {
        "means": means,
        "quats": quats,
        "raw_scales": inverse_softplus(scales)[:, None].repeat(1, 3),
        "raw_opacities": torch.full((count,), math.log(opacity / (1 - opacity))),
        "colors": base[:, None],
        "harmonics": torch.zeros(count, (sh_degree + 1) ** 2 - 1, 3),
    }
