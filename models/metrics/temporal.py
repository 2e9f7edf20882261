"""Whether a rendering trembles or flickers more than the footage: second differences over frames."""

from __future__ import annotations

import numpy as np

from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, RIGID_PATCH
from models.metrics.base import Metric
from models.metrics.lips import eye_distance

RIGID = tuple(sorted({EYE_OUTER_RIGHT, 133, 362, EYE_OUTER_LEFT, 168, *RIGID_PATCH}))  # corners of the eyes, nose


def jitter(predicted: np.ndarray, true: np.ndarray, region: np.ndarray | None) -> np.ndarray:
    """Return the rms second difference of the rigid points of each frame, `[n, 2]` percent of the true eye distance.

    The first column is the rendering's, the second the truth's; NaN at both ends.
    """
    result = np.full((len(true), 2), np.nan)
    distance = eye_distance(true.astype(np.float64))[1:-1]
    steps = [np.diff(side[:, RIGID].astype(np.float64), 2, 0) for side in (predicted, true)]
    known = np.isfinite((steps[0] + steps[1]).sum(-1))  # points that both have in all three frames
    for column, step in enumerate(steps):
        squared = np.where(known, (step**2).sum(-1), 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)
        result[1:-1, column] = 100 * np.sqrt(squared) / distance
    return result


def flicker(predicted: np.ndarray, true: np.ndarray, region: np.ndarray | None) -> np.ndarray:
    """Return the mean absolute second difference of the region's pixels, `[n, 2]` levels of 255; NaN at both ends."""
    result = np.full((len(true), 2), np.nan)
    for column, frames in enumerate((predicted, true)):
        for k in range(1, len(frames) - 1):
            before, now, after = (frames[t].astype(np.int16) for t in (k - 1, k, k + 1))
            change = np.abs(before - 2 * now + after)
            change = change if region is None else change[region[k]]
            if change.size:
                result[k, column] = change.mean()
    return result


def ratio(columns: np.ndarray) -> float:
    """Return the root mean square of the first column over that of the second; NaN where the truth stands still."""
    kept = columns[~np.isnan(columns).any(1)]
    below = np.sqrt((kept[:, 1] ** 2).mean()) if len(kept) else 0.0
    return float(np.sqrt((kept[:, 0] ** 2).mean()) / below) if below > 1e-9 else float("nan")


METRICS = (
    Metric(
        "jitter",
        "1",
        "1",
        "rms second difference over frames of the corners of the eyes and the nose (points that do not move on the "
        "skull), over the truth's; 1: it trembles as the footage does",
        "landmarks",
        jitter,
        ratio,
        range="from 0",
        source="defined here",
        reach=1,
    ),
    Metric(
        "flicker",
        "1",
        "1",
        "rms over frames of the mean absolute second difference of pixels where neither eyes, brows nor lips are, over "
        "the truth's; 1: it flickers as the footage does",
        "frames",
        flicker,
        ratio,
        range="from 0",
        source="defined here",
        reach=1,
        regions=("steady",),
    ),
)
