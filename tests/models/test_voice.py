"""A disguised voice says the same at the same time, with other harmonics and formants."""

import numpy as np
import pytest

from models.voice import disguise, revoice

RATE = 16000


def vowel(pitch=120.0, formants=(700.0, 1220.0, 2600.0), seconds=1.5, syllables=4.0):
    """A buzz through resonances, as loud as syllables are."""
    time = np.arange(int(seconds * RATE)) / RATE
    sound = np.zeros_like(time)
    for number in range(1, int(7000 / pitch)):
        hertz = number * pitch
        gain = sum(1 / (1 + ((hertz - formant) / 90) ** 2) for formant in formants) + 0.01
        sound += gain * np.sin(2 * np.pi * hertz * time + number**2)
    sound *= 0.55 + 0.45 * np.sin(2 * np.pi * syllables * time)
    return (sound / np.abs(sound).max() * 20000).astype(np.int16)


def pitch_of(sound):
    middle = sound[len(sound) // 2 :][:8192].astype(float)
    own = np.correlate(middle, middle, "full")[len(middle) :]
    lags = np.arange(RATE // 350, RATE // 70)
    return RATE / (lags[np.argmax(own[lags - 1])])


def centre_of(sound, low=1800, high=4200):
    """Where the third formant lies."""
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    inside = (hertz > low) & (hertz < high)
    return (power * hertz)[inside].sum() / power[inside].sum()


def loudness(sound):
    return np.array([np.sqrt(np.mean(part.astype(float) ** 2)) for part in np.array_split(sound, len(sound) // 320)])


@pytest.mark.parametrize(("pitch", "formants"), [(1.0, 1.0), (1.3, 1.0), (0.8, 1.0), (1.0, 1.15), (1.25, 0.88)])
def test_pitch_and_formants_move_apart_from_each_other(pitch, formants):
    sound = vowel()
    other = revoice(sound, pitch, formants, np.zeros(0))
    assert len(other) == len(sound)
    assert pitch_of(other) == pytest.approx(120 * pitch, rel=0.03)
    assert centre_of(other) == pytest.approx(centre_of(sound) * formants, rel=0.05)
    assert np.corrcoef(loudness(sound), loudness(other))[0, 1] > 0.9  # nothing is said earlier or later


def test_an_equaliser_tilts_the_spectrum():
    sound = vowel()
    bright, dark = (revoice(sound, 1.0, 1.0, np.array([gain])) for gain in (-6.0, 6.0))

    def tilt(samples):
        power = np.abs(np.fft.rfft(samples)) ** 2
        edge = int(2000 / RATE * len(samples))
        return 10 * np.log10(power[edge:].sum() / power[:edge].sum())

    assert 3 < tilt(bright) - tilt(dark) < 20


def test_disguises_differ_and_can_be_had_again():
    sound = vowel(seconds=0.6)
    again = disguise(sound, 3)
    assert np.array_equal(disguise(sound, 3), again)
    assert again.dtype == np.int16
    assert np.corrcoef(disguise(sound, 4), again)[0, 1] < 0.9
    assert np.std(again) == pytest.approx(np.std(sound), rel=0.05)
    silent = np.zeros(4000, np.int16)
    assert not disguise(silent, 1).any()
    assert len(disguise(sound[:50], 1)) == 50
