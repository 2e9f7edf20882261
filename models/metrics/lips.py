"""How well the lips move: their shape, and when and how far they open."""

from __future__ import annotations

import numpy as np

from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, LIP_POINTS
from models.metrics.base import Metric, correlation, spread_ratio

INNER_UPPER, INNER_LOWER = 13, 14
FEWEST_POINTS = 6  # of the 40 lip points: fewer do not tell a shape


def eye_distance(points: np.ndarray) -> np.ndarray:
    """Return the distance of the outer eye corners `[n]`, pixels, of points `[n, 478, 2]`."""
    return np.linalg.norm(points[:, EYE_OUTER_RIGHT] - points[:, EYE_OUTER_LEFT], axis=-1)


def lip_gap(points: np.ndarray) -> np.ndarray:
    """Return the inner lip gap over the eye distance, `[n]`, of points `[n, 478, 2]`."""
    return np.linalg.norm(points[:, INNER_UPPER] - points[:, INNER_LOWER], axis=-1) / eye_distance(points)


def lip_shape(points: np.ndarray) -> np.ndarray:
    """Return the lip points `[n, 40, 2]`."""
    return points[:, LIP_POINTS]


def landmark_distance(predicted: np.ndarray, true: np.ndarray, region: np.ndarray | None) -> np.ndarray:
    """Return the mean distance of the centred lip points of each frame, `[n]` pixels."""
    a, b = lip_shape(predicted).astype(np.float64), lip_shape(true).astype(np.float64)
    both = np.all(np.isfinite(a + b), axis=-1)
    result = np.full(len(a), np.nan)
    for k in np.flatnonzero(both.sum(1) >= FEWEST_POINTS):
        p, q = a[k, both[k]], b[k, both[k]]
        result[k] = np.linalg.norm((p - p.mean(0)) - (q - q.mean(0)), axis=-1).mean()
    return result


def relative_landmark_distance(predicted: np.ndarray, true: np.ndarray, region: np.ndarray | None) -> np.ndarray:
    """Return `landmark_distance` over the true eye distance, in percent, `[n]`."""
    return 100 * landmark_distance(predicted, true, region) / eye_distance(true.astype(np.float64))


def gaps(predicted: np.ndarray, true: np.ndarray, region: np.ndarray | None) -> np.ndarray:
    """Return both lip gaps of each frame, `[n, 2]`."""
    return np.stack([lip_gap(predicted.astype(np.float64)), lip_gap(true.astype(np.float64))], 1)


_GAP = "the inner lip gap (points 13 and 14, in units of the distance of the outer eye corners)"
METRICS = (
    Metric(
        "LMD",
        "px",
        "lower",
        "mean distance of the lip points (those of the 40 that both have) after centring each set on its own mean, on "
        "frames at the clip's size",
        "landmarks",
        landmark_distance,
        range="from 0",
        source="Chen et al., Lip movements generation at a glance, ECCV 2018, as RAD-NeRF computes it",
    ),
    Metric(
        "LMD_iod",
        "%",
        "lower",
        "LMD over the distance of the outer eye corners",
        "landmarks",
        relative_landmark_distance,
        range="from 0",
        source="Chen et al., Lip movements generation at a glance, ECCV 2018, as RAD-NeRF computes it",
    ),
    Metric(
        "r_open",
        "1",
        "higher",
        f"Pearson correlation over frames of {_GAP} with the truth's",
        "landmarks",
        gaps,
        correlation,
        range="-1 to 1",
        source="defined here",
    ),
    Metric(
        "amplitude",
        "1",
        "1",
        f"standard deviation of {_GAP} over the truth's",
        "landmarks",
        gaps,
        spread_ratio,
        range="from 0",
        source="defined here",
    ),
)
