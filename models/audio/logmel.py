"""Log-mel spectrogram, normalised for each recording: the extractor that needs no weights.

80 bands between 55 and 7600 Hz at 50 entries a second. Every band is brought to mean 0 and variance 1 over the
entries in which somebody speaks, so that the colour and loudness of a microphone hardly matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.audio.align import FPS, windows

REVISION = "1"
RATE_HZ, SIZE, WINDOW = 50.0, 80, 16
ASSETS: tuple[str, ...] = ()

SAMPLE_RATE = 16000
HOP, SPAN = 320, 800  # samples: 50 entries a second, 50 ms each
BANDS, LOWEST_HZ, HIGHEST_HZ = SIZE, 55.0, 7600.0
SILENCE_DB = 40.0  # below the loud parts
DIGITAL_SILENCE_DB = -75.0  # no speech is below this
FEWEST = 10  # entries above it, a fifth of a second, or a recording holds no speech
LIMIT = 3.0  # of normalised values; silence lies at the lower limit with any microphone
BLOCK = 2048  # entries computed at once


class Scale(NamedTuple):
    """What the bands of a recording are brought to mean 0 and variance 1 with."""

    mean: np.ndarray
    """`[80]` float64, dB; infinite where nobody speaks, so that everything counts as silence."""
    spread: np.ndarray
    """`[80]` float64, dB."""


def extract(
    sound: np.ndarray,
    frame_count: int,
    window: int,
    weights: Sequence[Path] = (),
    device: str = "cpu",
    scale: Scale | None = None,
) -> np.ndarray:
    """Return `[frame_count, 80, window]` float32; see `models.audio.Extractor` and `models.audio.Measured`.

    What is before and after the sound counts as silence.
    """
    del weights, device
    margin = window // 2 + 1
    count = int(np.ceil(frame_count / FPS * SAMPLE_RATE / HOP)) + 2 * margin
    entries = log_mel(sound, -margin, count)
    if scale is None:
        lie_in_sound = (np.arange(count) - margin + 0.5) * HOP < len(sound)
        lie_in_sound[:margin] = False
        scale = scale_of_levels(entries[lie_in_sound])
    values = np.clip((entries - scale.mean) / scale.spread, -LIMIT, LIMIT).astype(np.float32)
    return windows(values, (0.5 - margin) * HOP / SAMPLE_RATE, RATE_HZ, frame_count, window)


def measure(sound: np.ndarray) -> Scale:
    """Return the scale that `extract` finds for a recording by itself."""
    return scale_of_levels(log_mel(sound, 0, max(0, int(np.ceil(len(sound) / HOP - 0.5)))))


def reach(window: int) -> int:
    """Return how many samples before and after its instant a frame's window hears."""
    return ((window - 1) * HOP + SPAN) // 2


def log_mel(sound: np.ndarray, first: int, count: int, block: int = BLOCK) -> np.ndarray:
    """Return `[count, 80]` float32 band levels in dB of entries `first` and on.

    Entry k is centred on (k + 1/2) / 50 s, so that an even number of entries lies symmetrically about a frame.
    The power is that of a Hann window of 50 ms; full scale is about 0 dB.
    """
    taper = np.hanning(SPAN + 1)[:SPAN].astype(np.float32)
    bank = mel_bank()
    levels = np.empty((count, BANDS), np.float32)
    for begin in range(0, count, block):
        number = min(block, count - begin)
        start = (first + begin) * HOP + (HOP - SPAN) // 2
        piece = _slice(sound, start, (number - 1) * HOP + SPAN)
        spans = np.lib.stride_tricks.sliding_window_view(piece, SPAN)[::HOP] * taper
        power = np.abs(np.fft.rfft(spans, axis=1)) ** 2 * (4.0 / SPAN**2)
        levels[begin : begin + number] = 10 * np.log10(power @ bank + 1e-10)
    return levels


def scale_of_levels(levels: np.ndarray) -> Scale:
    """Return mean and spread of every band over the entries with speech.

    Args:
        levels: `[N, 80]` dB of a recording, without the silence around it.
    """
    loudness = 10 * np.log10((10 ** (levels.astype(np.float64) / 10)).sum(1))
    loud = float(np.percentile(loudness, 95)) if len(levels) else -np.inf
    if loud < DIGITAL_SILENCE_DB:
        # A few sentences in a recording that is muted otherwise are speech all the same.
        heard = loudness[loudness > DIGITAL_SILENCE_DB]
        if len(heard) < FEWEST:
            return Scale(np.full(BANDS, np.inf), np.ones(BANDS))
        loud = float(np.percentile(heard, 95))
    speech = levels[loudness > loud - SILENCE_DB].astype(np.float64)
    spread = speech.std(0)
    # A band that holds nothing but hum barely varies; its noise must not be blown up to the size of speech.
    return Scale(speech.mean(0), np.maximum(spread, max(1.0, 0.5 * float(np.median(spread)))))


@cache
def mel_bank() -> np.ndarray:
    """Return triangular filters `[401, 80]` evenly spaced on the mel scale 2595 log10(1 + f / 700)."""
    lowest, highest = (float(2595 * np.log10(1 + hertz / 700)) for hertz in (LOWEST_HZ, HIGHEST_HZ))
    edges_mel = np.linspace(lowest, highest, BANDS + 2)
    edges = 700 * (10 ** (edges_mel / 2595) - 1)
    bins = np.arange(SPAN // 2 + 1) * (SAMPLE_RATE / SPAN)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _slice(sound: np.ndarray, start: int, length: int) -> np.ndarray:
    """Return samples `start` and on as float32 in -1..1, silence where there are none."""
    piece = np.zeros(length, np.float32)
    begin, end = max(0, start), min(len(sound), start + length)
    if end > begin:
        piece[begin - start : end - start] = sound[begin:end].astype(np.float32) / 32768
    return piece
