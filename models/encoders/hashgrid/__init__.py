"""Tri-plane grid encoder: three 2D multi-resolution grids over the planes xy, yz and xz.

A point's three projections are looked up bilinearly in every level of their plane's grid (Müller et al., Instant-NGP,
2022; planes as in ER-NeRF, 2023). Backends: `reference` (plain torch, the specification), `cpu` (Numba, float32) and
`tcnn` (tiny-cuda-nn on CUDA).

Two layouts of a table exist and a table made for one is nonsense in the other. In both, level l has the scale
s = base * growth^l - 1, a point at u in 0..1 samples at u s + 0.5 and the resolution is r = ceil(s) + 1; no step rounds
s itself. They differ in the rows that a dense level stores:

* `torch_ngp` (the layout of TalkingGaussian and ER-NeRF): (r + 1)^2 rows with stride r + 1. Every lattice point that a
  sample can touch has its own row. s is computed in float64.
* `tcnn` (tiny-cuda-nn): r^2 rows with stride r, indices modulo the rows: where the last lattice line is touched (u
  within half a cell of 1), it shares rows with the first. s is computed in float32.

Levels whose rows would exceed the table are hashed by the same function in both.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

PLANES = ((0, 1), (1, 2), (0, 2))
"""Axes of the planes xy, yz, xz: the first runs along rows of the table."""

HASH_PRIME = 2654435761
"""Rows of a hashed level: (x XOR y * prime) modulo the table size."""

Backend = Literal["auto", "reference", "cpu", "tcnn"]


class Level(NamedTuple):
    """One level of one plane's grid."""

    scale: float
    """Cells across the unit interval."""
    stride: int
    """Rows from one lattice line to the next; unused if hashed."""
    offset: int
    """First row within the plane's table."""
    rows: int
    hashed: bool


