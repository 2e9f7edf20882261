"""Losses of head training: images, coverage, motion and landmarks. All are scalars to be minimised."""

from __future__ import annotations

import torch
from torch import Tensor

from models.ssim import ssim


def photometric(image: Tensor, target: Tensor, structure: float = 0.2) -> Tensor:
    """L1 plus `structure` times (1 - SSIM), the image loss of 3D Gaussian Splatting and TalkingGaussian.

    Args:
        image: `[H, W, 3]` in 0..1.
        target: same shape, a constant.
        structure: weight of the second term.
    """
    return (image - target).abs().mean() + structure * (1 - ssim(image, target))


def coverage(alpha: Tensor, inside: Tensor, outside: Tensor | None = None) -> Tensor:
    """Ask for an opaque render inside a mask and an empty one outside.

    Args:
        alpha: `[H, W]` of the render.
        inside: `[H, W]` 1 where the layer is seen.
        outside: `[H, W]` 1 where it is not; everything else if not given. Pixels in neither are free.
    """
    outside = 1 - inside if outside is None else outside
    return ((1 - alpha) * inside).mean() + (alpha * outside).mean()


def box_l1(image: Tensor, target: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """L1 inside the box (left, top, right, bottom) in pixels, clipped to the image."""
    left, top, right, bottom = box
    rows, columns = slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right))
    difference = (image[rows, columns] - target[rows, columns]).abs()
    return difference.mean() if difference.numel() else image.sum() * 0


def robust_distance(points: Tensor, targets: Tensor, weights: Tensor, softening: float = 0.1) -> Tensor:
    """Weighted mean distance of 2D points, smooth at zero (Charbonnier).

    Args:
        points: `[B, L, 2]` pixels.
        targets: `[B, L, 2]` pixels.
        weights: `[B, L]`, 0 where a target is absent.
        softening: pixels.
    """
    distance = ((points - targets).square().sum(-1) + softening**2).sqrt()
    return (distance * weights).mean()


def centred_distance(points: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return `robust_distance` after each set's (weighted) mean is taken out: the shape, not the place."""
    share = (weights / weights.sum(1, keepdim=True).clamp(min=1e-6))[..., None]
    points = points - (points * share).sum(1, keepdim=True)
    targets = targets - (targets * share).sum(1, keepdim=True)
    return robust_distance(points, targets, weights)


def project(points: Tensor, world_to_camera: Tensor, intrinsics: Tensor) -> Tensor:
    """Project `[B, L, 3]` points with `[B, 4, 4]` poses and `[3, 3]` intrinsics to `[B, L, 2]` pixels."""
    camera = torch.einsum("bij,blj->bli", world_to_camera[:, :3, :3], points) + world_to_camera[:, None, :3, 3]
    focal = torch.stack([intrinsics[0, 0], intrinsics[1, 1]])
    return camera[..., :2] / camera[..., 2:] * focal + intrinsics[:2, 2]
