"""The rasteriser on the CPU: Numba kernels behind a torch autograd function. float32 only.

Differences from `reference`: cameras, background and depth carry no gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import get_num_threads
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.gaussians.rasterize import Raster, blending_kernels, projection_kernels
from models.gaussians.rasterize.cameras import over_cameras
from models.gaussians.rasterize.tiles import FUSED, MOMENTS, PIXELS, SPLAT, TILE_H, TILE_W


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _at_least_fused(values: Tensor) -> np.ndarray:
    """The last axis filled up with zeros to the three channels that the fused loops always blend."""
    missing = FUSED - values.shape[-1]
    return _array(torch.nn.functional.pad(values.detach(), (0, missing)) if missing > 0 else values)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        features: Tensor,
        center_offsets: Tensor,
        view: Tensor,
        intrinsics: Tensor,
        width: int,
        height: int,
        background: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        count, channels = features.shape
        means_array, quats_array, scales_array = (_array(tensor) for tensor in (means, quats, scales))
        colors, backdrop = _at_least_fused(features), _at_least_fused(background)
        view_array = _array(view)
        camera = np.array([intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]], np.float32)
        splats = np.zeros((count, SPLAT), np.float32)
        boxes = np.empty((count, 6), np.int32)
        depths = np.empty(count, np.float32)
        radii = np.empty(count, np.int32)
        projection_kernels.project(
            means_array, quats_array, scales_array, _array(opacities), view_array, camera, width, height, splats, boxes,
            depths, radii,
        )  # fmt: skip

        columns, rows = -(-width // TILE_W), -(-height // TILE_H)
        order = projection_kernels.depth_order(depths, boxes)
        tile_starts, ids, pair_starts, slots = projection_kernels.bin_tiles(order, boxes, columns, rows)
        image = np.empty((height, width, colors.shape[1]), np.float32)
        alpha, depth = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
        kept = np.empty((columns * rows, 2 * PIXELS), np.float32)
        used = np.empty(columns * rows, np.int32)
        spans = np.empty((len(ids), 2), np.uint8)
        blending_kernels.blend(
            splats, colors, depths, boxes, tile_starts, ids, backdrop, image, alpha, depth, kept, used, spans,
            get_num_threads(),
        )  # fmt: skip
        ctx.projection = (
            means_array,
            quats_array,
            scales_array,
            view_array,
            camera,
            width,
            height,
            splats,
            pair_starts,
            slots,
        )
        ctx.blending = (splats, colors, boxes, tile_starts, ids, backdrop, kept, used, spans)
        # An edit in place between forward and backward must be an error, as for every other torch function.
        ctx.save_for_backward(means, quats, scales, opacities, features)
        depth_map, drawn_radii, centers = (torch.from_numpy(array) for array in (depth, radii, splats[:, :2]))
        ctx.mark_non_differentiable(depth_map, drawn_radii, centers)
        return torch.from_numpy(image[..., :channels]), torch.from_numpy(alpha), depth_map, drawn_radii, centers

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, image_grad: Tensor, alpha_grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        means, quats, scales, opacities, features = ctx.saved_tensors
        ids = ctx.blending[4]
        channels = max(features.shape[1], FUSED)
        rows = np.empty((len(ids), MOMENTS + channels), np.float32)
        blending: tuple[Any, ...] = (
            *ctx.blending,
            _at_least_fused(image_grad),
            _array(alpha_grad),
            rows,
            get_num_threads(),
        )
        blending_kernels.blend_backward(*blending)
        v_features = features.new_empty(len(features), channels)
        v_centers = means.new_empty(len(means), 2)
        gradients = [torch.empty_like(tensor, memory_format=torch.contiguous_format)
                     for tensor in (means, quats, scales, opacities)]  # fmt: skip
        outputs = (tensor.numpy() for tensor in (*gradients, v_features, v_centers))
        projection: tuple[Any, ...] = (*ctx.projection, rows, *outputs)
        projection_kernels.project_backward(*projection)
        return *gradients, v_features[:, : features.shape[1]], v_centers, None, None, None, None, None


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    features: Tensor,
    world_to_camera: Tensor,
    intrinsics: Tensor,
    width: int,
    height: int,
    background: Tensor,
) -> Raster:
    """Draw Gaussians; see `models.gaussians.rasterize.rasterize`."""
    scene = (means, quats, scales, opacities, features)

    def draw_one(view: Tensor, camera: Tensor, center_offsets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return _Rasterize.apply(*scene, center_offsets, view, camera, width, height, background)

    return over_cameras(draw_one, scene, world_to_camera, intrinsics)