@dataclass(frozen=True)
class HashGrid:
    """Shape of a tri-plane grid; holds no weights.

    Attributes:
        levels: of each plane.
        features: numbers stored per row.
        base_resolution: lattice points across the coarsest level.
        finest_resolution: across the last level; need not be whole, may be below the base (levels then get coarser).
        log2_table_size: a level with more rows than 2 to this is hashed into that many.
        bound: half the side of the cube covered, metres; points are encoded relative to [-bound, bound] on each axis.
        convention: layout of the table, see the module.
    """

    levels: int = 12
    features: int = 1
    base_resolution: int = 16
    finest_resolution: float = 256.0
    log2_table_size: int = 17
    bound: float = 0.15
    convention: Literal["torch_ngp", "tcnn"] = "torch_ngp"

    def __post_init__(self) -> None:
        if self.levels < 1 or self.features < 1:
            raise ValueError(f"a grid needs levels and features, not {self.levels} and {self.features}")
        if self.base_resolution < 2 or self.finest_resolution < 2:
            raise ValueError("a grid level needs a resolution of at least 2")
        if not 3 <= self.log2_table_size <= 28:
            raise ValueError(f"log2_table_size is {self.log2_table_size}, expected 3 to 28")
        if not 0 < self.bound < math.inf:
            raise ValueError(f"bound is {self.bound} m, expected a positive length")
        if self.convention not in ("torch_ngp", "tcnn"):
            raise ValueError(f"unknown grid convention {self.convention!r}; choose torch_ngp or tcnn")

    @property
    def growth(self) -> float:
        """Factor from one level's resolution to the next."""
        return (self.finest_resolution / self.base_resolution) ** (1 / max(self.levels - 1, 1))

    @cached_property
    def layout(self) -> tuple[Level, ...]:
        """Every level of a plane, coarsest first."""
        layout, offset = [], 0
        for level in range(self.levels):
            if self.convention == "tcnn":
                exponent = np.float32(level) * np.log2(np.float32(self.growth))
                scale = float(np.exp2(exponent, dtype=np.float32) * np.float32(self.base_resolution) - np.float32(1))
                resolution = math.ceil(scale) + 1
            else:
                scale = self.base_resolution * self.growth**level - 1
                # 255.0000000001 from a rounded power is 255: no extra lattice line for rounding noise.
                resolution = math.ceil(scale - 1e-6) + 1
            stride = resolution + (self.convention == "torch_ngp")
            capacity = 1 << self.log2_table_size
            rows = min(-(-stride * stride // 8) * 8, capacity)
            layout.append(Level(scale, stride, offset, rows, stride * stride > rows))
            offset += rows
        return tuple(layout)

    @property
    def table_shape(self) -> tuple[int, int, int]:
        """Shape of the weights: planes, rows of all levels, features."""
        return len(PLANES), self.layout[-1].offset + self.layout[-1].rows, self.features

    @property
    def output_size(self) -> int:
        """Numbers per encoded point: plane by plane, level by level, feature by feature."""
        return len(PLANES) * self.levels * self.features

    def new_table(self, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw initial weights, uniform in +-1e-4 as in Instant-NGP.

        Args:
            generator: source of randomness.
            dtype: of the table.

        Returns:
            Table of `table_shape`.
        """
        return (torch.rand(self.table_shape, generator=generator, dtype=dtype) * 2 - 1) * 1e-4


def choose_backend(points: Tensor, grid: HashGrid, backend: Backend = "auto") -> Literal["reference", "cpu", "tcnn"]:
    """Name the backend that `encode` will use.

    Args:
        points: to encode; device and type decide for `auto`.
        grid: its convention decides whether tiny-cuda-nn can draw on it.
        backend: `auto` takes `cpu` for float32 on the CPU; `tcnn` for float32 on CUDA if the package is installed and
            the grid is laid out for it; else `reference`.

    Returns:
        The name of the backend.

    Raises:
        ValueError: for an unknown name, or a backend that cannot take this type or device.
    """
    if backend == "auto":
        if points.dtype != torch.float32:
            return "reference"
        if points.device.type == "cuda" and grid.convention == "tcnn" and importlib.util.find_spec("tinycudann"):
            return "tcnn"
        return "cpu" if points.device.type == "cpu" else "reference"
    if backend not in ("reference", "cpu", "tcnn"):
        raise ValueError(f"unknown grid encoder {backend!r}; choose auto, reference, cpu or tcnn")
    device = {"cpu": "cpu", "tcnn": "cuda"}.get(backend)
    if device is not None and (points.dtype != torch.float32 or points.device.type != device):
        raise ValueError(
            f"the {backend} grid encoder takes float32 tensors on {device}, not {points.dtype} on {points.device.type}"
        )
    return backend


def encode(points: Tensor, table: Tensor, grid: HashGrid, backend: Backend = "auto") -> Tensor:
    """Look points up in a tri-plane grid. Gradients reach the points and the table.

    Args:
        points: `[N, 3]` metres. Where a point lies outside `[-bound, bound]` in either axis of a plane, that plane's
            outputs are 0 and so are their gradients; the same holds for NaN.
        table: weights, of the grid's `table_shape`.
        grid: the shape of the grid.
        backend: see `choose_backend`.

    Returns:
        `[N, 3 * levels * features]`.

    Raises:
        ValueError: for shapes or types that do not fit, or a backend that cannot take them.
        MachineError: when tiny-cuda-nn is asked for and is not usable here.
    """
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points has shape {list(points.shape)}, expected [N, 3]")
    if tuple(table.shape) != grid.table_shape:
        raise ValueError(f"table has shape {list(table.shape)}, but this grid needs {list(grid.table_shape)}")
    if table.dtype != points.dtype or table.device != points.device:
        raise ValueError(
            f"table is {table.dtype} on {table.device}, points are {points.dtype} on {points.device}: they must agree"
        )
    name = choose_backend(points, grid, backend)
    if name == "cpu":
        from models.encoders.hashgrid import cpu as implementation
    elif name == "tcnn":
        from models.encoders.hashgrid import tcnn as implementation
    else:
        from models.encoders.hashgrid import reference as implementation
    return implementation.encode(points, table, grid)
