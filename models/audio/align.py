"""The one place where feature entries of any rate meet the frames of the video."""

from __future__ import annotations

import numpy as np

from models.errors import UsageError

FPS = 25.0


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
