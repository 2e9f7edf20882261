"""Small upright pictures of a mouth, cut along a clip: what the house's own network sees of lips.

A face is placed by the corners of its eyes and its nose, never by its lips, so that lips and jaw move in the picture as
they move on the face; the way of the placing over time is smoothed as that of a face track is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np
from scipy.ndimage import uniform_filter1d

from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, LIP_POINTS
from models.landmarks.placing import PLACING, cut, fit_box, make_upright, mean_shape, similarity_between

SIDE = 48  # pixels
REACH = 1.0  # side of the picture over the distance of the outer eye corners
LOWER = 0.1  # by so much of that distance its middle lies below the middle of the lips
SMOOTH = 5  # frames that the placing is averaged over
SHAPES = 200  # frames that the mean face is found from
FEWEST_POINTS = 4


class Pictures(Protocol):
    """Frames that are read one at a time."""

    def __getitem__(self, k: int, /) -> np.ndarray: ...


def mouths(frames: Pictures, points: np.ndarray, cuts: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Cut the mouth out of every frame.

    Args:
        frames: `n` RGB uint8 pictures `[H, W, 3]`.
        points: `[n, 478, 2]` landmarks, pixels; NaN where there are none.
        cuts: first frames of new shots, which no smoothing crosses.

    Returns:
        Grey pictures `[n, 48, 48]` uint8, and bool `[n]` which of them show a mouth; the others are black.
    """
    pictures = np.zeros((len(points), SIDE, SIDE), np.uint8)
    places = placings(points, cuts)
    seen = np.array([bool(np.isfinite(place).all()) for place in places], bool)
    for t in np.flatnonzero(seen):
        pictures[t] = cut(cv2.cvtColor(frames[int(t)], cv2.COLOR_RGB2GRAY), places[t], (SIDE, SIDE))
    return pictures, seen


def placings(points: np.ndarray, cuts: Sequence[int] = ()) -> np.ndarray:
    """Return the transforms `[n, 2, 3]` from frame to picture; NaN where there is no face."""
    result = np.full((len(points), 2, 3), np.nan)
    names = [name for name in PLACING if np.isfinite(points[:, name]).all(-1).any()]
    faces = points[:, names].astype(np.float64)
    whole = np.flatnonzero(np.isfinite(faces).all((1, 2)))
    if len(names) < FEWEST_POINTS or not len(whole) or not {EYE_OUTER_RIGHT, EYE_OUTER_LEFT} <= set(names):
        return result
    spread = whole[np.unique(np.linspace(0, len(whole) - 1, min(SHAPES, len(whole))).round().astype(int))]
    upright = make_upright(mean_shape(faces[spread]), names)
    found = np.array([similarity_between(faces[t], upright) for t in whole])
    lips = points[whole][:, LIP_POINTS].astype(np.float64)
    middles = np.einsum("tij,tpj->tpi", found[:, :, :2], lips) + found[:, None, :, 2]
    middle = np.nanmedian(middles.reshape(-1, 2), 0) + (0.0, LOWER)
    box = fit_box(middle, np.array([REACH, REACH]), (SIDE, SIDE))
    result[whole] = box[:, :2] @ found
    result[whole, :, 2] += box[:, 2]
    for run in np.split(whole, np.flatnonzero((np.diff(whole) > 1) | np.isin(whole[1:], cuts)) + 1):
        result[run] = uniform_filter1d(result[run], SMOOTH, axis=0, mode="nearest")
    return result
