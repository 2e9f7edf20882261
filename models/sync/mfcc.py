"""Mel-frequency cepstral coefficients, number for number those of python_speech_features with its defaults.

What it does: pre-emphasis 0.97; windows of 25 ms every 10 ms, not tapered, the last one filled up with silence; the
power spectrum of 512 points over 512; 26 triangles evenly spaced in mel from 0 to half the rate, with corners rounded
down to bins of the spectrum; logarithm; orthonormal cosine transform; 13 coefficients lifted by 1 + 11 sin(pi n / 22);
the first one replaced by the logarithm of the window's energy. Nought becomes the smallest float64 step.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.fft import dct

RATE = 16000
WINDOW, STEP = 400, 160  # samples
POINTS, FILTERS, COEFFICIENTS, LIFTER = 512, 26, 13, 22
EMPHASIS = 0.97
SMALL = np.finfo(float).eps


def mfcc(sound: np.ndarray) -> np.ndarray:
    """Return the coefficients `[N, 13]` float64, 100 a second, of samples `[S]` at 16 kHz in the range of int16."""
    sound = np.asarray(sound, np.float64)
    if not len(sound):
        return np.zeros((0, COEFFICIENTS))
    sharp = np.concatenate([sound[:1], sound[1:] - EMPHASIS * sound[:-1]])
    count = 1 + max(0, -(-(len(sharp) - WINDOW) // STEP))
    padded = np.concatenate([sharp, np.zeros(max(0, (count - 1) * STEP + WINDOW - len(sharp)))])
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::STEP][:count]
    power = np.abs(np.fft.rfft(windows, POINTS)) ** 2 / POINTS
    energy, bands = power.sum(1), power @ triangles().T
    energy, bands = (np.where(values == 0, SMALL, values) for values in (energy, bands))
    order = np.arange(COEFFICIENTS)
    cepstrum = np.asarray(dct(np.log(bands), type=2, axis=1, norm="ortho"))[:, :COEFFICIENTS]
    cepstrum *= 1 + LIFTER / 2 * np.sin(np.pi * order / LIFTER)
    cepstrum[:, 0] = np.log(energy)
    return cepstrum


@cache
def triangles() -> np.ndarray:
    """Return the filters `[26, 257]` over the bins of the spectrum."""
    highest = 2595 * np.log10(1 + RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, highest, FILTERS + 2) / 2595) - 1)
    corners = np.floor((POINTS + 1) * hertz / RATE)
    low, middle, high = (corners[k : k + FILTERS, None] for k in range(3))
    bins = np.arange(POINTS // 2 + 1)
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.where((bins >= low) & (bins < middle), rising, 0) + np.where((bins >= middle) & (bins < high), falling, 0)
