"""The tri-plane grid encoder in plain torch: any device, float64-capable, the specification of the other backends."""

from __future__ import annotations

import torch
from torch import Tensor

from models.encoders.hashgrid import HASH_PRIME, PLANES, HashGrid, Level


def _rows(x: Tensor, y: Tensor, level: Level) -> Tensor:
    """Rows of a plane's table that hold the lattice points (x, y)."""
    index = (x ^ (y * HASH_PRIME)) if level.hashed else x + y * level.stride
    return level.offset + index % level.rows


def _interpolate(unit: Tensor, table: Tensor, level: Level) -> Tensor:
    """Bilinear look-up of `[N, 2]` positions in 0..1 in one level of one plane's `[rows, F]` table; `[N, F]`."""
    position = unit * level.scale + 0.5
    corner = position.detach().floor().long()
    fraction = position - corner
    (x, y), (fx, fy) = corner.unbind(1), fraction.unsqueeze(2).unbind(1)
    near = (1 - fx) * table[_rows(x, y, level)] + fx * table[_rows(x + 1, y, level)]
    far = (1 - fx) * table[_rows(x, y + 1, level)] + fx * table[_rows(x + 1, y + 1, level)]
    return (1 - fy) * near + fy * far


def encode(points: Tensor, table: Tensor, grid: HashGrid) -> Tensor:
    """Encode `[N, 3]` points; see `models.encoders.hashgrid.encode`."""
    unit = points * (0.5 / grid.bound) + 0.5
    outputs = []
    for axes, plane_table in zip(PLANES, table, strict=True):
        coordinates = unit[:, axes]
        inside = ((coordinates >= 0) & (coordinates <= 1)).all(1, keepdim=True)
        # A select before the look-up: indices stay valid and no gradient flows outside.
        coordinates = torch.where(inside, coordinates, torch.zeros_like(coordinates))
        outputs += [_interpolate(coordinates, plane_table, level) * inside for level in grid.layout]
    return torch.cat(outputs, 1)
