"""Mouth shapes from timed phonemes: targets blended by dominance functions, then hard rules for lip contact.

The blend follows Cohen and Massaro, "Modeling coarticulation in synthetic visual speech" (1993): every sound has a
target and a dominance that falls off exponentially around it; a coefficient is the dominance-weighted mean of targets.
"""

import numpy as np

from models.demo.fields import Array, smoothstep
from models.demo.speech import Phoneme

MOUTH: tuple[str, ...] = (
    "jaw",
    "seal",
    "round",
    "spread",
    "press",
    "upper_lip",
    "lower_lip",
    "tuck",
    "tongue_up",
    "tongue_forward",
)
_COLUMN = {name: i for i, name in enumerate(MOUTH)}

VOWELS = frozenset("aɑæʌɐɛeɪiəɜɚɤɔɒoʊuyʏøœᵻɨ")
BILABIAL = frozenset("pbm")
LABIODENTAL = frozenset("fv")
_PROTRUDED = frozenset({"w", "ʃ", "ʒ", "tʃ", "dʒ", "ɹ"})
LEAD_S = 0.02  # the mouth runs ahead of the sound

_TABLE: dict[str, dict[str, float]] = {
    "a ɑ": {"jaw": 0.44, "upper_lip": 0.20, "lower_lip": 0.25},
    "æ": {"jaw": 0.40, "spread": 0.40, "upper_lip": 0.30, "lower_lip": 0.35},
    "ʌ ɐ": {"jaw": 0.32, "upper_lip": 0.12, "lower_lip": 0.20},
    "ɛ e": {"jaw": 0.26, "spread": 0.45, "upper_lip": 0.22, "lower_lip": 0.30},
    "ɪ": {"jaw": 0.17, "spread": 0.42, "upper_lip": 0.18, "lower_lip": 0.28},
    "i": {"jaw": 0.12, "spread": 0.80, "upper_lip": 0.30, "lower_lip": 0.40},
    "ə ɜ ɚ ɤ ᵻ ɨ": {"jaw": 0.19, "upper_lip": 0.10, "lower_lip": 0.18},
    "ɔ ɒ": {"jaw": 0.36, "round": 0.55, "lower_lip": 0.15},
    "o": {"jaw": 0.26, "round": 0.80, "lower_lip": 0.10},
    "ʊ": {"jaw": 0.17, "round": 0.70},
    "u": {"jaw": 0.12, "round": 0.95},
    "y ʏ ø œ": {"jaw": 0.16, "round": 0.85},
    "w ɥ": {"jaw": 0.08, "round": 1.0},
    "p b m": {"jaw": 0.11, "seal": 1.0, "press": 0.35},
    "f v": {"jaw": 0.08, "tuck": 1.0},
    "θ ð": {"jaw": 0.12, "tongue_forward": 1.0, "tongue_up": 0.75, "upper_lip": 0.10, "lower_lip": 0.25},
    "t d n l ɾ": {"jaw": 0.11, "tongue_up": 1.0, "upper_lip": 0.10, "lower_lip": 0.22},
    "s z ts": {"jaw": 0.05, "spread": 0.35, "upper_lip": 0.25, "lower_lip": 0.45, "tongue_up": 0.5},
    "ʃ ʒ tʃ dʒ ɕ tɕ ʂ ʐ s. ts.": {"jaw": 0.07, "round": 0.60, "upper_lip": 0.30, "lower_lip": 0.40},
    "ɹ r ɻ": {"jaw": 0.13, "round": 0.45, "lower_lip": 0.10},
    "k ɡ g ŋ x χ ç j h ʔ q": {"jaw": 0.15, "upper_lip": 0.08, "lower_lip": 0.18},
}
_GAIN = {"jaw": 1.12, "upper_lip": 1.4, "lower_lip": 1.4}


def _row(values: dict[str, float]) -> Array:
    return np.array([values.get(name, 0.0) * _GAIN.get(name, 1.0) for name in MOUTH])


TARGETS = {symbol: _row(values) for symbols, values in _TABLE.items() for symbol in symbols.split()}
REST = np.zeros(len(MOUTH))

# Peak dominance (consonant, vowel) where it is not 1.
_DOMINANCE = {
    "jaw": (0.55, 1.0),
    "round": (0.5, 1.0),
    "spread": (0.35, 1.0),
    "upper_lip": (0.5, 0.8),
    "lower_lip": (0.6, 0.8),
    "tongue_up": (1.0, 0.5),
    "tongue_forward": (1.0, 0.5),
}


