"""Sync-C, Sync-E and the lag (LSE-C, LSE-D and offset), of what a network makes of lips and of sound.

Source: Chung and Zisserman, Out of time: automated lip sync in the wild, ACCV workshops 2016; Prajwal et al., A lip
sync expert is all you need, ACM MM 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REACH = 15  # frames by which lips and sound are shifted against each other
SMALL = 1e-6  # added to every difference, as PyTorch's pairwise distance does


@dataclass(frozen=True)
class Synchrony:
    """What was measured over lags, one row a frame `[n, k]`, NaN where nothing was; and why there may be nothing."""

    windows: np.ndarray
    why: str = ""


def distances(lips: np.ndarray, sound: np.ndarray, reach: int = REACH, beyond: float = 0.0) -> np.ndarray:
    """Return the distance of every window of lips to the sound so many frames from it.

    Args:
        lips: `[n, D]` of windows of frames, one a frame.
        sound: `[n, D]` of the sound of the same windows.
        reach: the largest shift, frames.
        beyond: what all numbers of the sound are beyond its ends; NaN leaves those distances out.

    Returns:
        `[n, 2 reach + 1]` float64; column k is of the sound k - reach frames later.
    """
    padded = np.pad(sound.astype(np.float64), ((reach, reach), (0, 0)), constant_values=beyond)
    lips = lips.astype(np.float64)
    shifted = (padded[k : k + len(lips)] for k in range(2 * reach + 1))
    return np.stack([np.linalg.norm(lips - other + SMALL, axis=1) for other in shifted], 1)


def mean_distances(windows: np.ndarray) -> np.ndarray:
    """Return the mean of `distances` at every lag over the windows that have one, `[2 reach + 1]`; NaN if none has."""
    known = ~np.isnan(windows)
    counts = known.sum(0)
    sums = np.where(known, windows, 0).sum(0)
    return np.divide(sums, counts, out=np.full(windows.shape[1], np.nan), where=counts > 0)


def confidence(windows: np.ndarray) -> float:
    """Return Sync-C: by how much the best lag is better than the median one."""
    mean = mean_distances(windows)
    return float(np.median(mean) - mean.min())


def error(windows: np.ndarray) -> float:
    """Return Sync-E, which others call Sync-D or LSE-D: the mean distance at the best lag."""
    return float(mean_distances(windows).min())


def lag(windows: np.ndarray) -> float:
    """Return the best lag in frames; positive: the lips are late."""
    mean = mean_distances(windows)
    return float("nan") if np.isnan(mean).any() else float(len(mean) // 2 - int(mean.argmin()))
