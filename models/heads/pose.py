"""First guesses of head poses, and poses for frames in which no face was seen."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

Array = np.ndarray


def weak_perspective(shape: Array, points: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Find the pose of each frame under scaled orthography.

    As in DeMenthon and Davis, "Model-based object pose in 25 lines of code", IJCV 1995, first iteration.

    Args:
        shape: `[L, 3]` landmarks about the pivot, head frame.
        points: `[T, L, 2]` normalised image points.
        weight: `[T, L]`, 0 where a point is absent.

    Returns:
        `rotation [T, 3, 3]` (head to camera), `ray [T, 2]` and `log_depth [T]` of the pivot. Frames without points
        get the identity and must be filled by `fill_gaps`.
    """
    design = np.concatenate([shape, np.ones((len(shape), 1))], 1)  # [L, 4]
    normal = np.einsum("tl,li,lj->tij", weight, design, design)
    right = np.einsum("tl,li,tlc->tic", weight, design, points)
    empty = weight.sum(1) == 0
    normal[empty] = np.eye(4)
    affine = np.linalg.solve(normal + 1e-9 * np.eye(4) * np.trace(normal, axis1=1, axis2=2)[:, None, None], right)
    row_x, row_y, ray = affine[:, :3, 0], affine[:, :3, 1], affine[:, 3]
    scale = (np.linalg.norm(row_x, axis=1) + np.linalg.norm(row_y, axis=1)) / 2
    scale[empty] = 1.0
    third = np.cross(row_x, row_y) / scale[:, None]
    frame = np.stack([row_x, row_y, third], 1) / scale[:, None, None]
    frame[empty] = np.eye(3)
    left, _, right_vectors = np.linalg.svd(frame)
    return left @ right_vectors, ray, -np.log(scale)  # the third row makes it a rotation, never a reflection


def fill_gaps(
    rotation: Array, ray: Array, log_depth: Array, seen: Array, shots: list[tuple[int, int]]
) -> tuple[Array, Array, Array]:
    """Give frames without a face a pose between those of their neighbours in the same shot.

    A shot without any face takes the pose of the nearest face in time.

    Args:
        rotation: `[T, 3, 3]`.
        ray: `[T, 2]`.
        log_depth: `[T]`.
        seen: `[T]` frames whose pose is known; at least one.
        shots: `(first, one past the last)` of each shot.

    Returns:
        New arrays with all frames filled.
    """
    rotation, ray, log_depth = rotation.copy(), ray.copy(), log_depth.copy()
    everywhere = np.flatnonzero(seen)
    for first, end in shots:
        known = everywhere[(everywhere >= first) & (everywhere < end)]
        if len(known) == end - first:
            continue
        if len(known) == 0:
            middle = (first + end) / 2
            known = everywhere[np.abs(everywhere - middle).argmin()][None]
        frames = np.arange(first, end)
        at = np.clip(frames, known[0], known[-1])
        if len(known) > 1:
            turned = Slerp(known, Rotation.from_matrix(rotation[known]))(at).as_matrix()
        else:
            turned = np.repeat(rotation[known], len(frames), 0)
        ray[frames] = np.stack([np.interp(at, known, ray[known, k]) for k in range(2)], 1)
        log_depth[frames] = np.interp(at, known, log_depth[known])
        rotation[frames] = turned
    return rotation, ray, log_depth
