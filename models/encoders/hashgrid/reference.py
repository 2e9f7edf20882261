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
    """`HashGrid.layout` as tensors `[L]`, so that no step copies them to the device."""

    scale: Tensor
    stride: Tensor
    rows: Tensor
    offset: Tensor
    hashed: Tensor


@lru_cache(maxsize=32)
def _levels(grid: HashGrid, dtype: torch.dtype, device: torch.device) -> _Levels:
    def column(name: str, kind: torch.dtype) -> Tensor:
        return torch.tensor([getattr(level, name) for level in grid.layout], dtype=kind, device=device)

    return _Levels(
        scale=column("scale", dtype),
        stride=column("stride", torch.long),
        rows=column("rows", torch.long),
        offset=column("offset", torch.long),
        hashed=column("hashed", torch.bool),
    )


def encode(points: Tensor, table: Tensor, grid: HashGrid) -> Tensor:
    """Encode `[N, 3]` points; see `models.encoders.hashgrid.encode`."""
    unit = points * (0.5 / grid.bound) + 0.5
    pairs = torch.stack([unit[:, axes] for axes in PLANES], 1)
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
    corner = position.detach().floor().long()
    (x, y), (fx, fy) = corner.unbind(-1), (position - corner)[..., None].unbind(-2)
    first_row = torch.arange(len(table), device=table.device)[:, None] * table.shape[1]

    def look_up(x: Tensor, y: Tensor) -> Tensor:
        """Return what the lattice points (x, y) hold, `[N, P, L, F]`."""
        row = torch.where(levels.hashed, x ^ (y * HASH_PRIME), x + y * levels.stride) % levels.rows + levels.offset
        return table.flatten(0, 1).index_select(0, (row + first_row).flatten()).view(*row.shape, grid.features)

    near = (1 - fx) * look_up(x, y) + fx * look_up(x + 1, y)
    far = (1 - fx) * look_up(x, y + 1) + fx * look_up(x + 1, y + 1)
    return ((1 - fy) * near + fy * far).flatten(2)
