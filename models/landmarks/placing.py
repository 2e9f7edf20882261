"""Where a face lies in a frame: similarities between faces, the upright face, and crops cut by them."""

from __future__ import annotations

import cv2
import numpy as np

from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, RIGID_PATCH

# Corners of the eyes, bridge and tip of the nose, its wings: the points that a face is placed by.
PLACING = tuple(sorted({EYE_OUTER_RIGHT, 133, 362, EYE_OUTER_LEFT, 1, 2, 168, 98, 327, *RIGID_PATCH}))


def similarity_between(source: np.ndarray, target: np.ndarray, scaled: bool = True) -> np.ndarray:
    """Return the 2x3 similarity that moves the points `source` `[n, 2]` onto `target` `[n, 2]` (least squares).

    Without `scaled` it only turns and shifts. Source: the closed form in two dimensions, a complex factor and a shift.
    """
    a, b = source.mean(0), target.mean(0)
    p, q = source - a, target - b
    scale = max(float((p**2).sum()), 1e-12)
    c, s = float((p * q).sum()) / scale, float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()) / scale
    linear = np.array([[c, -s], [s, c]])
    if not scaled:
        linear /= max(float(np.hypot(c, s)), 1e-12)
    return np.column_stack([linear, b - linear @ a])


def move(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a 2x3 transform to points `[..., 2]`."""
    return points @ transform[:, :2].T + transform[:, 2]


def invert(transform: np.ndarray) -> np.ndarray:
    """Return the inverse of a 2x3 transform."""
    linear = np.linalg.inv(transform[:, :2])
    return np.column_stack([linear, -linear @ transform[:, 2]])


def chain(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Return the 2x3 transform that applies `inner`, then `outer`."""
    linear = outer[:, :2] @ inner[:, :2]
    return np.column_stack([linear, outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def mean_shape(shapes: np.ndarray) -> np.ndarray:
    """Return the mean of `shapes` `[n, k, 2]` after similarity alignment."""
    mean = shapes[0]
    for _ in range(3):
        mean = np.mean([move(similarity_between(shape, mean), shape) for shape in shapes], 0)
    return mean


def make_upright(shape: np.ndarray, names: list[int]) -> np.ndarray:
    """Bring a shape `[k, 2]` of the points `names` into the upright face frame.

    There the outer eye corners are level and 1 apart, and the origin is the mean of the points.
    """
    eyes = shape[[names.index(EYE_OUTER_RIGHT), names.index(EYE_OUTER_LEFT)]]
    level = move(similarity_between(eyes, np.array([[-0.5, 0.0], [0.5, 0.0]])), shape)
    return level - level.mean(0)


def fit_box(centre: np.ndarray, extent: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the transform that fits a box of `extent` about `centre` into a crop of `size`, proportions kept."""
    width, height = size
    scale = min(width / extent[0], height / extent[1])
    return np.array([[scale, 0, width / 2 - scale * centre[0]], [0, scale, height / 2 - scale * centre[1]]])


def cut(picture: np.ndarray, to_crop: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cut the crop `[h, w, ...]` that the transform from frame to crop (continuous pixels) describes."""
    # Pixel centres lie at half integers here and at integers in OpenCV.
    matrix = to_crop.copy()
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    return cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
