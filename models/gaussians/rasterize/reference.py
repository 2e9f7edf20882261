"""The rasteriser in plain torch: slow, differentiable in everything, and the specification of the other backends.

Projection and blending follow Kerbl et al. (2023), eq. 2 to 6, with the constants of gsplat 1.5.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.gaussians.rasterize import Raster
from models.gaussians.rasterize.cameras import over_cameras
from models.gaussians.rasterize.constants import (
    ALPHA_MAX,
    ALPHA_MIN,
    BLUR,
    EXTENT_MAX,
    FRUSTUM_MARGIN,
    NEAR_PLANE,
    SIGMA_MAX,
    TRANSMITTANCE_MIN,
)

# Only memory and speed depend on it: every tile blends all Gaussians whose box touches it.
TILE = 16


class _Projected(NamedTuple):
    centers: Tensor  # [N, 2] pixels
    conics: Tensor  # [N, 3] upper triangle of the inverse covariance, 1 / square pixels
    depths: Tensor  # [N] metres
    extents: Tensor  # [N, 2] half width and half height of the box drawn, pixels
    drawn: Tensor  # [N] bool


def rotation_matrices(quats: Tensor) -> Tensor:
    """Turn wxyz quaternions of any length into rotation matrices.

    Args:
        quats: `[..., 4]`; a zero quaternion means no rotation.

    Returns:
        `[..., 3, 3]`.
    """
    w, x, y, z = F.normalize(quats, dim=-1).unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def _project(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, view: Tensor, intrinsics: Tensor, size: Tensor
) -> _Projected:
    """Project Gaussians to the image plane (EWA splatting: the perspective map is linearised at the centre)."""
    focal = torch.stack((intrinsics[0, 0], intrinsics[1, 1]))  # [2]
    principal = intrinsics[:2, 2]  # [2]
    points = means @ view[:3, :3].T + view[:3, 3]  # [N, 3] camera frame
    depths = points[:, 2]
    # Where no projection exists, compute with harmless numbers: `drawn` discards the result, and a select after the
    # fact would still pass NaN gradients (0 * inf) back.
    finite = torch.cat((means, quats, scales, opacities[:, None]), 1).isfinite().all(1)
    in_front = finite & (depths >= NEAR_PLANE) & (opacities >= ALPHA_MIN)
    points = torch.where(in_front[:, None], points, points.new_tensor([0.0, 0.0, 1.0]))
    quats = torch.where(in_front[:, None], quats, torch.ones_like(quats))
    scales = torch.where(in_front[:, None], scales, torch.ones_like(scales))
    inverse_depth = 1 / points[:, 2:]  # [N, 1]
    tangents = points[:, :2] * inverse_depth  # [N, 2]
    centers = focal * tangents + principal

    margin = FRUSTUM_MARGIN * 0.5 * size / focal
    clamped = torch.minimum(torch.maximum(tangents, -principal / focal - margin), (size - principal) / focal + margin)
    # Jacobian of the projection [N, 2, 3]: rows (f / z) (e_k - tangent_k e_z).
    eye = torch.eye(3, dtype=means.dtype, device=means.device)
    jacobian = (focal * inverse_depth)[..., None] * (eye[:2] - clamped[..., None] * eye[2])
    factor = jacobian @ view[:3, :3] @ rotation_matrices(quats) * scales[:, None, :]  # [N, 2, 3] pixels
    in_front = in_front & (factor.detach().abs() < SIGMA_MAX).flatten(1).all(1)
    factor = torch.where(in_front[:, None, None], factor, torch.zeros_like(factor))
    covariance = factor @ factor.mT
    var_x, var_y = covariance[:, 0, 0] + BLUR, covariance[:, 1, 1] + BLUR
    cov_xy = covariance[:, 0, 1]
    determinant = var_x * var_y - cov_xy * cov_xy
    drawn = in_front & (determinant > 0)
    determinant = torch.where(drawn, determinant, torch.ones_like(determinant))
    conics = torch.stack((var_y, -cov_xy, var_x), -1) / determinant[:, None]

    # Half the box outside which alpha is below ALPHA_MIN.
    reach = (2 * (opacities.clamp(ALPHA_MIN, 1) / ALPHA_MIN).log()).sqrt().clamp(max=EXTENT_MAX).detach()
    extents = reach[:, None] * torch.stack((var_x, var_y), -1).detach().sqrt()
    # Drawn only if the box holds a pixel centre.
    first = (centers.detach() - extents - 0.5).ceil().clamp(min=0)
    last = torch.minimum((centers.detach() + extents - 0.5).floor(), size - 1)
    return _Projected(centers, conics, points[:, 2], extents, drawn & (first <= last).all(-1))


def _blend(pixels: Tensor, centers: Tensor, conics: Tensor, opacities: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Blend depth-sorted Gaussians front to back.

    Args:
        pixels: `[P, 2]` pixel centres.
        centers: `[n, 2]`, nearest first.
        conics: `[n, 3]`.
        opacities: `[n]`.
        values: `[n, K]`.

    Returns:
        Blended values `[P, K]` and transmittance left `[P]`.
    """
    dx, dy = (centers[:, None] - pixels[None]).unbind(-1)  # [n, P]
    a, b, c = conics[:, :, None].unbind(1)
    exponent = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (opacities[:, None] * torch.exp(-exponent)).clamp(max=ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, 0)  # [n, P], never increasing
    before = torch.cat((torch.ones_like(after[:1]), after[:-1]))
    weights = alpha * before * (after > TRANSMITTANCE_MIN)
    return weights.T @ values, 1 - weights.sum(0)


