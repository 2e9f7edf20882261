"""The tri-plane grid encoder on the CPU: Numba kernels behind a torch autograd function. float32 only."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.encoders.hashgrid import PLANES, HashGrid, kernels


@lru_cache(maxsize=32)
def _layout_arrays(grid: HashGrid) -> tuple[np.ndarray | np.uint32, ...]:
    """The grid's levels in the order in which the kernels take them."""
    scales, strides, offsets, rows, hashed = zip(*grid.layout, strict=True)
    return (
        np.array(scales, np.float32),
        np.array(strides, np.uint32),
        np.array(offsets, np.int64),
        np.array(rows, np.uint32),
        np.array(hashed, np.bool_),
        np.array(PLANES, np.int64),
        np.uint32(grid.features),
    )


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, table: Tensor, grid: HashGrid) -> Tensor:
        count = len(points)
        unit, inside = np.empty((3, count), np.float32), np.empty((3, count), np.float32)
        kernels.to_unit(points.detach().contiguous().numpy(), np.float32(0.5 / grid.bound), unit, inside)
        encoded = torch.empty(grid.output_size, count)
        weights = table.detach().contiguous().flatten(1)
        kernels.forward(unit, inside, weights.numpy(), encoded.numpy(), *_layout_arrays(grid))
        ctx.save_for_backward(weights)
        ctx.located = (unit, inside)
        ctx.grid = grid
        return encoded.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weights,) = ctx.saved_tensors
        layout = _layout_arrays(ctx.grid)
        upstream = gradient.t().contiguous().numpy()
        unit, inside = ctx.located
        v_points = v_table = None
        if ctx.needs_input_grad[1]:
            v_table = torch.empty_like(weights)
            kernels.backward_table(unit, inside, upstream, v_table.numpy(), *layout)
        if ctx.needs_input_grad[0]:
            v_unit = torch.empty(3, upstream.shape[1])
            kernels.backward_points(unit, inside, weights.numpy(), upstream, v_unit.numpy(), *layout)
            v_points = v_unit.t() * (0.5 / ctx.grid.bound)
        return v_points, v_table if v_table is None else v_table.view(ctx.grid.table_shape), None


def encode(points: Tensor, table: Tensor, grid: HashGrid) -> Tensor:
    """Encode `[N, 3]` points; see `models.encoders.hashgrid.encode`."""
    return _Encode.apply(points, table, grid)
