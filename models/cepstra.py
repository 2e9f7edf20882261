"""Mel-frequency cepstral coefficients as python_speech_features computes them, which DeepSpeech and SyncNet hear.

After pre-emphasis: the power spectrum of 512 points of a plain (rectangular) span of 25 ms, over 512; 26 triangles
between 0 and 8000 Hz on the mel scale, their corners on whole bins; logarithm; orthonormal cosine transform; each
coefficient n times 1 + 11 sin(pi n / 22); the logarithm of the span's whole energy in place of the first one.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.fft import dct

SAMPLE_RATE = 16000
SPAN, TRANSFORM = 400, 512  # samples
BANDS, LIFTER, EMPHASIS = 26, 22, 0.97
TINY = float(np.finfo(np.float64).eps)  # stands for an energy of zero


def of_spans(spans: np.ndarray, count: int = BANDS) -> np.ndarray:
    """Return the first `count` coefficients `[N, count]` float64 of spans `[N, 400]` after pre-emphasis."""
    power = np.abs(np.fft.rfft(spans, TRANSFORM)) ** 2 / TRANSFORM
    energy, bands = power.sum(1), power @ mel_bank()
    energy[energy == 0] = TINY
    bands[bands == 0] = TINY
    lift = 1 + LIFTER / 2 * np.sin(np.pi * np.arange(count) / LIFTER)
    rows = np.asarray(dct(np.log(bands), type=2, axis=1, norm="ortho"))[:, :count] * lift
    rows[:, 0] = np.log(energy)
    return rows


@cache
def mel_bank() -> np.ndarray:
    """Return 26 triangles `[257, 26]` on the mel scale 2595 log10(1 + f / 700), their corners on whole bins."""
    highest = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, highest, BANDS + 2) / 2595) - 1)
    corners = np.floor((TRANSFORM + 1) * hertz / SAMPLE_RATE)
    left, top, right = corners[:-2], corners[1:-1], corners[2:]
    bins = np.arange(TRANSFORM // 2 + 1)[:, None]
    # At the lowest frequencies two corners may share a bin; that side of the triangle is then missing.
    rising = np.where((bins >= left) & (bins < top), (bins - left) / np.maximum(top - left, 1), 0.0)
    falling = np.where((bins >= top) & (bins < right), (right - bins) / np.maximum(right - top, 1), 0.0)
    return rising + falling
