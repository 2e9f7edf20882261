"""Synthetic scenes: a head-sized shell of Gaussians, as densely covered as a trained head, at any number and size."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.gaussians.bound import BoundField, bind
from models.gaussians.camera import Camera
from models.gaussians.rasterize.constants import ALPHA_MIN, BLUR
from models.gaussians.rasterize.reference import rotation_matrices

COVER = 40.0
"""Gaussians that reach an alpha of one 8-bit step at a pixel of the head, on average."""
SHAPES = 8
"""Blend shapes of bound Gaussians."""
SEMI_AXES_M = (0.085, 0.11, 0.09)
DEPTH_M = 0.6
FOCAL = 2.6  # times the image's width: the head is nearly as high as the frame


class Shell(NamedTuple):
    """What is drawn, as `rasterize` takes it."""

    means: Tensor  # [N, 3] metres
    quats: Tensor  # [N, 4]
    scales: Tensor  # [N, 3] metres
    opacities: Tensor  # [N]
    colors: Tensor  # [N, 3]


def camera(size: int, device: str = "cpu") -> Camera:
    """Return a camera of `size` x `size` pixels in front of the head, turned a little."""
    cos, sin = math.cos(0.1), math.sin(0.1)
    view = torch.tensor([[cos, 0, sin, 0], [0, -1, 0, 0], [sin, 0, -cos, DEPTH_M], [0, 0, 0, 1]], dtype=torch.float32)
    focal = FOCAL * size
    intrinsics = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=torch.float32)
    return Camera(view.to(device), intrinsics.to(device), size, size)


def head_pixels(size: int) -> float:
    """Return how many pixels of a frame the head covers: an ellipse."""
    pixels_per_m = FOCAL * size / DEPTH_M
    return math.pi * SEMI_AXES_M[0] * SEMI_AXES_M[1] * pixels_per_m**2


def shell(count: int, seed: int = 0, size: int = 256, cover: float = COVER, device: str = "cpu") -> Shell:
    """Make an ellipsoid shell of anisotropic Gaussians.

    Args:
        count: of Gaussians.
        seed: of the generator.
        size: of the frame for which the cover holds.
        cover: Gaussians a pixel of the head; it decides how large they are.
        device: of the tensors.

    Returns:
        The scene; the same for the same arguments.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    directions = torch.nn.functional.normalize(normal(count, 3), dim=1)
    radius = 0.75 + 0.25 * torch.rand(count, 1, generator=generator).sqrt()
    means = directions * radius * torch.tensor(SEMI_AXES_M)
    shape, quats = torch.exp(0.5 * normal(count, 3)), normal(count, 4)
    opacities = torch.sigmoid(1.5 * normal(count))
    low, high = 1e-6, 0.1
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        covered = _pixels(quats, shape * middle, opacities, size) / head_pixels(size)
        low, high = (middle, high) if covered < cover else (low, middle)
    colors = torch.rand(count, 3, generator=generator)
    return Shell(*(tensor.to(device) for tensor in (means, quats, shape * low, opacities, colors)))


def _pixels(quats: Tensor, scales: Tensor, opacities: Tensor, size: int) -> float:
    """Sum the areas in which Gaussians at the head's distance reach `ALPHA_MIN`, in pixels."""
    factor = rotation_matrices(quats) * scales[:, None] * (FOCAL * size / DEPTH_M)
    covariance = (factor @ factor.mT)[:, :2, :2] + BLUR * torch.eye(2)
    reach = 2 * (opacities / ALPHA_MIN).clamp(min=1).log()  # squared standard deviations
    return float((math.pi * reach * torch.linalg.det(covariance).clamp(min=0).sqrt()).sum())


def sheet(count: int, seed: int = 0) -> tuple[BoundField, Tensor, Tensor]:
    """Make a crumpled sheet of half as many triangles as there are Gaussians on it, two on each.

    Returns:
        The Gaussians, vertices `[V, 3]` in metres and triangles `[F, 3]`.
    """
    random = np.random.default_rng(seed)
    side = math.isqrt(count // 4)
    rows, columns = (part.ravel() for part in np.mgrid[: side + 1, : side + 1])
    vertices = np.stack([rows, columns, random.uniform(0, 2, rows.shape)], -1) * 1e-3
    corner = (np.arange(side)[:, None] * (side + 1) + np.arange(side)).ravel()
    triangles = np.concatenate([corner[:, None] + way for way in ([0, 1, side + 2], [0, side + 2, side + 1])])
    faces = np.sort(np.arange(count) % len(triangles))
    field = bind(vertices, triangles, faces, np.full(count, 5e-7), 1, SHAPES, 1, 0.5, seed)
    return field, torch.tensor(vertices, dtype=torch.float32), torch.from_numpy(triangles)
