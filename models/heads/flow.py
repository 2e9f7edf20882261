"""What the pictures say about head motion without a model: nose accelerations, cuts and judder.

Landmarks tremble by a sizeable part of a pixel and their filter lags. Corners tracked by optical flow on the nearly
rigid patch between brows and nose tip do not; the second difference of their positions is the acceleration that the
fitted head should have there (Lucas and Kanade, IJCAI 1981; corners after Shi and Tomasi, CVPR 1994).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from scipy.ndimage import uniform_filter1d

from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, RIGID_PATCH

Array = np.ndarray

_CORNERS = 80
_FEWEST_CORNERS = 6
_FORWARD_BACKWARD_PX = 0.3
_REACH = 0.6  # of the eye distance: how far around the patch pixels are kept for the search

# A cut stands alone: real motion builds up and dies down over several frames.
_CUT_JUMP, _CUT_JUMP_RATIO = 0.04, 3.5  # landmark displacement over eye distance; ratio to the neighbours within 2
_CUT_CHANGE, _CUT_CHANGE_RATIO = 4.0, 6.0  # mean change of grey levels at 32x32; ratio to the neighbours

_JUDDER_PERIODS = range(2, 9)
# On random smooth motions of 3 to 16 s: 0.4 % false alarms, 90 % or more of those with every sixth frame dropped found.
_JUDDER_Z, _JUDDER_UNEVENNESS = 3.0, 1.15


class Frames(Protocol):
    """Frames of a clip by index: `[H, W]` or `[H, W, 3]` uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Array: ...


@dataclass(frozen=True)
class FlowAccelerations:
    """Accelerations of the nose patch in pixels per frame squared, NaN where unknown.

    Attributes:
        all: `[T, 2]` from all corners.
        half_a: `[T, 2]` from every other corner; a fit fed with this one can be judged by the other.
        half_b: `[T, 2]` from the rest.
        corners: `[T]` how many corners were tracked both ways.
    """

    all: Array
    half_a: Array
    half_b: Array
    corners: Array


@dataclass(frozen=True)
class Judder:
    """Unevenness of motion that repeats every `period` frames, as frame rate conversion leaves it.

    Attributes:
        period: In frames.
        unevenness: Speed of the fastest phase over the mean.
        z: How many standard errors the strongest phase stands out.
    """

    period: int
    unevenness: float
    z: float


def _grey(frame: Array) -> Array:
    return frame if frame.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)


def _eye_distance(points: Array, valid: Array) -> float:
    distance = np.linalg.norm(points[valid, EYE_OUTER_RIGHT] - points[valid, EYE_OUTER_LEFT], axis=1)
    return float(np.nanmedian(distance))


def _triples(frames: Frames) -> Iterator[tuple[int, list[Array]]]:
    """Yield `(t, [grey t - 1, grey t, grey t + 1])`, reading every frame once."""
    window: list[Array] = []
    for t in range(len(frames)):
        window.append(_grey(frames[t]))
        if len(window) == 3:
            yield t - 1, window
            window.pop(0)


def flow_accelerations(
    frames: Frames, points: Array, valid: Array, cuts: Array | tuple[int, ...] = ()
) -> FlowAccelerations:
    """Measure the acceleration of the rigid nose patch in every frame.

    Args:
        frames: Frames of the clip, in the pixels of `points`.
        points: `[T, 478, 2]` landmarks in pixels.
        valid: `[T]` frames with a face.
        cuts: First frames of new shots; a frame next to a cut gets no acceleration.

    Returns:
        The accelerations; NaN for the first and last frame of a shot and where too few corners survive.
    """
    count = len(points)
    every, half_a, half_b = (np.full((count, 2), np.nan) for _ in range(3))
    corners = np.zeros(count, np.int32)
    outline = points[:, list(RIGID_PATCH)]
    usable = valid & np.isfinite(outline).all((1, 2))
    measured = np.zeros(count, bool)
    measured[1:-1] = usable[:-2] & usable[1:-1] & usable[2:]
    for cut in cuts:
        measured[int(cut) - 1 : int(cut) + 1] = False
    if not measured.any():
        return FlowAccelerations(every, half_a, half_b, corners)
    eye_distance = _eye_distance(points, usable)
    for t, window in _triples(frames):
        if not measured[t]:
            continue
        accelerations = _patch_accelerations(window, outline[t], eye_distance)
        corners[t] = len(accelerations)
        if len(accelerations) >= _FEWEST_CORNERS:
            every[t] = np.median(accelerations, axis=0)
            half_a[t] = np.median(accelerations[::2], axis=0)
            half_b[t] = np.median(accelerations[1::2], axis=0)
    return FlowAccelerations(every, half_a, half_b, corners)


