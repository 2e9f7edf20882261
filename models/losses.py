"""Losses of head training: images, coverage, motion and landmarks. All are scalars to be minimised."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from models.errors import InputError
from models.replay import Replay
from models.ssim import ssim

Distance = Callable[[Tensor, Tensor], Tensor]
"""How unlike pictures `[B, 3, H, W]` in -1..1 look: `[B]`."""
LEAST_PX = 31
"""AlexNet sees nothing in a smaller picture."""


def photometric(image: Tensor, target: Tensor, structure: float = 0.2) -> Tensor:
    """L1 plus `structure` times (1 - SSIM), the image loss of 3D Gaussian Splatting and TalkingGaussian.

    Args:
        image: `[H, W, 3]` in 0..1.
        target: same shape, a constant.
        structure: weight of the second term.
    """
    return _photometric(image, target, structure)


@Replay
def _photometric(image: Tensor, target: Tensor, structure: float) -> Tensor:
    return (image - target).abs().mean() + structure * (1 - ssim(image, target))


def coverage(alpha: Tensor, inside: Tensor) -> Tensor:
    """Ask for an opaque render inside a mask and an empty one outside.

    Args:
        alpha: `[H, W]` of the render.
        inside: `[H, W]` 1 where the layer is seen, 0 elsewhere.
    """
    return ((1 - alpha) * inside).mean() + (alpha * (1 - inside)).mean()


def box_l1(image: Tensor, target: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """L1 inside the box (left, top, right, bottom) in pixels, clipped to the image."""
    left, top, right, bottom = box
    rows, columns = slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right))
    difference = (image[rows, columns] - target[rows, columns]).abs()
    return difference.mean() if difference.numel() else image.sum() * 0


def box_distance(
    image: Tensor, target: Tensor, box: tuple[int, int, int, int], distance: Distance, small_crops: bool = False
) -> Tensor:
    """Return the perceptual distance inside the box (left, top, right, bottom) in pixels, clipped to the image.

    Args:
        image: `[H, W, 3]` in 0..1.
        target: same shape, a constant.
        box: may leave the image.
        distance: measures it.
        small_crops: a box that is too small for the network is an error instead of being enlarged.

    Raises:
        InputError: the box is too small.
    """
    left, top, right, bottom = box
    rows, columns = slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right))
    part = image[rows, columns]
    if not part.numel():
        return image.sum() * 0
    if small_crops and min(part.shape[:2]) < LEAST_PX:
        raise InputError(
            f"a lips' box of {part.shape[1]} x {part.shape[0]} pixels is too small for LPIPS",
            f"its network sees nothing below {LEAST_PX} pixels; the released code stops here, too",
            "set small_crops: false in that phase: the box is enlarged then",
        )
    return distance(_pictures(part[None]), _pictures(target[rows, columns][None])).mean()


def patch_distance(image: Tensor, target: Tensor, side: int, distance: Distance) -> Tensor:
    """Return the mean perceptual distance of patches that lie side by side from the top left; the rest is left out.

    Args:
        image: `[H, W, 3]` in 0..1.
        target: same shape, a constant.
        side: of a patch, pixels; at most that of the image.
        distance: measures it.
    """
    side = min(side, *image.shape[:2])
    return distance(_pictures(_patches(image, side)), _pictures(_patches(target, side))).mean()


def _patches(image: Tensor, side: int) -> Tensor:
    rows, columns = (length // side for length in image.shape[:2])
    whole = image[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
    return whole.transpose(1, 2).reshape(-1, side, side, 3)


def _pictures(images: Tensor) -> Tensor:
    """Bring `[B, H, W, 3]` in 0..1 to `[B, 3, H, W]` in -1..1, large enough for the network."""
    pictures = images.permute(0, 3, 1, 2) * 2 - 1
    height, width = pictures.shape[2:]
    factor = LEAST_PX / min(height, width)
    if factor <= 1:
        return pictures
    size = [max(LEAST_PX, round(length * factor)) for length in (height, width)]
    return interpolate(pictures, size, mode="bilinear", align_corners=False)


def robust_distance(points: Tensor, targets: Tensor, weights: Tensor, softening: float = 0.1) -> Tensor:
    """Weighted mean distance of 2D points, smooth at zero (Charbonnier).

    Args:
        points: `[B, L, 2]` pixels.
        targets: `[B, L, 2]` pixels; anything where absent, even NaN.
        weights: `[B, L]`, 0 where a target is absent.
        softening: pixels.
    """
    targets = _present(targets, weights)
    distance = ((points - targets).square().sum(-1) + softening**2).sqrt()
    return (distance * weights).mean()


def centred_distance(points: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return `robust_distance` after each set's (weighted) mean is taken out: the shape, not the place."""
    share = (weights / weights.sum(1, keepdim=True).clamp(min=1e-6))[..., None]
    targets = _present(targets, weights)
    points = points - (points * share).sum(1, keepdim=True)
    targets = targets - (targets * share).sum(1, keepdim=True)
    return robust_distance(points, targets, weights)


def _present(targets: Tensor, weights: Tensor) -> Tensor:
    """Return targets `[B, L, 2]`, 0 where their weight `[B, L]` is: no weight makes a NaN vanish."""
    return torch.where((weights != 0)[..., None], targets, 0)


def project(points: Tensor, world_to_camera: Tensor, intrinsics: Tensor) -> Tensor:
    """Project `[B, L, 3]` points with `[B, 4, 4]` poses and `[3, 3]` intrinsics to `[B, L, 2]` pixels."""
    camera = torch.einsum("bij,blj->bli", world_to_camera[:, :3, :3], points) + world_to_camera[:, None, :3, 3]
    focal = torch.stack([intrinsics[0, 0], intrinsics[1, 1]])
    return camera[..., :2] / camera[..., 2:] * focal + intrinsics[:2, 2]
