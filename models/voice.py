"""The same words in another voice: pitch, formants and tone colour of speech changed at random, its timing kept.

A listener that is taught to hear the same in all of these copies hears what is said and not who says it (information
perturbation, as in Choi et al., "Neural analysis and synthesis", NeurIPS 2021, section 3).
"""

from __future__ import annotations

import numpy as np

SPAN, HOP = 1024, 256  # samples at 16 kHz
LIFTER = 30  # entries of the cepstrum that make the envelope: formants, not the pitch
PITCH = (0.75, 1.35)  # factors that are drawn
FORMANTS = (0.85, 1.18)
TONE_DB, TONE_WAVES = 6.0, 5  # of the equaliser: its largest gain, and how many waves it is made of


def disguise(sound: np.ndarray, seed: int) -> np.ndarray:
    """Return speech in a voice drawn at random.

    Args:
        sound: int16 `[S]` mono at 16 kHz.
        seed: of the voice.

    Returns:
        int16 `[S]`, as loud as before.
    """
    random = np.random.default_rng(seed)
    pitch, formants = (float(np.exp(random.uniform(*np.log(limits)))) for limits in (PITCH, FORMANTS))
    waves = random.uniform(-1, 1, TONE_WAVES) / np.arange(1, TONE_WAVES + 1)
    return revoice(sound, pitch, formants, TONE_DB * waves / max(1.0, float(np.abs(waves).sum())))


def revoice(sound: np.ndarray, pitch: float, formants: float, tone_db: np.ndarray) -> np.ndarray:
    """Return speech `[S]` int16 with its pitch and its formants multiplied, and an equaliser over it.

    Args:
        sound: int16 `[S]` mono at 16 kHz.
        pitch: factor of the fundamental frequency.
        formants: factor of the envelope's frequencies.
        tone_db: `[n]` gains of cosines of 1/2, 2/2, ... waves over the frequencies.
    """
    if not sound.any():
        return sound.copy()
    samples = sound.astype(np.float64) / 32768
    # Longer or shorter first, then played faster or slower: the pitch moves, and the formants with it.
    stretched = _inverse(_stretch(_spectra(samples), pitch), round(len(samples) * pitch))
    moved = np.interp(np.arange(len(samples)) * pitch, np.arange(len(stretched)), stretched)
    spectra = _spectra(moved)
    envelope = _envelope(spectra)  # [N, F] logarithms
    bins = np.arange(envelope.shape[1], dtype=float)
    wanted = np.array([np.interp(bins * (pitch / formants), bins, row) for row in envelope])
    waves = np.cos(np.pi * np.outer(np.arange(1, len(tone_db) + 1), bins / bins[-1]))
    gain = np.clip(wanted - envelope, -6, 6) + (tone_db @ waves) * (np.log(10) / 20)
    result = _inverse(spectra * np.exp(gain), len(samples))
    result *= np.sqrt(np.mean(samples**2) / max(float(np.mean(result**2)), 1e-12))
    return (result * 32768).clip(-32768, 32767).astype(np.int16)


def _spectra(samples: np.ndarray) -> np.ndarray:
    """Return spectra `[N, F]` of windows centred on multiples of the hop."""
    padded = np.pad(samples, (SPAN // 2, SPAN))
    views = np.lib.stride_tricks.sliding_window_view(padded, SPAN)[::HOP]
    return np.fft.rfft(views[: len(samples) // HOP + 1] * np.hanning(SPAN + 1)[:SPAN], axis=1)


def _inverse(spectra: np.ndarray, count: int) -> np.ndarray:
    """Return `count` samples of spectra, the windows added up where they overlap."""
    window = np.hanning(SPAN + 1)[:SPAN]
    pieces = np.fft.irfft(spectra, SPAN, axis=1) * window
    total, weight = (np.zeros(len(spectra) * HOP + SPAN) for _ in range(2))
    for number, piece in enumerate(pieces):
        place = slice(number * HOP, number * HOP + SPAN)
        total[place] += piece
        weight[place] += window**2
    samples = (total / np.maximum(weight, 1e-3))[SPAN // 2 :]
    return np.pad(samples, (0, max(0, count - len(samples))))[:count]


def _stretch(spectra: np.ndarray, factor: float) -> np.ndarray:
    """Return spectra of a sound `factor` times as long at the same pitch (phase vocoder, Flanagan and Golden, 1966)."""
    last = len(spectra) - 1
    places = np.arange(int(len(spectra) * factor) + 1) / factor
    places = places.clip(0, last)
    below = np.minimum(places.astype(int), max(last - 1, 0))
    share = (places - below)[:, None]
    above = np.minimum(below + 1, last)
    sizes, phases = np.abs(spectra), np.angle(spectra)
    size = sizes[below] * (1 - share) + sizes[above] * share
    usual = 2 * np.pi * HOP / SPAN * np.arange(spectra.shape[1])
    advance = phases[above] - phases[below] - usual
    advance = usual + advance - 2 * np.pi * np.round(advance / (2 * np.pi))
    phase = phases[0] + np.concatenate([np.zeros((1, spectra.shape[1])), np.cumsum(advance[:-1], 0)])
    return size * np.exp(1j * phase)


def _envelope(spectra: np.ndarray) -> np.ndarray:
    """Return the logarithm of each spectrum's envelope `[N, F]`, from its cepstrum's first entries."""
    cepstra = np.fft.irfft(np.log(np.abs(spectra) + 1e-5), SPAN, axis=1)
    cepstra[:, LIFTER : SPAN - LIFTER + 1] = 0
    return np.fft.rfft(cepstra, axis=1).real
