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


def matrix_of(vectors: Tensor) -> Tensor:
    """Return the rotation matrices `[..., 3, 3]` of rotation vectors `[..., 3]`, radians; smooth at zero, too."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    rows = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1)
    return torch.matrix_exp(rows.unflatten(-1, (3, 3)))


def quat_of(matrices: Tensor) -> Tensor:
    """Return the unit quaternions `[..., 4]` of rotation matrices `[..., 3, 3]`; their sign means nothing.

    Each of the four numbers can be had from the diagonal, and the others from it; the largest one is stable
    (Shepperd, "Quaternion from rotation matrix", 1978).
    """
    m = matrices
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    fourfold = torch.stack([1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], -1)
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    w, x, y, z = fourfold.unbind(-1)
    candidates = torch.stack([w, wx, wy, wz, wx, x, xy, xz, wy, xy, y, yz, wz, xz, yz, z], -1).unflatten(-1, (4, 4))
    largest = fourfold.detach().argmax(-1)[..., None, None].expand(*fourfold.shape[:-1], 1, 4)
    return F.normalize(candidates.gather(-2, largest)[..., 0, :], dim=-1)
