"""Where in a frame metrics look: the regions, as masks of true frames."""

from __future__ import annotations

import numpy as np

from models.records import Clip, Landmarks, Masks

REGIONS = {
    "frame": "all pixels",
    "head": "labels of the head and of the inside of the mouth in the true frame",
    "face_box": "the square about all landmarks of the true frame, a tenth of its side larger",
    "steady": "all pixels but those of eyes, brows, lips and the inside of the mouth in the true frame",
    "mouth": "the square about the outer lips of the true frame, a little enlarged",
    "face": "landmarks read by the judge, from true and rendered frames alike",
    "all": "the head as a whole",
}
FACE_MARGIN = 0.1  # of the face box's side


class Regions:
    """Masks of the regions of true frames."""

    def __init__(self, clip: Clip, landmarks: Landmarks, masks: Masks, margin: int) -> None:
        self._shape = clip.frames.shape[1:3]
        self._landmarks, self._masks, self._margin = landmarks, masks, margin

    def of(self, frames: np.ndarray) -> dict[str, np.ndarray | None]:
        """Return bool masks `[n, H, W]` by region; empty where a frame has no face, None for all pixels."""
        from models.parsing import labels

        head, face, mouth, steady = (np.zeros((len(frames), *self._shape), bool) for _ in range(4))
        for k, frame in enumerate(frames):
            if self._masks.valid[frame]:
                found = self._masks.labels[frame]
                head[k] = labels.select(found, labels.HEAD + labels.INSIDE_MOUTH)
                steady[k] = ~labels.select(found, labels.INSIDE_MOUTH + (labels.EYES, labels.BROWS, labels.LIPS))
            if self._landmarks.valid[frame]:
                points = self._landmarks.points[frame]
                face[(k, *face_box(points, self._shape))] = True
                mouth[(k, *mouth_box(points, self._shape, self._margin))] = True
        return {"head": head, "face_box": face, "mouth": mouth, "steady": steady, "frame": None}


def mouth_box(points: np.ndarray, shape: tuple[int, ...], margin: int) -> tuple[slice, slice]:
    """Return rows and columns of the square about the lip points of `points` `[478, 2]`, enlarged by `margin` px."""
    from models.metrics.lips import LIP_POINTS

    return square_about(points[list(LIP_POINTS)], shape, margin)


def face_box(points: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return rows and columns of the square about all of `points` `[478, 2]`, enlarged by `FACE_MARGIN`."""
    seen = points[~np.isnan(points).any(-1)]
    side = float(np.ptp(seen, 0).max()) if len(seen) else 0.0
    return square_about(points, shape, round(FACE_MARGIN / 2 * side))


def square_about(points: np.ndarray, shape: tuple[int, ...], margin: int) -> tuple[slice, slice]:
    """Return rows and columns of the square about `points` `[n, 2]`, within the frame; empty where all are NaN."""
    points = points[~np.isnan(points).any(-1)]
    if not len(points):
        return slice(0, 0), slice(0, 0)
    low, high = points.min(0), points.max(0)
    x, y = (low + high) / 2
    half = int(max(high - low)) // 2 + margin
    top, left = max(0, int(y) - half), max(0, int(x) - half)
    return slice(top, min(shape[0], int(y) + half)), slice(left, min(shape[1], int(x) + half))
