"""The inside of the mouth: the polygon of the inner lips, less what has the colour of lips, and the teeth in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from models.heads.mediapipe_points import CURVES, LIP_RING_INNER, LIP_RING_OUTER
from models.parsing.colours import COUNT, codes, density, mixed_log
from models.parsing.geometry import FaceFrame, polygon

Array = np.ndarray

SHUT = 0.011  # of the IOD: below this mean gap the lips are shut (MediaPipe leaves 0.002 to 0.003)
RIM = 0.035  # of the IOD: how far inside the polygon lip may still be seen
FEWEST_PIXELS = 200  # of lips and of mouth that are needed to learn their colours
LIGHTNESS, CONTRAST = 12.0, 15.0  # teeth are at least so light, and so much lighter than the rest


@dataclass(frozen=True)
class MouthColours:
    """What tells lips, teeth and the rest apart in one clip."""

    lip: Array  # [COUNT] float32: log of how much likelier a colour is on the lips than inside the mouth
    tooth: float  # a pixel inside the mouth is tooth where `toothness` exceeds this; inf without teeth


def toothness(frame: Array) -> Array:
    """Return how bright and colourless pixels `[..., 3]` uint8 are: lightness minus chroma, in units of CIE Lab."""
    lab = cv2.cvtColor(frame.reshape(-1, 1, 3), cv2.COLOR_RGB2Lab).astype(np.float32)
    value = lab[..., 0] * (100 / 255) - np.hypot(lab[..., 1] - 128, lab[..., 2] - 128)
    return value.reshape(frame.shape[:-1])


def between_lips(points: Array, height: int, width: int) -> Array:
    """Return the pixels between the inner lips, bool `[H, W]`; none when they are shut but for trembling landmarks."""
    face = FaceFrame.of(points)
    upper, lower = points[list(CURVES["lip_inner_upper"])[1:-1]], points[list(CURVES["lip_inner_lower"])[1:-1]]
    gap = np.nanmean((lower - upper) @ face.down) if np.isfinite(upper + lower).any() else 0.0
    if gap < SHUT * face.iod:
        return np.zeros((height, width), bool)
    return polygon(points, LIP_RING_INNER, height, width)


def inside_mouth(frame: Array, points: Array, colours: MouthColours) -> tuple[Array, Array]:
    """Return the inside of the mouth and the teeth in it, two bool `[H, W]`.

    Inner lip landmarks lie on the front of the lips; the lip's rim behind them is lip, not mouth. Where a pixel near
    the polygon's border has the colour of lips, it is left to them.
    """
    opening = between_lips(points, *frame.shape[:2])
    if not opening.any():
        return opening, opening
    depth = cv2.distanceTransform(opening.astype(np.uint8), cv2.DIST_L2, 3)
    rim = opening & (depth < max(1.5, RIM * FaceFrame.of(points).iod))
    opening[rim] = colours.lip[codes(frame[rim][None])[0]] <= 0
    teeth = np.zeros_like(opening)
    if opening.any():
        teeth[opening] = toothness(frame[opening][None])[0] > colours.tooth
    return opening, teeth


def learn_mouth(frames: Sequence[Array], points: Sequence[Array]) -> MouthColours:
    """Learn what lips, teeth and the rest look like from some frames `[H, W, 3]` and their landmarks `[478, 2]`."""
    openings = [between_lips(p, *frame.shape[:2]) for frame, p in zip(frames, points, strict=True)]
    lip = np.full(COUNT, -1.0, np.float32)  # until learnt, nothing is lip
    coded = [codes(frame) for frame in frames]
    lips = [
        polygon(p, LIP_RING_OUTER, *o.shape) & ~(cv2.dilate(o.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0)
        for p, o in zip(points, openings, strict=True)
    ]
    deep = [cv2.erode(o.astype(np.uint8), np.ones((5, 3), np.uint8)) > 0 for o in openings]
    if min(sum(map(np.count_nonzero, lips)), sum(map(np.count_nonzero, deep))) >= FEWEST_PIXELS:
        lip = mixed_log(density(coded, lips), 0.01) - mixed_log(density(coded, deep), 0.01)
    without = MouthColours(lip, float("inf"))
    values: list[Array] = []
    for frame, p in zip(frames, points, strict=True):
        opening, _ = inside_mouth(frame, p, without)
        if opening.any():
            values.append(toothness(frame[opening][None])[0])
    return MouthColours(lip, _split(np.concatenate(values) if values else np.zeros(0, np.float32)))


def _split(values: Array) -> float:
    """Return the `toothness` that splits the inside of the mouth best (Otsu 1979); inf when there are no two kinds."""
    if len(values) < 50:
        return float("inf")
    ordered = np.sort(values.astype(np.float64))
    sums, count = np.cumsum(ordered), np.arange(1, len(ordered))
    low, high = sums[:-1] / count, (sums[-1] - sums[:-1]) / (len(ordered) - count)
    split = int(np.argmax(count * (len(ordered) - count) * (high - low) ** 2))
    # Two shades of a tongue are no teeth.
    if high[split] < LIGHTNESS or high[split] - low[split] < CONTRAST:
        return float("inf")
    return float(ordered[split])