def _rasterize_one(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    features: Tensor,
    view: Tensor,
    intrinsics: Tensor,
    width: int,
    height: int,
    background: Tensor,
    center_offsets: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    size = means.new_tensor([width, height])
    projected = _project(means, quats, scales, opacities, view, intrinsics, size)
    centers = projected.centers + center_offsets
    order = torch.argsort(projected.depths.detach(), stable=True)
    order = order[projected.drawn[order]]
    low, high = (projected.centers - projected.extents).detach(), (projected.centers + projected.extents).detach()
    values = torch.cat((features, projected.depths[:, None]), 1)  # [N, C + 1]

    bands = []
    for top in range(0, height, TILE):
        row = []
        bottom = min(top + TILE, height)
        in_band = order[(high[order, 1] >= top) & (low[order, 1] <= bottom)]
        for left in range(0, width, TILE):
            right = min(left + TILE, width)
            ids = in_band[(high[in_band, 0] >= left) & (low[in_band, 0] <= right)]
            ys = torch.arange(top, bottom, dtype=means.dtype, device=means.device) + 0.5
            xs = torch.arange(left, right, dtype=means.dtype, device=means.device) + 0.5
            pixels = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1).reshape(-1, 2)
            blended, transmittance = _blend(pixels, centers[ids], projected.conics[ids], opacities[ids], values[ids])
            flat = torch.cat((blended, transmittance[:, None]), 1)
            row.append(flat.reshape(bottom - top, right - left, -1))
        bands.append(torch.cat(row, 1))
    canvas = torch.cat(bands)  # [H, W, C + 2]
    transmittance = canvas[..., -1]
    image = canvas[..., :-2] + transmittance[..., None] * background
    radii = torch.where(projected.drawn, projected.extents.amax(-1).ceil(), torch.zeros_like(projected.depths))
    return image, 1 - transmittance, canvas[..., -2], radii.to(torch.int32), projected.centers.detach()


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
    """Draw Gaussians; see `models.gaussians.rasterize.rasterize`. Every input is differentiable here."""
    scene = (means, quats, scales, opacities, features)

    def draw_one(view: Tensor, camera: Tensor, center_offsets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return _rasterize_one(*scene, view, camera, width, height, background, center_offsets)

    return over_cameras(draw_one, scene, world_to_camera, intrinsics)
