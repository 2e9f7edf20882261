"""OpenSeeFace's smallest landmarker (github.com/emilianavt/OpenSeeFace, lm_model0): one network, 66 points of a face.

Its points are those of the 68-point markup without the two outer corners of the mouth. Of each it gives a map of
28x28 cells that says how likely the point is in a cell, and two that say how far from the cell's middle it lies.
This size sees lips well; it does not see lids close, so nothing is measured by its eyes but their distance.

It is shown a crop of the face that is made from landmarks somebody else has found. OpenSeeFace's own detector moves its
box in steps and with the rendering; this way a true frame and its rendering are read in the same crop, and what differs
is the face. The crop follows the eyes and the nose, never the jaw, or it would tell how far the mouth is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, LANDMARK_COUNT, POINTS_68
from models.landmarks.placing import (
    PLACING,
    chain,
    cut,
    fit_box,
    invert,
    make_upright,
    mean_shape,
    move,
    similarity_between,
)
from models.onnx_session import open_session

NAMES = [name for k, name in enumerate(POINTS_68) if k not in (48, 54)]  # of its points, in MediaPipe's numbering
SIDE, CELLS = 224, 28  # of the crop, pixels; of a map
NEIGHBOURS = np.array([(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)])  # of a cell, and itself
REACH = (SIDE - 1) / 16  # of an offset, pixels of the crop: times the logit of what the maps hold
MARGIN = np.array([1.2, 1.25])  # width and height of the crop over those of the box of the points
MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of ImageNet, red first
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
LEAST_CONFIDENCE = 0.6  # mean over the points; below it there is no face
BATCH = 8  # crops seen at once
SHAPES = 200  # of a clip, that tell where the points of this face lie


def crops_of(points: np.ndarray) -> np.ndarray:
    """Return the transforms `[T, 2, 3]` from frames to crops for known points `[T, 478, 2]`, pixels.

    Points may be missing (NaN) in all frames; a frame without any has no crop (NaN), and none has
    one where the eyes are not given.
    """
    crops = np.full((len(points), 2, 3), np.nan)
    seen = np.all(np.isfinite(points), axis=-1)
    frames = np.flatnonzero(seen.any(1))
    given = seen[frames].all(0) & bool(len(frames))
    placing, outline = ([p for p in names if given[p]] for names in (PLACING, NAMES))
    if not {EYE_OUTER_RIGHT, EYE_OUTER_LEFT} <= set(placing):
        return crops
    chosen = frames[np.linspace(0, len(frames) - 1, min(SHAPES, len(frames))).round().astype(int)]
    shapes = points[chosen].astype(np.float64)
    face = make_upright(mean_shape(shapes[:, placing]), placing)
    outlines = [move(similarity_between(shape[placing], face), shape[outline]) for shape in shapes]
    mean = np.mean(outlines, 0)
    low, high = mean.min(0), mean.max(0)
    box = fit_box((low + high) / 2, (high - low) * MARGIN, (SIDE, SIDE))
    for t in frames:
        crops[t] = chain(box, similarity_between(points[t, placing].astype(np.float64), face))
    return crops


def decode(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points `[n, 66, 2]`, pixels of the crop, and how sure each is, `[n, 66]`, from maps `[n, 198, 28, 28]`.

    A cell says where the point is by two offsets, the vertical one first, stored as the logistic function of the offset
    over `REACH`. OpenSeeFace hears the likeliest cell alone. Here it and its neighbours are heard, by their likelihood:
    when the crop shifts a little, the lips then tremble a quarter less.
    """
    likely, *offsets = np.moveaxis(maps.reshape(len(maps), 3, len(NAMES), CELLS * CELLS), 1, 0)
    best = likely.argmax(-1)[..., None]
    cells = np.stack(np.divmod(best, CELLS), -1) + NEIGHBOURS  # [n, 66, 9, 2], row and column
    inside = np.all((cells >= 0) & (cells < CELLS), -1)
    cells = np.clip(cells, 0, CELLS - 1)
    index = cells[..., 0] * CELLS + cells[..., 1]
    weights = np.where(inside, np.clip(np.take_along_axis(likely, index, -1), 1e-9, None), 0)
    chances = np.stack([np.take_along_axis(offset, index, -1) for offset in offsets], -1).astype(np.float64)
    chances = np.clip(chances, 1e-7, 1 - 1e-7)
    found = cells * (SIDE - 1) / (CELLS - 1) + REACH * np.log(chances / (1 - chances))
    points = (found * weights[..., None]).sum(-2) / weights.sum(-1)[..., None]
    # The network counts pixels from 0 in the middle of the first, where we say one half.
    return points[..., ::-1] + 0.5, np.take_along_axis(likely, best, -1)[..., 0]


class OpenSeeFace:
    """The landmarker."""

    def __init__(self, model: Path) -> None:
        """Open the file lm_model0.onnx.

        Raises:
            InputError: it is not a network.
        """
        self._session = open_session(model)
        self._input = self._session.get_inputs()[0].name

    def read(self, frames: Sequence[np.ndarray] | np.ndarray, crops: np.ndarray) -> np.ndarray:
        """Return the points `[n, 478, 2]` float32, pixels, of RGB uint8 frames `[H, W, 3]`.

        They stand where MediaPipe's counterparts do; the others are NaN, and all are where there is no face or no crop.

        Args:
            frames: n of them.
            crops: `[n, 2, 3]` from a frame to its crop, see `crops_of`.
        """
        result = np.full((len(frames), LANDMARK_COUNT, 2), np.nan, np.float32)
        known = np.flatnonzero(np.isfinite(crops).all((1, 2)))
        for start in range(0, len(known), BATCH):
            batch = known[start : start + BATCH]
            pictures = np.stack([cut(frames[k], crops[k], (SIDE, SIDE)) for k in batch])
            planes = ((pictures.astype(np.float32) / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2)
            (maps,) = self._session.run(None, {self._input: np.ascontiguousarray(planes)})
            for k, points, confidence in zip(batch, *decode(np.asarray(maps)), strict=True):
                if confidence.mean() >= LEAST_CONFIDENCE:
                    result[k, NAMES] = move(invert(crops[k]), points)
        return result
