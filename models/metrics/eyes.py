"""How well the eyelids move."""

from __future__ import annotations

import numpy as np

from models.metrics.base import Metric, correlation
from models.metrics.lips import eye_distance

SHUT = 0.5  # of the median lid gap: lids that come nearer blink
LIDS = ((159, 145), (386, 374))  # the middle of the upper and the lower lid of both eyes


def lid_gap(points: np.ndarray) -> np.ndarray:
    """Return the mean lid gap of both eyes over the eye distance, `[n]`, of points `[n, 478, 2]`."""
    gap = np.mean([np.linalg.norm(points[:, upper] - points[:, lower], axis=-1) for upper, lower in LIDS], 0)
    return gap / eye_distance(points)


def gaps(predicted: np.ndarray, true: np.ndarray, region: np.ndarray | None) -> np.ndarray:
    """Return both lid gaps of each frame, `[n, 2]`."""
    return np.stack([lid_gap(predicted.astype(np.float64)), lid_gap(true.astype(np.float64))], 1)


def blinking_correlation(columns: np.ndarray) -> float:
    """Return Pearson's r of both lid gaps, NaN where the truth does not blink: of open lids it is chance."""
    true = columns[~np.isnan(columns).any(1), 1]
    blinks = len(true) > 0 and true.min() < SHUT * np.median(true)
    return correlation(columns) if blinks else float("nan")


METRICS = (
    Metric(
        "r_eye",
        "1",
        "higher",
        "Pearson correlation over frames of the mean lid gap of both eyes (points 159-145, 386-374) over the distance "
        "of the outer eye corners with the truth's; absent where those never come nearer than half their median",
        "landmarks",
        gaps,
        blinking_correlation,
        range="-1 to 1",
        source="defined here",
        unknown="the truth does not blink, or the result's lids never move",
    ),
)
