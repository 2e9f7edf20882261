"""Move head poses so that a static render of the head falls on the frames.

Poses from landmarks are still about half a pixel off, and a model trained on them blurs by as much. A render of the
rigid upper head says where the pixels want to be: for each frame the small image motion between render and frame
(shift, roll, scale) is found by robust least squares on brightness constancy (Lucas and Kanade, IJCAI 1981) and turned
into a motion of the head. The renderer is passed in, so any model of the head will do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT

Array = np.ndarray
Render = Callable[[int, Array], Array]
FrameAt = Callable[[int], Array]

LEVER_PX = 60.0  # roll and scale are given as the motion of a point this far from the pivot

_BROWS = (70, 105, 334, 300)
_LOWER_LIDS = (145, 374)
_NOSE_BOTTOM = 2


@dataclass(frozen=True)
class RefinementParams:
    """Settings of the refinement.

    Attributes:
        rounds: How often everything is rendered anew.
        steps: Least-squares steps on one render, which is warped in between.
        blur_px: Standard deviation of the blur of both images, which widens the reach of a linear step.
        robust_levels: Difference in grey levels (of 255) at which a pixel's weight has fallen to a quarter.
        limit_px: Largest correction of a round.
        smooth_frames: Standard deviation of the smoothing of corrections in time.
        fewest_pixels: A frame with fewer usable pixels is not measured.
    """

    rounds: int = 2
    steps: int = 3
    blur_px: float = 1.0
    robust_levels: float = 8.0
    limit_px: float = 2.5
    smooth_frames: float = 0.7
    fewest_pixels: int = 200


@dataclass(frozen=True)
class PoseRefinement:
    """Refined poses.

    Attributes:
        world_to_camera: `[T, 4, 4]`.
        correction: `[T, 4]` dx, dy, roll and scale in pixels, the last two at `LEVER_PX` from the pivot.
        round_rms: `[rounds, 4]` root mean square correction of each round; it should fall.
        measured: `[T]` frames that were measured; the others took the correction of their neighbours.
    """

    world_to_camera: Array
    correction: Array
    round_rms: Array
    measured: Array


def refinement_mask(head: Array, points: Array) -> Array:
    """Return the pixels of a frame that move with the skull.

    Args:
        head: `[H, W]` bool mask of the head.
        points: `[478, 2]` landmarks in pixels.

    Returns:
        `[H, W]` bool: the head away from its rim, above the nose's bottom, without eyes and brows.
    """
    height, width = head.shape
    right, left = points[EYE_OUTER_RIGHT], points[EYE_OUTER_LEFT]
    eye_distance = float(np.linalg.norm(right - left))
    if not np.isfinite(points[[*_BROWS, *_LOWER_LIDS, _NOSE_BOTTOM]]).all() or not np.isfinite(eye_distance):
        return np.zeros_like(head)
    rim = max(3, round(eye_distance / 10) | 1)
    kept = cv2.erode(head.astype(np.uint8), np.ones((rim, rim), np.uint8)) > 0
    x, y = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
    kept &= y < points[_NOSE_BOTTOM, 1]
    top = points[list(_BROWS), 1].min() - eye_distance / 18
    bottom = points[list(_LOWER_LIDS), 1].max() + eye_distance / 14
    side = eye_distance / 7
    eyes = (y > top) & (y < bottom) & (x > min(right[0], left[0]) - side) & (x < max(right[0], left[0]) + side)
    return kept & ~eyes


def _grey(image: Array, blur_px: float) -> Array:
    """Return blurred grey levels 0..255, float32, of an `[H, W, 3]` image in uint8 or in float 0..1."""
    scaled = image.astype(np.float32) * (1.0 if image.dtype == np.uint8 else 255.0)
    return cv2.GaussianBlur(cv2.cvtColor(scaled, cv2.COLOR_RGB2GRAY), (0, 0), blur_px)


def _similarity_matrix(motion: Array, pivot_px: Array) -> Array:
    """Return the affine `[2, 3]` matrix, in OpenCV's pixels, that moves image content by `motion` about the pivot."""
    dx, dy, roll, scale = motion
    angle, factor = roll / LEVER_PX, 1 + scale / LEVER_PX
    turn = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pivot = pivot_px - 0.5
    return np.concatenate([turn, (pivot + [dx, dy] - turn @ pivot)[:, None]], 1)


