"""Isolated bright or dark pixels, which a badly fitted Gaussian leaves behind."""

from __future__ import annotations

import numpy as np

from models.metrics.base import Metric

LEAST = 24  # levels of 255 by which a speck stands out
MOST_PIXELS = 4  # of a speck; what is larger is an edge, a hair or a light


def specks(picture: np.ndarray) -> np.ndarray:
    """Return where a uint8 picture `[H, W, 3]` has specks, bool `[H, W]`, one pixel for each.

    A speck is a group of up to `MOST_PIXELS` neighbours that differ by `LEAST` levels or more from the median of the
    7x7 pixels about them, in brightness. The corner of a larger thing leaves more pixels than a speck has.
    """
    import cv2

    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    residual = cv2.absdiff(grey, cv2.medianBlur(grey, 7)) >= LEAST
    _, _, about, middles = cv2.connectedComponentsWithStats(residual.astype(np.uint8), connectivity=8)
    small = about[1:, cv2.CC_STAT_AREA] <= MOST_PIXELS
    x, y = middles[1:][small].round().astype(int).T
    result = np.zeros(grey.shape, bool)
    result[y, x] = True
    return result


def counts(predicted: np.ndarray, true: np.ndarray, region: np.ndarray | None) -> np.ndarray:
    """Return how many specks each frame's region has, `[n, 2]`: the rendering's and the truth's; NaN where empty."""
    result = np.full((len(true), 2), np.nan)
    for k in range(len(true)):
        if region is None or region[k].any():
            for column, frames in enumerate((predicted, true)):
                found = specks(frames[k])
                result[k, column] = np.count_nonzero(found if region is None else found & region[k])
    return result


def ratio(columns: np.ndarray) -> float:
    """Return the mean of the first column over that of the second, one added to both; NaN without any frame."""
    kept = columns[~np.isnan(columns).any(1)]
    return float((kept[:, 0].mean() + 1) / (kept[:, 1].mean() + 1)) if len(kept) else float("nan")


METRICS = (
    Metric(
        "specks",
        "1",
        "lower",
        f"isolated bright or dark pixels (groups of at most {MOST_PIXELS} that differ by {LEAST} levels of brightness "
        "from the median of the 7x7 pixels about them) a frame over the truth's, one added to both",
        "frames",
        counts,
        ratio,
        range="from 0",
        source="defined here",
        regions=("head",),
    ),
)
