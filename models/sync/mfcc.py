"""What SyncNet hears: 13 cepstral coefficients a hundredth of a second, as python_speech_features' defaults give."""

from __future__ import annotations

import numpy as np

from models.cepstra import EMPHASIS, SPAN, of_spans

STEP, COEFFICIENTS = 160, 13  # samples


def mfcc(sound: np.ndarray) -> np.ndarray:
    """Return the coefficients `[N, 13]` float64, 100 a second, of samples `[S]` at 16 kHz in the range of int16.

    The last span is filled up with zeros after pre-emphasis.
    """
    sound = np.asarray(sound, np.float64)
    if not len(sound):
        return np.zeros((0, COEFFICIENTS))
    sharp = np.concatenate([sound[:1], sound[1:] - EMPHASIS * sound[:-1]])
    count = 1 + max(0, -(-(len(sharp) - SPAN) // STEP))
    padded = np.concatenate([sharp, np.zeros((count - 1) * STEP + SPAN - len(sharp))])
    return of_spans(np.lib.stride_tricks.sliding_window_view(padded, SPAN)[::STEP], COEFFICIENTS)
