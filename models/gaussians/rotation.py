"""Quaternions (wxyz, any length) in torch: what turns Gaussians."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rotate(quats: Tensor, vectors: Tensor) -> Tensor:
    """Turn `vectors` `[..., 3]` by `quats` `[..., 4]`."""
    quats = F.normalize(quats, dim=-1)
    real, imaginary = quats[..., :1], quats[..., 1:].expand_as(vectors)
    twice = 2 * torch.linalg.cross(imaginary, vectors)
    return vectors + real * twice + torch.linalg.cross(imaginary, twice)


def multiply(first: Tensor, second: Tensor) -> Tensor:
    """Return the rotation that turns by `second`, then by `first`: `[..., 4]`."""
    real, other = first[..., :1], second[..., :1]
    imaginary, others = first[..., 1:].expand_as(second[..., 1:]), second[..., 1:]
    return torch.cat(
        [
            real * other - (imaginary * others).sum(-1, keepdim=True),
            real * others + other * imaginary + torch.linalg.cross(imaginary, others),
        ],
        -1,
    )
