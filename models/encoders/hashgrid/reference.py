"""The tri-plane grid encoder in plain torch: any device, float64-capable, the specification of the other backends.

All planes and levels are looked up together: on a GPU, 36 look-ups one by one cost 30 times as much as one of 36.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from models.encoders.hashgrid import HASH_PRIME, PLANES, HashGrid


class _Levels(NamedTuple):
    """`HashGrid.layout` as tensors, so that no step copies them to the device."""

    scale: Tensor
    """`[L]`, the others `[L, 1]`."""
    stride: Tensor
    rows: Tensor
    offset: Tensor
    hashed: Tensor
    corners: Tensor
    """`[4, 2]` of a cell."""
    axes: Tensor
    """`[6]` of the planes, two each."""


@lru_cache(maxsize=32)
def _levels(grid: HashGrid, dtype: torch.dtype, device: torch.device) -> _Levels:
    def column(name: str, kind: torch.dtype) -> Tensor:
        return torch.tensor([[getattr(level, name)] for level in grid.layout], dtype=kind, device=device)

    with torch.inference_mode(False):  # they may be first asked for while nothing is learnt, and then in training
        return _Levels(
            scale=column("scale", dtype)[:, 0],
            stride=column("stride", torch.long),
            rows=column("rows", torch.long),
            offset=column("offset", torch.long),
            hashed=column("hashed", torch.bool),
            corners=torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1]], device=device),
            axes=torch.tensor(PLANES, device=device).flatten(),
        )


def encode(points: Tensor, table: Tensor, grid: HashGrid) -> Tensor:
    """Encode `[N, 3]` points; see `models.encoders.hashgrid.encode`."""
    unit = points * (0.5 / grid.bound) + 0.5
    pairs = unit.index_select(1, _levels(grid, points.dtype, points.device).axes).unflatten(1, (-1, 2))  # [N, P, 2]
    inside = ((pairs >= 0) & (pairs <= 1)).all(-1, keepdim=True)
    # A select before the look-up: indices stay valid and no gradient flows outside.
    pairs = torch.where(inside, pairs, torch.zeros_like(pairs))
    return (interpolate(pairs, table, grid) * inside).flatten(1)


def interpolate(pairs: Tensor, table: Tensor, grid: HashGrid) -> Tensor:
    """Bilinear look-up of positions in all levels of some planes.

    Args:
        pairs: `[N, P, 2]` positions in 0..1 in each plane.
        table: `[P, R, F]` their weights.
        grid: the shape of the grid.

    Returns:
        `[N, P, L * F]`.
    """
    levels = _levels(grid, pairs.dtype, pairs.device)
    position = pairs[:, :, None] * levels.scale[:, None] + 0.5  # [N, P, L, 2]
    corner = position.detach().floor()
    fraction = position - corner
    x, y = (corner.long()[..., None, :] + levels.corners).unbind(-1)  # [N, P, L, 4]
    row = torch.where(levels.hashed, x ^ (y * HASH_PRIME), x + y * levels.stride) % levels.rows + levels.offset
    row = row + torch.arange(len(table), device=table.device)[:, None, None] * table.shape[1]
    values = table.flatten(0, 1).index_select(0, row.flatten()).view(*row.shape, grid.features)
    (near, far), (left, right) = (torch.stack([1 - part, part]) for part in fraction.flip(-1).unbind(-1))
    weights = torch.stack([near * left, near * right, far * left, far * right], -1)
    return (weights[..., None] * values).sum(-2).flatten(2)
