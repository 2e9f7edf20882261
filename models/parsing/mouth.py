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
CONTRAST = 15.0  # of lightness between teeth and the dark behind them
REDNESS = 6.0  # by which teeth are less red than lips and tongue, units of a* in CIE Lab


@dataclass(frozen=True)
class MouthColours:
    """What tells lips, teeth and the rest apart in one clip."""

    lip: Array  # [COUNT] float32: log of how much likelier a colour is on the lips than inside the mouth
    light: float  # teeth are lighter than this (L* of CIE Lab); inf without teeth
    red: float  # and less red (a*): lips and tongue are as light

    def are_teeth(self, pixels: Array) -> Array:
        """Return which pixels `[n, 3]` uint8 of the inside of the mouth have the colour of teeth, bool `[n]`."""
        lightness, redness = lightness_and_redness(pixels)
        return (lightness > self.light) & (redness < self.red)


def lightness_and_redness(pixels: Array) -> tuple[Array, Array]:
    """Return L* and a* of CIE Lab, float32 `[n]` each, of pixels `[n, 3]` uint8."""
    if not len(pixels):
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    lab = cv2.cvtColor(pixels[:, None], cv2.COLOR_RGB2Lab)[:, 0].astype(np.float32)
    return lab[:, 0] * np.float32(100 / 255), lab[:, 1] - 128


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
    teeth = np.zeros_like(opening)
    teeth[opening] = colours.are_teeth(frame[opening])
    # Teeth end at the lip and hardly anywhere lie deep: what has their colour is no lip.
    opening[rim] = teeth[rim] | (colours.lip[codes(frame[rim][None])[0]] <= 0)
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
    inside, outside = (
        np.concatenate([frame[m] for frame, m in zip(frames, masks, strict=True)]) for masks in (openings, lips)
    )
    return MouthColours(lip, *_tooth_limits(inside, outside))


def _tooth_limits(inside: Array, lips: Array) -> tuple[float, float]:
    """Return the least lightness and the redness that teeth stay below; infinite lightness when there are no teeth.

    Args:
        inside: pixels `[n, 3]` between the inner lips, some rim of the lips included.
        lips: pixels `[m, 3]` of the lips.
    """
    none = float("inf"), 0.0
    lightness, redness = lightness_and_redness(inside)
    light, low, high = _split(lightness)
    if high - low < CONTRAST:
        return none
    shades, of_lips = redness[lightness > light], lightness_and_redness(lips)[1]
    if len(of_lips) and len(shades):
        # As many of the lips as of what is light inside: teeth are what differs from them, not the whitest of them.
        shades = np.concatenate([shades, of_lips[np.linspace(0, len(of_lips) - 1, len(shades)).astype(int)]])
    red, low, high = _split(shades)
    return (light, red) if high - low >= REDNESS else none


def _split(values: Array) -> tuple[float, float, float]:
    """Return the value that splits others best (Otsu 1979), and the means below and above; three equal ones if few."""
    if len(values) < 50:
        return 0.0, 0.0, 0.0
    ordered = np.sort(values.astype(np.float64))
    sums, count = np.cumsum(ordered), np.arange(1, len(ordered))
    low, high = sums[:-1] / count, (sums[-1] - sums[:-1]) / (len(ordered) - count)
    split = int(np.argmax(count * (len(ordered) - count) * (high - low) ** 2))
    return float(ordered[split : split + 2].mean()), float(low[split]), float(high[split])
