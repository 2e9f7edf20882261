"""Where the landmarks put the parts of a face in a picture: a frame of axes, and polygons drawn with sub-pixel care."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from models.errors import UsageError
from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, OVAL

Array = np.ndarray

SUPERSAMPLING = 8  # an open mouth is a few pixels high, and OpenCV draws half a pixel beyond the border of a polygon
CHIN = 152
JAW_RIGHT, JAW_LEFT = 132, 361  # on the oval, below the ear lobes


@dataclass(frozen=True)
class FaceFrame:
    """Axes along and across the line of the eyes; lengths are in outer eye distances (IOD)."""

    origin: Array  # [2] px, between the eyes
    across: Array  # [2] unit vector from the subject's right eye to the left
    down: Array  # [2] unit vector to the chin
    iod: float  # px
    chin: float  # IOD below the eyes
    jaw: float  # the same of the line below the ear lobes

    @staticmethod
    def of(points: Array) -> FaceFrame:
        """Find the axes from landmarks `[478, 2]` px; absent ones are NaN.

        Raises:
            UsageError: an outer eye corner is absent, so there is no scale.
        """
        right, left = points[EYE_OUTER_RIGHT], points[EYE_OUTER_LEFT]
        if not (np.isfinite(right).all() and np.isfinite(left).all()):
            raise UsageError("the landmarks have no outer eye corners (33 and 263)", "a face cannot be placed without")
        iod = float(np.linalg.norm(left - right)) or 1.0
        across = (left - right) / iod
        down = np.array([-across[1], across[0]])
        origin = (left + right) / 2
        depth = (points - origin) @ down / iod
        chin = float(depth[CHIN]) if np.isfinite(depth[CHIN]) else float(np.nanmax(depth))
        sides = depth[[JAW_RIGHT, JAW_LEFT]]
        jaw = float(sides.mean()) if np.isfinite(sides).all() else 0.5 * chin
        return FaceFrame(origin, across, down, iod, chin, jaw)

    def coordinates(self, height: int, width: int) -> tuple[Array, Array]:
        """Return for every pixel centre how far across and down it lies, two float32 `[H, W]` in IOD."""
        x = np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5 - self.origin[0])
        y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5 - self.origin[1])
        u, v = (self.across / self.iod).astype(np.float32), (self.down / self.iod).astype(np.float32)
        return x * u[0] + y * u[1], x * v[0] + y * v[1]


def coverage(corners: Array, height: int, width: int) -> Array:
    """Return how much of every pixel a polygon covers, float32 `[H, W]` in 0..1.

    Args:
        corners: `[n, 2]` px; the centre of the top left pixel is (0.5, 0.5).
        height: of the picture.
        width: of the picture.
    """
    area = np.zeros((height, width), np.float32)
    low = np.maximum(np.floor(corners.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, [width, height])
    if (high <= low).any():
        return area
    columns, rows = high - low
    canvas = np.zeros((rows * SUPERSAMPLING, columns * SUPERSAMPLING), np.uint8)
    scaled = (corners - low) * SUPERSAMPLING - 0.5
    # fillPoly counts in pixel centres; four more fractional bits keep the corners where they are.
    cv2.fillPoly(canvas, [np.round(scaled * 16).astype(np.int32)], 255, shift=4)
    small = cv2.resize(canvas, (int(columns), int(rows)), interpolation=cv2.INTER_AREA)
    area[low[1] : high[1], low[0] : high[0]] = small.astype(np.float32) / 255
    return area


def polygon(points: Array, ring: tuple[int, ...], height: int, width: int) -> Array:
    """Return the pixels (bool `[H, W]`) of which the polygon through the landmarks `ring` covers more than half.

    Landmarks that are absent are left out; with fewer than half of them there is no polygon.
    """
    corners = points[list(ring)]
    corners = corners[np.isfinite(corners).all(1)]
    if len(corners) < max(3, len(ring) / 2):
        return np.zeros((height, width), bool)
    return coverage(corners, height, width) > 0.5


def face_oval(points: Array, height: int, width: int) -> Array:
    """Return the pixels of the face oval, bool `[H, W]`; of the hull of all landmarks where the oval is absent."""
    oval = points[list(OVAL)]
    if np.isfinite(oval).all(1).mean() >= 0.5:
        return polygon(points, OVAL, height, width)
    hull = cv2.convexHull(points[np.isfinite(points).all(1)].astype(np.float32))
    return coverage(hull[:, 0], height, width) > 0.5
