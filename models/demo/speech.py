"""Speech with timed phonemes from the espeak-ng engine (package `espeakng-loader`, extra `demo`), through ctypes."""

import ctypes
import re
import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.errors import InputError, MissingAssetError, UsageError

_RETRIEVAL = 1  # espeak_AUDIO_OUTPUT: hand samples to the callback, play nothing
_OPTIONS = (1 << 0) | (1 << 1) | (1 << 15)  # phoneme events, named in IPA; return an error instead of exiting
_UTF8, _RATE = 1, 1
_END_OF_LIST, _PHONEME = 0, 7

VOICES = {
    ("en", "male"): "en-us+m3",
    ("de", "male"): "de+m3",
    ("de", "female"): "de+f2",
    ("zh", "male"): "cmn+m3",
    ("zh", "female"): "cmn+f2",
}


@dataclass(frozen=True)
class Phoneme:
    """One sound: times in seconds, its IPA symbol without marks (empty for a pause), and whether it bears stress."""

    start_s: float
    end_s: float
    symbol: str
    stressed: bool

    def later(self, seconds: float) -> "Phoneme":
        """The same sound, `seconds` later."""
        return replace(self, start_s=self.start_s + seconds, end_s=self.end_s + seconds)


@dataclass(frozen=True)
class Speech:
    """Synthesised speech: mono int16 samples [S] and the phonemes in it, in order and without gaps."""

    samples: np.ndarray
    sample_rate: int
    phonemes: list[Phoneme]

    @property
    def duration_s(self) -> float:
        """Length of the sound."""
        return len(self.samples) / self.sample_rate

    def padded(self, lead_s: float, duration_s: float) -> "Speech":
        """The same speech after `lead_s` of silence, filled with silence to `duration_s`.

        Raises:
            InputError: the speech does not fit.
        """
        if lead_s + self.duration_s > duration_s:
            raise InputError(
                f"{self.duration_s:.2f} s of speech after {lead_s:.2f} s of silence do not fit into {duration_s:g} s",
                fix="shorten the text or raise the rate",
            )
        lead = round(lead_s * self.sample_rate)
        samples = np.zeros(round(duration_s * self.sample_rate), np.int16)
        samples[lead : lead + len(self.samples)] = self.samples
        shifted = [phoneme.later(lead_s) for phoneme in self.phonemes]
        return Speech(samples, self.sample_rate, [Phoneme(0.0, lead_s, "", False), *shifted])

    def followed_by(self, other: "Speech") -> "Speech":
        """This speech, then another one of the same sample rate."""
        phonemes = [*self.phonemes, *(phoneme.later(self.duration_s) for phoneme in other.phonemes)]
        return Speech(np.concatenate([self.samples, other.samples]), self.sample_rate, phonemes)


class _EventName(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventName),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))

# The engine keeps its state in globals of the library: one instance a process, one synthesis at a time.
_lock = threading.Lock()
_engine: tuple[Any, int] | None = None


def _load() -> tuple[Any, int]:
    global _engine
    if _engine is None:
        try:
            import espeakng_loader
        except ModuleNotFoundError as error:
            raise MissingAssetError(
                "the demo speaker has no voice: the package 'espeakng-loader' is not installed",
                why="it carries the espeak-ng engine, which only the extra 'demo' needs",
                fix="pip install -e '.[demo]'",
            ) from error
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_void_p,
            ctypes.c_void_p,
        ]
        rate = library.espeak_Initialize(_RETRIEVAL, 0, str(espeakng_loader.get_data_path()).encode(), _OPTIONS)
        if rate <= 0:
            raise MissingAssetError(
                f"espeak-ng could not start (code {rate})",
                why="its data may be damaged",
                fix="pip install --force-reinstall espeakng-loader",
            )
        # Breathy voices are mixed with noise, which would otherwise be another one in every process.
        library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        library.espeak_ng_SetRandSeed(1)
        _engine = library, rate
    return _engine


def synthesize(text: str, voice: str = "en-us+m3", rate: int = 165) -> Speech:
    """Speak `text`.

    Args:
        text: UTF-8 text in the voice's language.
        voice: an espeak-ng voice, e.g. a value of `VOICES`.
        rate: words per minute.

    Raises:
        MissingAssetError: the engine's package is not installed.
        UsageError: the engine knows no such voice.
        InputError: it made no sound of the text.
    """
    with _lock:
        library, sample_rate = _load()
        pieces: list[np.ndarray] = []
        marks: list[tuple[float, str]] = []

        def collect(samples: Any, count: int, events: Any) -> int:
            if samples and count > 0:
                pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
            i = 0
            while events[i].type != _END_OF_LIST:
                if events[i].type == _PHONEME:
                    # Eight bytes without a guaranteed terminator: read them raw.
                    name = ctypes.string_at(ctypes.addressof(events[i].id), 8).split(b"\0")[0]
                    marks.append((events[i].audio_position / 1000.0, name.decode("utf-8", "replace")))
                i += 1
            return 0

        callback = _Callback(collect)
        library.espeak_SetSynthCallback(callback)
        # Voice first: choosing one resets the rate.
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise UsageError(f"espeak-ng has no voice {voice!r}", fix=f"use one of {', '.join(VOICES.values())}")
        library.espeak_SetParameter(_RATE, rate, 0)
        encoded = text.encode() + b"\0"
        status = library.espeak_Synth(encoded, len(encoded), 0, 0, 0, _UTF8, None, None)
        library.espeak_Synchronize()
        # The engine must not keep a pointer to a callback that Python is about to free.
        library.espeak_SetSynthCallback(_Callback())
    if status != 0 or not pieces or not any(name for _, name in marks):
        raise InputError(f"espeak-ng made no sound of {text[:40]!r}", why=f"it answered with code {status}")
    samples = np.concatenate(pieces)
    return Speech(samples, sample_rate, _phonemes(marks, len(samples) / sample_rate))


def _phonemes(marks: list[tuple[float, str]], end_s: float) -> list[Phoneme]:
    out = []
    ends = [time for time, _ in marks[1:]] + [end_s]
    for (start, name), end in zip(marks, ends, strict=True):
        end = min(end, end_s)
        if end - start < 0.004:  # the engine marks zero-length joins
            continue
        symbol = re.sub("[ˈˌː̩̃ʲʰ0-9_:;|]", "", name)
        out.append(Phoneme(start, end, symbol, "ˈ" in name))
    return out
