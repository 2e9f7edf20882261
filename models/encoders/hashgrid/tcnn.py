"""The tri-plane grid encoder on CUDA: an adapter to tiny-cuda-nn (BSD-3-Clause), imported only when asked for.

tiny-cuda-nn lays its tables out in its own way (see the package's docstring). Only a grid of the convention `tcnn` has
the same meaning there; any other is refused, because it would render wrongly without any error.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from models.encoders.hashgrid import PLANES, HashGrid
from models.errors import MachineError


def _configuration(grid: HashGrid) -> dict[str, Any]:
    """The grid in tiny-cuda-nn's terms; one such encoding per plane."""
    if grid.convention != "tcnn":
        raise ValueError(
            f"this grid is laid out as {grid.convention}, with (r + 1)^2 rows in a dense level of resolution r; "
            "tiny-cuda-nn stores r^2 and would read other weights. Make the grid with convention='tcnn' or use "
            "backend='reference'"
        )
    if grid.features not in (1, 2, 4, 8):
        raise ValueError(f"tiny-cuda-nn stores 1, 2, 4 or 8 features per level, not {grid.features}")
    return {
        "otype": "HashGrid",
        "n_levels": grid.levels,
        "n_features_per_level": grid.features,
        "log2_hashmap_size": grid.log2_table_size,
        "base_resolution": grid.base_resolution,
        "per_level_scale": grid.growth,
        "interpolation": "Linear",
    }


@lru_cache(maxsize=8)
def _encoding(grid: HashGrid) -> torch.nn.Module:
    configuration = _configuration(grid)
    if not torch.cuda.is_available():
        raise MachineError("no CUDA device here", "tiny-cuda-nn needs one, and torch sees none", "compute on the CPU")
    try:
        import tinycudann  # pyright: ignore[reportMissingImports]  # in no registry
    except (ImportError, OSError) as error:  # an OSError where it is built for other GPUs than this one
        raise MachineError(
            "there is no tiny-cuda-nn for this GPU",
            f"it is in no package registry, and what it is built for counts ({error})",
            "build it from https://github.com/NVlabs/tiny-cuda-nn, or use another backend",
        ) from error
    # Without a type it would take half precision, in which small steps of training are lost.
    encoding = tinycudann.Encoding(n_input_dims=2, encoding_config=configuration, dtype=torch.float32)
    _, rows, features = grid.table_shape
    if encoding.params.numel() != rows * features:
        raise MachineError(
            f"tiny-cuda-nn stores {encoding.params.numel()} weights per plane for this grid, not {rows * features}",
            "its layout differs from the one this adapter was written for",
            "use another backend",
        )
    return encoding


def encode(points: Tensor, table: Tensor, grid: HashGrid) -> Tensor:
    """Encode `[N, 3]` points; see `models.encoders.hashgrid.encode`."""
    encoding = _encoding(grid)
    unit = points * (0.5 / grid.bound) + 0.5
    outputs = []
    for axes, plane_table in zip(PLANES, table, strict=True):
        coordinates = unit[:, axes]
        inside = ((coordinates >= 0) & (coordinates <= 1)).all(1, keepdim=True)
        coordinates = torch.where(inside, coordinates, torch.zeros_like(coordinates))
        # The encoding's own weights are put aside for this plane's.
        plane = torch.func.functional_call(encoding, {"params": plane_table.reshape(-1)}, (coordinates,))
        outputs.append(plane[:, : grid.levels * grid.features] * inside)
    return torch.cat(outputs, 1)
