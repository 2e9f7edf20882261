"""What was found against what is known, where a speaker was computed and everything about it is known.

Two head models have their own origins, axes and sizes, and the focal length of footage is unknown. So a constant
rotation between the two head frames, one point for the origin and one factor on the depth are found first and taken
out; what is left is the error that moves a rendered head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.heads.embedding import similarity

Array = np.ndarray


@dataclass(frozen=True)
class PoseErrors:
    """Errors of tracked poses, one a frame, after taking out what is constant."""

    rotation_deg: Array  # [T]
    sideways_mm: Array  # [T] across the line of sight, of the point that is followed
    depth_mm: Array  # [T] along it, after one factor for the whole clip
    constant_rotation_deg: float  # between the two head frames
    depth_factor: float  # found over true


def pose_errors(found: Array, true: Array, found_intrinsics: Array, true_intrinsics: Array, point: Array) -> PoseErrors:
    """Compare poses of two head models of the same head.

    Args:
        found: `[T, 4, 4]` world to camera.
        true: `[T, 4, 4]`.
        found_intrinsics: `[3, 3]`, for pictures of the same size as the true ones.
        true_intrinsics: `[3, 3]`.
        point: `[3]` m, a point of the found head, for example the bridge of the nose.
    """
    found, true = found.astype(np.float64), true.astype(np.float64)
    between = np.einsum("tji,tjk->ik", true[:, :3, :3], found[:, :3, :3])
    left, _, right = np.linalg.svd(between)
    constant = left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right
    rest = np.einsum("tij,jk,tlk->til", true[:, :3, :3], constant, found[:, :3, :3])
    rotation = _angle(rest)

    focal, centre = found_intrinsics[[0, 1], [0, 1]], found_intrinsics[:2, 2]
    seen = found[:, :3, :3] @ point + found[:, :3, 3]
    image = seen[:, :2] / seen[:, 2:] * focal + centre
    origin = _same_point(image, true, true_intrinsics)
    camera = true[:, :3, :3] @ origin + true[:, :3, 3]
    expected = camera[:, :2] / camera[:, 2:] * true_intrinsics[[0, 1], [0, 1]] + true_intrinsics[:2, 2]
    sideways = np.linalg.norm(image - expected, axis=1) * camera[:, 2] / true_intrinsics[0, 0]
    ratio = seen[:, 2] / camera[:, 2]
    factor = float(np.median(ratio))
    depth = np.abs(ratio / factor - 1) * camera[:, 2]
    return PoseErrors(rotation, 1e3 * sideways, 1e3 * depth, float(_angle(constant[None])[0]), factor)


def _angle(rotations: Array) -> Array:
    """Return the angles `[T]` of rotations `[T, 3, 3]` in degrees."""
    cosine = (np.trace(rotations, axis1=1, axis2=2) - 1) / 2
    skew = rotations - rotations.transpose(0, 2, 1)
    sine = np.sqrt(skew[:, 0, 1] ** 2 + skew[:, 0, 2] ** 2 + skew[:, 1, 2] ** 2) / 2
    # atan2 stays exact for the small angles that matter here.
    return np.degrees(np.arctan2(sine, cosine))


def _same_point(image: Array, poses: Array, intrinsics: Array) -> Array:
    """Return the point `[3]` of the head whose projections come nearest to `image` `[T, 2]` (linear triangulation)."""
    ray = (image - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]]
    rows = poses[:, :2, :3] - ray[..., None] * poses[:, 2:3, :3]
    right = ray * poses[:, 2:3, 3] - poses[:, :2, 3]
    matrix, vector = rows.reshape(-1, 3), right.reshape(-1)
    # Little turning leaves the depth of the point open; a small ridge holds it near the head's middle.
    ridge = 1e-6 * len(matrix)
    return np.linalg.solve(matrix.T @ matrix + ridge * np.eye(3), matrix.T @ vector)


def shape_error_mm(found: Array, true: Array) -> Array:
    """Return the distances `[F, L]` in mm of landmarks after one similarity for all frames.

    Args:
        found: `[F, L, 3]` m, in the found head's frame, expression included.
        true: `[F, L, 3]` m, in the true head's frame; NaN where there is none.
    """
    known = np.isfinite(true).all(axis=2)
    scale, rotation, shift = similarity(found[known], true[known])
    distance = np.linalg.norm(scale * found @ rotation.T + shift - true, axis=2)
    return 1e3 * np.where(known, distance, np.nan)


def correlation(found: Array, true: Array) -> float:
    """Return Pearson's r of two curves `[T]`; NaN when one of them does not move."""
    if np.std(found) < 1e-6 or np.std(true) < 1e-6:
        return float("nan")
    return float(np.corrcoef(found, true)[0, 1])


def best_lag(leader: Array, follower: Array, reach: int) -> tuple[int, float]:
    """Return by how many frames `follower` comes after `leader`, within +-reach, and their correlation there."""
    best, reach = (0, -2.0), min(reach, len(leader) - 1)
    for lag in range(-reach, reach + 1):
        a = leader[max(0, -lag) : len(leader) - max(0, lag)]
        b = follower[max(0, lag) : len(follower) - max(0, -lag)]
        r = correlation(a, b) if len(a) > 2 else float("nan")
        if r > best[1]:
            best = (lag, r)
    return best if best[1] > -2 else (0, float("nan"))
