"""Run a one-camera rasteriser over one camera or a batch of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from models.gaussians.rasterize import Raster

DrawOne = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]
"""(view `[4, 4]`, intrinsics `[3, 3]`, centre offsets `[N, 2]`) -> image, alpha, depth, radii, projected centres."""


def over_cameras(draw_one: DrawOne, scene: tuple[Tensor, ...], world_to_camera: Tensor, intrinsics: Tensor) -> Raster:
    """Draw every camera in turn and stack the results.

    The gradient of the projected centres is collected by a tensor of zeros that `draw_one` adds to them; afterwards it
    is filled with the centres themselves, which its gradient does not depend on.

    Args:
        draw_one: draws for one camera.
        scene: the differentiable inputs, means first.
        world_to_camera: `[4, 4]` or `[B, 4, 4]`.
        intrinsics: `[3, 3]` or `[B, 3, 3]`.

    Returns:
        A `Raster`, with a camera axis exactly if the cameras have one.
    """
    batch = world_to_camera.shape[:-2]
    count = scene[0].shape[0]
    means2d = scene[0].new_zeros(*batch, count, 2)
    means2d.requires_grad_(torch.is_grad_enabled() and any(tensor.requires_grad for tensor in scene))
    if not batch:
        image, alpha, depth, radii, centers = draw_one(world_to_camera, intrinsics, means2d)
    elif not len(world_to_camera):
        raise ValueError("a batch of no cameras cannot be drawn")
    else:
        drawn = [draw_one(*camera) for camera in zip(world_to_camera, intrinsics, means2d, strict=True)]
        image, alpha, depth, radii, centers = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    with torch.no_grad():
        means2d.copy_(centers)
    return Raster(image, alpha, depth, radii, means2d)
