"""The one place where feature entries of any rate meet the frames of the video."""

from __future__ import annotations

import numpy as np

from models.errors import UsageError

FPS = 25.0
LEAST_DEVIATION = 0.1  # of the middle one's: what hardly varies must not be blown up to the size of speech


def windows(
    entries: np.ndarray, first_s: float, rate_hz: float, frame_count: int, width: int, fps: float = FPS
) -> np.ndarray:
    """Return for every frame the `width` feature entries around its instant.

    The window of frame t lies symmetrically about t / fps: entry j is at t / fps + (j - (width - 1) / 2) / rate_hz.
    Where no entry falls on such an instant, the two next to it are interpolated; beyond the ends the last one is held.

    Args:
        entries: `[N, D]` features.
        first_s: the instant that entry 0 is centred on, seconds.
        rate_hz: entries a second.
        frame_count: T, how many windows are wanted, whatever N is.
        width: entries in a window.
        fps: frames a second.

    Returns:
        float32 `[T, D, width]`.

    Raises:
        UsageError: there are no entries.
    """
    if entries.ndim != 2 or not len(entries):
        raise UsageError(f"features of shape {entries.shape}", "at least one entry is needed")
    offsets = (np.arange(width) - (width - 1) / 2) / rate_hz
    instants = np.arange(frame_count)[:, None] / fps + offsets  # [T, W]
    places = np.clip((instants - first_s) * rate_hz, 0, len(entries) - 1)
    below = np.floor(places + 1e-6).astype(np.int64)  # an entry that is meant exactly must not be missed by rounding
    share = np.maximum(places - below, 0).astype(np.float32)[..., None]
    share[share < 1e-5] = 0
    above = np.minimum(below + 1, len(entries) - 1)
    values = entries[below] * (1 - share) + entries[above] * share  # [T, W, D]
    return np.ascontiguousarray(values.transpose(0, 2, 1), dtype=np.float32)


def scale_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what brings every number of some features to mean 0 and deviation 1: mean and deviation, float32 `[D]`.

    Scores before softmax are ten times as large as a layer's activations, and a few of a transformer's numbers are
    ten times as large as all its others. A network that is trained for minutes needs them alike.

    Args:
        values: `[T, D, W]` windows; those of silence count as well.
    """
    if not len(values):
        return np.zeros(values.shape[1], np.float32), np.ones(values.shape[1], np.float32)
    mean, deviation = values.mean((0, 2), dtype=np.float64), values.std((0, 2), dtype=np.float64)
    deviation = np.maximum(deviation, LEAST_DEVIATION * np.median(deviation))
    deviation[deviation < 1e-6] = 1  # what never changes says nothing, however it is scaled
    return mean.astype(np.float32), deviation.astype(np.float32)