def _patch_accelerations(window: list[Array], outline: Array, eye_distance: float) -> Array:
    """Return the accelerations `[N, 2]` of the corners in the patch that track forward and back."""
    height, width = window[1].shape
    low = np.floor(np.maximum(outline.min(0) - _REACH * eye_distance, 0)).astype(int)
    high = np.ceil(np.minimum(outline.max(0) + _REACH * eye_distance, [width, height])).astype(int)
    if (high - low < 16).any():
        return np.empty((0, 2))
    before, now, after = (np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]]) for image in window)
    mask = np.zeros(now.shape, np.uint8)
    # OpenCV counts from the centre of the first pixel, landmarks from its corner.
    hull = cv2.convexHull((outline - low - 0.5).astype(np.float32)).round().astype(np.int32)
    cv2.fillConvexPoly(mask, hull, 255)
    start = cv2.goodFeaturesToTrack(now, _CORNERS, 0.01, max(3.0, eye_distance / 30), mask=mask)
    if start is None:
        return np.empty((0, 2))
    kept = np.ones(len(start), bool)
    total = -2 * start.reshape(-1, 2)
    for other in (before, after):
        there, found = _track(now, other, start, eye_distance)
        back, returned = _track(other, now, there, eye_distance)
        error = np.linalg.norm((back - start).reshape(-1, 2), axis=1)
        kept &= found & returned & (error < _FORWARD_BACKWARD_PX)
        total = total + there.reshape(-1, 2)
    return total[kept]


def _track(source: Array, target: Array, corners: Array, eye_distance: float) -> tuple[Array, Array]:
    """Return where corners `[N, 1, 2]` of one image lie in another, and which were found `[N]`."""
    side = int(eye_distance / 7) | 1
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 0.003)
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        source, target, corners, corners.copy(), winSize=(side, side), maxLevel=3, criteria=criteria
    )
    return there, found.ravel() == 1


def acceleration_error(track: Array, measured: Array) -> float:
    """Compare a track's second difference with measured accelerations.

    Args:
        track: `[T, 2]` image positions of the patch's middle, pixels.
        measured: `[T, 2]` accelerations, NaN where unknown.

    Returns:
        Root mean square distance in pixels per frame squared; NaN if nothing was measured.
    """
    second = track[2:] + track[:-2] - 2 * track[1:-1]
    error = ((second - measured[1:-1]) ** 2).sum(1)
    known = np.isfinite(error)
    return float(np.sqrt(error[known].mean())) if known.any() else float("nan")


def _isolation(values: Array) -> Array:
    """Return each value over the largest of its four neighbours in time."""
    padded = np.pad(np.nan_to_num(values), 2)
    neighbours = np.max([padded[:-4], padded[1:-3], padded[3:-1], padded[4:]], axis=0)
    return np.nan_to_num(values) / np.maximum(neighbours, 1e-9)


def find_cuts(points: Array, valid: Array, frames: Frames | None = None) -> Array:
    """Find the first frames of new shots.

    Args:
        points: `[T, 478, 2]` landmarks in pixels.
        valid: `[T]` frames with a face.
        frames: The pictures, if at hand: they also show cuts at which no face or the same pose is seen.

    Returns:
        Ascending frame numbers, int32.
    """
    count = len(points)
    found = np.zeros(count, bool)
    usable = valid & np.isfinite(points).any((1, 2))
    if count < 3:
        return np.empty(0, np.int32)
    if usable.any():
        distance = np.linalg.norm(np.diff(np.where(usable[:, None, None], points, np.nan), axis=0), axis=2)
        jump = np.full(count, np.nan)
        both = np.isfinite(distance).any(1)
        jump[1:][both] = np.nanmedian(distance[both], axis=1) / _eye_distance(points, usable)
        found |= (np.nan_to_num(jump) > _CUT_JUMP) & (_isolation(jump) > _CUT_JUMP_RATIO)
    if frames is not None:
        change = np.zeros(count)
        last: Array | None = None
        for t in range(count):
            small = cv2.resize(_grey(frames[t]), (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
            if last is not None:
                change[t] = np.abs(small - last).mean()
            last = small
        found |= (change > _CUT_CHANGE) & (_isolation(change) > _CUT_CHANGE_RATIO)
    return np.flatnonzero(found).astype(np.int32)


def find_judder(points: Array, valid: Array, cuts: Array | tuple[int, ...] = ()) -> Judder | None:
    """Look for motion whose speed repeats in a pattern of a few frames.

    Args:
        points: `[T, 478, 2]` landmarks in pixels.
        valid: `[T]` frames with a face.
        cuts: First frames of new shots.

    Returns:
        The clearest pattern, or None.
    """
    outline = points[:, list(RIGID_PATCH)]
    usable = valid & np.isfinite(outline).all((1, 2))
    known = usable[1:] & usable[:-1]
    for cut in cuts:
        known[int(cut) - 1] = False
    if known.sum() < 60:
        return None
    speed = np.linalg.norm(np.diff(outline.mean(1), axis=0), axis=1) / _eye_distance(points, usable)
    logarithm = np.log(speed + 1e-3)
    logarithm[~known] = np.median(logarithm[known])
    phase = np.arange(len(speed))
    best: Judder | None = None
    for period in _JUDDER_PERIODS:
        uneven = logarithm - uniform_filter1d(logarithm, 2 * period + 1, mode="nearest")
        spread = uneven[known].std()
        for offset in range(period):
            chosen = known & (phase % period == offset)
            if not chosen.any():
                continue
            mean = uneven[chosen].mean()
            z = abs(mean) / max(spread / np.sqrt(chosen.sum()), 1e-9)
            unevenness = float(np.exp(abs(mean)))
            if z > _JUDDER_Z and unevenness > _JUDDER_UNEVENNESS and (best is None or z > best.z):
                best = Judder(period, unevenness, float(z))
    return best