def image_motion(rendered: Array, frame: Array, mask: Array, pivot_px: Array, params: RefinementParams) -> Array | None:
    """Find how the render must move to fall on the frame.

    Args:
        rendered: `[H, W, 3]`, uint8 or float 0..1.
        frame: `[H, W, 3]`, uint8 or float 0..1.
        mask: `[H, W]` bool, pixels to compare.
        pivot_px: `[2]` centre of roll and scale.
        params: Settings.

    Returns:
        `[4]` dx, dy, roll and scale in pixels (the last two at `LEVER_PX`), or None if too few pixels are
        left or no motion brings the render nearer to the frame.
    """
    if mask.sum() < params.fewest_pixels:
        return None
    model, target = _grey(rendered, params.blur_px), _grey(frame, params.blur_px)
    rows, columns = np.nonzero(mask)
    x = (columns + 0.5 - pivot_px[0]) / LEVER_PX
    y = (rows + 0.5 - pivot_px[1]) / LEVER_PX
    motion = np.zeros(4)
    costs = []
    for step in range(params.steps + 1):
        size = (model.shape[1], model.shape[0])
        matrix = _similarity_matrix(motion, pivot_px)
        moved = cv2.warpAffine(model, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        difference = moved[mask] - target[mask]
        damped = 1 / (1 + (difference / params.robust_levels) ** 2)
        centred = (difference - np.median(difference)) / params.robust_levels
        costs.append(float((centred**2 / (1 + centred**2)).mean()))
        if step == params.steps:
            break
        by_x = cv2.Sobel(moved, cv2.CV_32F, 1, 0, scale=1 / 8)[mask]
        by_y = cv2.Sobel(moved, cv2.CV_32F, 0, 1, scale=1 / 8)[mask]
        # moved(x - u) = frame(x) + a constant, to first order in the motion u.
        design = np.stack([by_x, by_y, by_y * x - by_x * y, by_x * x + by_y * y, np.ones_like(by_x)], 1)
        weight = damped**2
        normal = design.T @ (design * weight[:, None])
        # A trace of damping keeps a featureless mask from asking for a huge motion.
        normal[np.arange(4), np.arange(4)] += 1e-3 * weight.sum()
        change = np.linalg.solve(normal + 1e-6 * np.eye(5), design.T @ (weight * difference))[:4]
        motion = np.clip(motion + change, -params.limit_px, params.limit_px)
    # A render that does not show this head asks for motions that do not bring it nearer.
    return motion if costs[-1] <= costs[0] * (1 + 1e-6) else None


def move_pose(world_to_camera: Array, intrinsics: Array, motion: Array, pivot: Array) -> Array:
    """Move a head so that its image moves by a small shift, roll and scale about the pivot.

    Args:
        world_to_camera: `[4, 4]`.
        intrinsics: `[3, 3]`.
        motion: `[4]` as from `image_motion`.
        pivot: `[3]` point of the head frame, metres.

    Returns:
        The new `[4, 4]`.
    """
    rotation, translation = world_to_camera[:3, :3], world_to_camera[:3, 3]
    at = rotation @ pivot + translation
    shift = np.array([motion[0] / intrinsics[0, 0], motion[1] / intrinsics[1, 1], 0.0]) * at[2]
    # Turning about the line of sight keeps the pivot's pixel; growing is coming nearer along that line.
    turn = Rotation.from_rotvec(motion[2] / LEVER_PX * at / np.linalg.norm(at)).as_matrix()
    moved = world_to_camera.copy()
    moved[:3, :3] = turn @ rotation
    moved[:3, 3] = (at + shift) / (1 + motion[3] / LEVER_PX) - moved[:3, :3] @ pivot
    return moved


def _fill_and_smooth(motion: Array, measured: Array, cuts: Array | tuple[int, ...], sigma: float) -> Array:
    """Fill unmeasured frames from their shot and smooth within each shot."""
    result = np.zeros_like(motion)
    edges = [0, *sorted(int(cut) for cut in cuts), len(motion)]
    for first, end in zip(edges[:-1], edges[1:], strict=True):
        known = np.flatnonzero(measured[first:end])
        if len(known) == 0:
            continue
        here = motion[first:end]
        filled = np.stack([np.interp(np.arange(end - first), known, here[known, k]) for k in range(4)], 1)
        result[first:end] = gaussian_filter1d(filled, sigma, axis=0, mode="nearest") if sigma > 0 else filled
    return result


def refine_poses(
    world_to_camera: Array,
    intrinsics: Array,
    pivot: Array,
    render: Render,
    frame_at: FrameAt,
    mask_at: FrameAt,
    cuts: Array | tuple[int, ...] = (),
    params: RefinementParams | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> PoseRefinement:
    """Refine the poses of a clip against renders of a static model.

    Args:
        world_to_camera: `[T, 4, 4]` poses from landmarks.
        intrinsics: `[3, 3]`.
        pivot: `[3]` point on the bridge of the nose, head frame, metres.
        render: `render(t, world_to_camera[t])` gives the static model's picture `[H, W, 3]`, uint8 or float 0..1.
        frame_at: `frame_at(t)` gives the true picture, likewise.
        mask_at: `mask_at(t)` gives the pixels to compare, `[H, W]` bool (`refinement_mask`); none for a frame without
            a face.
        cuts: First frames of new shots; corrections are not smoothed across them.
        params: Settings.
        progress: Called with the share done, 0..1, and what is being done.

    Returns:
        The refined poses.
    """
    params = params or RefinementParams()
    poses = world_to_camera.astype(np.float64).copy()
    frames = len(poses)
    correction = np.zeros((frames, 4))
    round_rms = np.zeros((params.rounds, 4))
    measured = np.zeros(frames, bool)
    for number in range(params.rounds):
        motion = np.zeros((frames, 4))
        for t in range(frames):
            mask = mask_at(t)
            measured[t] = False
            if mask.any():
                at = intrinsics @ (poses[t, :3, :3] @ pivot + poses[t, :3, 3])
                found = image_motion(render(t, poses[t]), frame_at(t), mask, at[:2] / at[2], params)
                measured[t] = found is not None
                if found is not None:
                    motion[t] = found
            if progress is not None:
                progress((number * frames + t + 1) / (params.rounds * frames), f"round {number + 1}")
        if measured.any():
            round_rms[number] = np.sqrt((motion[measured] ** 2).mean(0))
        motion = _fill_and_smooth(motion, measured, cuts, params.smooth_frames)
        poses = np.stack([move_pose(poses[t], intrinsics, motion[t], pivot) for t in range(frames)])
        correction += motion
    return PoseRefinement(poses, correction, round_rms, measured)
