"""Head motion by itself: what is left of poses when the mean pose is taken out, and how to give it to another head."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

Array = np.ndarray

JAW_M = np.array([[0.06, -0.09, 0.0], [-0.06, -0.09, 0.0], [0.0, -0.12, 0.05]])
"""Under the ears and the chin, head frame: where a head meets its neck."""


def mean_pose(poses: Array) -> Array:
    """Return the mean `[4, 4]` of poses `[T, 4, 4]`: the rotation nearest to all of them, and the mean translation."""
    left, _, right = np.linalg.svd(poses[:, :3, :3].mean(0, dtype=np.float64))
    result = np.eye(4)
    result[:3, :3] = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    result[:3, 3] = poses[:, :3, 3].mean(0, dtype=np.float64)
    return result


def transfer(source: Array, own: Array) -> Array:
    """Move one head about its mean pose as another one moves about its own.

    The turn is taken as the camera sees it, so that two head models need not agree on their axes. Steps sideways are
    taken in metres. Steps in depth are taken as a share of the depth, which is known only up to a factor, as the focal
    length of footage is not.

    Args:
        source: poses `[n, 4, 4]` of the head that is followed.
        own: poses `[T, 4, 4]` of the head that follows.

    Returns:
        Its poses `[n, 4, 4]`, float32.
    """
    middle, mine = mean_pose(source), mean_pose(own)
    result = np.tile(mine, (len(source), 1, 1))
    result[:, :3, :3] = source[:, :3, :3] @ middle[:3, :3].T @ mine[:3, :3]
    result[:, :2, 3] += source[:, :2, 3] - middle[:2, 3]
    result[:, 2, 3] *= source[:, 2, 3] / middle[2, 3]
    return result.astype(np.float32)


def jaw_pixels(poses: Array, intrinsics: Array) -> Array:
    """Return where the jaw `JAW_M` is seen in every pose, `[T, 3, 2]` pixels."""
    seen = JAW_M @ poses[:, :3, :3].astype(np.float64).transpose(0, 2, 1) + poses[:, None, :3, 3]
    return (seen / seen[..., 2:] @ intrinsics.T.astype(np.float64))[..., :2]


def least_turns(poses: Array, own: Array) -> Array:
    """Return by how many degrees each of `poses` `[n, 4, 4]` is turned or tilted against the nearest of `own`."""
    rotations = [some[:, :3, :3].reshape(-1, 9).astype(np.float64) for some in (own, poses)]
    chord, _ = cKDTree(rotations[0]).query(rotations[1])  # of two rotations that differ by an angle: sqrt(8) sin(half)
    return np.degrees(2 * np.arcsin(np.minimum(chord / 8**0.5, 1)))
