"""How well the lips follow the loudness of the sound: what can be told of sync without any weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.metrics.base import Metric, correlation
from models.metrics.lips import lip_gap
from models.sync.lags import Synchrony

REACH = 5  # frames by which lips and sound are shifted against each other
ENVELOPE_S = 0.08  # window of the sound's loudness
SAMPLE_RATE, FPS = 16000, 25.0
QUIETEST = -60.0  # dB
FEWEST = 25  # frames with a face; in fewer some shift always fits


def loudness(sound: np.ndarray, count: int, sample_rate: int = SAMPLE_RATE, fps: float = FPS) -> np.ndarray:
    """Return the loudness `[count]` in dB of windows centred on the frames' instants, never below `QUIETEST`."""
    squared = np.concatenate([[0.0], np.cumsum((sound.astype(np.float64) / 32768) ** 2)])
    centres, half = np.arange(count) / fps * sample_rate, ENVELOPE_S / 2 * sample_rate
    first, last = (np.clip((centres + sign * half).round().astype(int), 0, len(sound)) for sign in (-1, 1))
    power = (squared[last] - squared[first]) / np.maximum(last - first, 1)
    return 10 * np.log10(np.maximum(power, 10 ** (QUIETEST / 10)))


def lips_and_loudness(_frames: Any, points: np.ndarray, sound: np.ndarray, _breaks: Sequence[int] = ()) -> Synchrony:
    """Return `[n, 12]`: the lip gap of each frame, and the loudness from 5 frames before it to 5 after.

    So a row is whole in itself, and intervals can come from drawing rows anew.
    """
    columns = beside_shifts(lip_gap(points.astype(np.float64)), loudness(sound, len(points)))
    seen = int((~np.isnan(columns[:, 0])).sum())
    if seen < FEWEST:
        return Synchrony(np.full_like(columns, np.nan), f"the face is seen for {seen} frames, and {FEWEST} are needed")
    return Synchrony(columns, "the lips or the sound do not change")


def beside_shifts(lips: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Return lips `[n]` beside a curve `[n]` from 5 frames before each to 5 after, `[n, 12]`; NaN beyond its ends."""
    padded = np.pad(curve, REACH, constant_values=np.nan)
    return np.stack([lips, *(padded[k : k + len(lips)] for k in range(2 * REACH + 1))], 1)


def correlations(columns: np.ndarray) -> dict[int, float]:
    """Return the correlation at every lag where it is defined; positive lags: the lips are late."""
    found = {lag: correlation(columns[:, [0, 1 + REACH - lag]]) for lag in range(-REACH, REACH + 1)}
    return {lag: r for lag, r in sorted(found.items(), key=lambda pair: abs(pair[0])) if not np.isnan(r)}


def best(columns: np.ndarray) -> float:
    """Return the largest correlation over the lags."""
    return max(correlations(columns).values(), default=float("nan"))


def best_lag(columns: np.ndarray) -> float:
    """Return the lag of the largest correlation, in frames."""
    found = correlations(columns)
    return float(max(found, key=lambda lag: found[lag])) if found else float("nan")


def unshifted(columns: np.ndarray) -> np.ndarray:
    """Return the lip gap of each frame and what it is held against, `[n, 2]`."""
    return columns[:, [0, 1 + REACH]]


METRICS = (
    Metric(
        "r_sound",
        "1",
        "higher",
        "Pearson correlation over frames of the inner lip gap with the sound's loudness (dB, windows of 80 ms), best "
        "of shifts by up to 5 frames",
        "speech",
        lips_and_loudness,
        best,
        range="-1 to 1",
        source="defined here",
        series=unshifted,
    ),
    Metric(
        "sound_lag",
        "frames",
        "",
        "the shift at which r_sound is found; positive: the lips are late",
        "speech",
        lips_and_loudness,
        best_lag,
        range="-5 to 5",
        source="defined here",
        series=unshifted,
    ),
)
