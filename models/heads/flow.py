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

from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, RIGID_PARTS, RIGID_PATCH

Array = np.ndarray

_CORNERS = (80, 40, 16, 16, 30, 30)  # at most, in each of the rigid parts
_FEWEST_CORNERS = 6
_FORWARD_BACKWARD_PX = 0.3
_REACH = 0.3  # of the eye distance: how far around those parts pixels are kept for the search

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
class Flow:
    """What optical flow along a set of corners says of a head.

    Attributes:
        nose: `[T, 2]` acceleration of the nose patch in pixels per frame squared, NaN where unknown.
        corners: `[T, N, 3, 2]` corners on the rigid parts of the face, the nose patch among them: where each is seen in
            the frame before, in this one and in the next, pixels; NaN for want of more.
    """

    nose: Array
    corners: Array

    def normalised(self, focal: float, width: int, height: int) -> Flow:
        """Return the same in a fit's coordinates: from the middle of the picture, over the focal length."""
        return Flow(self.nose / focal, (self.corners - [width / 2, height / 2]) / focal)


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


def measure_flow(frames: Frames, points: Array, valid: Array, cuts: Array | tuple[int, ...] = ()) -> tuple[Flow, Flow]:
    """Follow corners on the rigid parts of the face from every frame into its two neighbours.

    Args:
        frames: Frames of the clip, in the pixels of `points`.
        points: `[T, 478, 2]` landmarks in pixels.
        valid: `[T]` frames with a face.
        cuts: First frames of new shots; nothing is measured in a frame next to a cut.

    Returns:
        What every other corner says and what the rest says: one to fit, the other to judge that fit by. Nothing is
        known of the first and the last frame of a shot, nor where too few corners survive.
    """
    count = len(points)
    noses = np.full((2, count, 2), np.nan)
    corners = np.full((2, count, sum(_CORNERS) // 2 + len(_CORNERS), 3, 2), np.nan, np.float32)
    outline = points[:, list(RIGID_PATCH)]
    usable = valid & np.isfinite(outline).all((1, 2))
    measured = np.zeros(count, bool)
    measured[1:-1] = usable[:-2] & usable[1:-1] & usable[2:]
    for cut in cuts:
        measured[int(cut) - 1 : int(cut) + 1] = False
    eye_distance = _eye_distance(points, usable) if measured.any() else 0.0
    for t, window in _triples(frames) if measured.any() else ():
        if not measured[t]:
            continue
        found = _followed(window, points[t], eye_distance)
        for half in range(2):
            every = np.concatenate([part[half::2] for part in found])
            corners[half, t, : len(every)] = every
        nose = found[0]
        if len(nose) >= _FEWEST_CORNERS:
            acceleration = nose[:, 0] + nose[:, 2] - 2 * nose[:, 1]
            noses[:, t] = np.median(acceleration[::2], axis=0), np.median(acceleration[1::2], axis=0)
    return Flow(noses[0], corners[0]), Flow(noses[1], corners[1])


def _followed(window: list[Array], points: Array, eye_distance: float) -> list[Array]:
    """Return `[N, 3, 2]` of every rigid part: its corners that track forward and back, before, now and after."""
    outlines = [points[[p for p in part if np.isfinite(points[p]).all()]] for part in RIGID_PARTS]
    outlines = [outline if len(outline) >= 3 else np.empty((0, 2)) for outline in outlines]
    nothing = [np.empty((0, 3, 2)) for _ in outlines]
    height, width = window[1].shape
    every = np.concatenate(outlines)
    low = np.floor(np.maximum(every.min(0) - _REACH * eye_distance, 0)).astype(int)
    high = np.ceil(np.minimum(every.max(0) + _REACH * eye_distance, [width, height])).astype(int)
    if (high - low < 16).any():
        return nothing
    before, now, after = (np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]]) for image in window)
    apart = max(3.0, eye_distance / 30)
    # OpenCV counts from the centre of the first pixel, landmarks from its corner.
    origin = low + 0.5
    starts = [_corners(now, outline - origin, n, apart) for outline, n in zip(outlines, _CORNERS, strict=True)]
    start = np.concatenate(starts)
    if not len(start):
        return nothing
    kept = np.ones(len(start), bool)
    seen = [start, start, start]
    for place, other in ((0, before), (2, after)):
        there, found = _track(now, other, start, eye_distance)
        back, returned = _track(other, now, there, eye_distance)
        kept &= found & returned & (np.linalg.norm((back - start)[:, 0], axis=1) < _FORWARD_BACKWARD_PX)
        seen[place] = there
    followed = np.concatenate(seen, 1) + origin
    edges = np.cumsum([len(part) for part in starts])[:-1]
    return [part[good] for part, good in zip(np.split(followed, edges), np.split(kept, edges), strict=True)]


def _corners(image: Array, outline: Array, most: int, apart: float) -> Array:
    """Return at most so many corners `[N, 1, 2]` float32 within the hull of an outline, the clearest first."""
    nothing = np.empty((0, 1, 2), np.float32)
    if not len(outline):
        return nothing
    size = np.array(image.shape[::-1])
    low = np.clip(np.floor(outline.min(0)).astype(int) - 2, 0, size)
    high = np.clip(np.ceil(outline.max(0)).astype(int) + 3, 0, size)
    if (high - low < 5).any():
        return nothing
    cut = image[low[1] : high[1], low[0] : high[0]]
    mask = np.zeros(cut.shape, np.uint8)
    hull = cv2.convexHull((outline - low).astype(np.float32)).round().astype(np.int32)
    cv2.fillConvexPoly(mask, hull, 255)
    found = cv2.goodFeaturesToTrack(cut, most, 0.01, apart, mask=mask)
    return nothing if found is None else found + low.astype(np.float32)


def _track(source: Array, target: Array, corners: Array, eye_distance: float) -> tuple[Array, Array]:
    """Return where corners `[N, 1, 2]` of one image lie in another, and which were found `[N]`."""
    side = max(3, int(eye_distance / 7) | 1)  # OpenCV takes no smaller window
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