def split(phonemes: list[Phoneme]) -> list[Phoneme]:
    """Break diphthongs and affricates that have no target of their own into sounds that have one.

    The first part of a diphthong gets 1.3 times the length of the others; an unknown sound becomes a neutral vowel.
    """
    out = []
    for p in phonemes:
        if p.symbol == "" or p.symbol in TARGETS:
            out.append(p)
            continue
        parts = [c for c in p.symbol if c in TARGETS]
        if not parts:
            out.append(Phoneme(p.start_s, p.end_s, "ə", p.stressed))
            continue
        shares = np.ones(len(parts))
        shares[0] = 1.3 if parts[0] in VOWELS else 1.0
        edges = p.start_s + (p.end_s - p.start_s) * np.append(0.0, np.cumsum(shares) / shares.sum())
        for part, start, end in zip(parts, edges[:-1], edges[1:], strict=True):
            out.append(Phoneme(float(start), float(end), part, p.stressed and part in VOWELS))
    return out


def _peak(symbol: str, name: str) -> float:
    if symbol == "":
        return 0.5
    if symbol in BILABIAL:
        return {"jaw": 0.9, "seal": 3.0, "press": 3.0}.get(name, 0.25)
    if symbol in LABIODENTAL:
        return {"jaw": 0.9, "tuck": 3.0}.get(name, 0.4)
    if symbol in _PROTRUDED and name == "round":
        return 1.3
    return _DOMINANCE.get(name, (1.0, 1.0))[1 if symbol[0] in VOWELS else 0]


def mouth_track(phonemes: list[Phoneme], times_s: Array) -> Array:
    """Mouth coefficients [T, len(MOUTH)] at the given instants.

    Args:
        phonemes: timed sounds, as from `speech.synthesize`.
        times_s: instants [T].
    """
    times = times_s + LEAD_S
    sounds = split(phonemes)
    blended = np.zeros((len(times), len(MOUTH)))
    weight = np.full((len(times), len(MOUTH)), 1e-3)
    for sound in sounds:
        target = TARGETS.get(sound.symbol, REST).copy()
        length = sound.end_s - sound.start_s
        vowel = sound.symbol != "" and sound.symbol[0] in VOWELS
        target[0] *= (1.15 if sound.stressed else 1.0) * (0.8 if vowel and length < 0.07 else 1.0)
        away = times - 0.5 * (sound.start_s + sound.end_s)
        outside = np.maximum(np.abs(away) - 0.35 * length, 0.0)
        for j, name in enumerate(MOUTH):
            onset = 9.0 if name == "round" else 14.0  # rounding is anticipated earlier than the rest
            rate = 1.6 * np.where(away < 0, onset, 13.0)
            dominance = _peak(sound.symbol, name) * min(1.0, 0.4 + length / 0.12) * np.exp(-rate * outside)
            blended[:, j] += dominance * target[j]
            weight[:, j] += dominance
    track = blended / weight
    for sound in sounds:
        if sound.symbol in BILABIAL | LABIODENTAL:
            _enforce_contact(track, sound, times)
    track[:, _COLUMN["seal"]] = np.clip(track[:, _COLUMN["seal"]], 0.0, 1.0)
    return track


def _enforce_contact(track: Array, sound: Phoneme, times: Array) -> None:
    """Lips or teeth touch all through the closure, however short: blending alone would leave a gap."""
    length = sound.end_s - sound.start_s
    start = sound.start_s - 0.005
    # A stop is released before its end; the window is never shorter than what one frame needs to land in it.
    end = sound.start_s + max(length * (0.75 if sound.symbol in "pb" else 1.0), 0.045)
    w = smoothstep(0.0, 1.0, np.minimum((times - start + 0.06) / 0.06, (end + 0.045 - times) / 0.045))
    if sound.symbol in BILABIAL:
        for name, goal in (("seal", 1.0), ("press", 0.35)):
            track[:, _COLUMN[name]] += (goal - track[:, _COLUMN[name]]) * w
        for name in ("upper_lip", "lower_lip", "tuck"):
            track[:, _COLUMN[name]] *= 1 - w
        track[:, _COLUMN["jaw"]] *= 1 - 0.25 * w
    else:
        track[:, _COLUMN["tuck"]] = np.maximum(track[:, _COLUMN["tuck"]], w)
        track[:, _COLUMN["jaw"]] *= 1 - 0.4 * w
