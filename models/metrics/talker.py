"""How well the lips follow those of whoever says the words of a drive in front of a camera.

Two people never open their lips alike, so this tells of timing alone, and the best of a few shifts counts: a recording
whose sound lies two frames beside its picture is no fault of the head.
"""

from __future__ import annotations

import numpy as np

from models.metrics.base import Metric
from models.metrics.lips import lip_gap
from models.metrics.speech import FEWEST, beside_shifts, best, best_lag, unshifted


def lips_of_both(predicted: np.ndarray, true: np.ndarray, region: np.ndarray | None) -> np.ndarray:
    """Return `[n, 12]`: the lip gap of each frame, and the talker's from 5 frames before it to 5 after."""
    columns = beside_shifts(lip_gap(predicted.astype(np.float64)), lip_gap(true.astype(np.float64)))
    if np.isfinite(columns[:, 0] + unshifted(columns)[:, 1]).sum() < FEWEST:
        columns[:] = np.nan
    return columns


METRICS = (
    Metric(
        "r_talker",
        "1",
        "higher",
        "Pearson correlation over frames of the inner lip gap with that of the one who says the words in front of a "
        f"camera, best of shifts by up to 5 frames; {FEWEST} frames are needed",
        "talker",
        lips_of_both,
        best,
        range="-1 to 1",
        source="defined here",
        series=unshifted,
    ),
    Metric(
        "talker_lag",
        "frames",
        "",
        "the shift at which r_talker is found; positive: the head's lips are late",
        "talker",
        lips_of_both,
        best_lag,
        range="-5 to 5",
        source="defined here",
        series=unshifted,
    ),
)
