"""Live pictures are those of `say` for the same sound, and come as soon as they can."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from speaking_egg import make_speaking_egg

from models.audio import logmel
from models.errors import UsageError
from tasks import live, say
from tasks.acting import Acting, perform
from tasks.live import look_ahead, stream
from tasks.speaking import speak
from tasks.speech_features import AudioParams, Hearing
from tasks.talker import Talker
from tasks.talking_head import TalkingHead, audio_windows


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Talker:
    return Talker.of(make_speaking_egg(tmp_path_factory.mktemp("egg")), "egg")


def noise(samples: int) -> np.ndarray:
    random = np.random.default_rng(1)
    return (random.normal(0, 3000, samples) * (np.sin(np.arange(samples) / 1500) > 0)).astype(np.int16)


def offline(talker: Talker, sound: np.ndarray, acting: Acting, scale: logmel.Scale) -> list[np.ndarray]:
    """What `say` draws, with a given scale in the place of the recording's own."""
    count = say.picture_count(len(sound), talker)
    values = Hearing.open("logmel", AudioParams()).windows(sound, count, scale)
    return list(speak(TalkingHead(talker.weights), perform(talker.scene, acting), audio_windows(values)))


@pytest.mark.parametrize("samples", [100, 1281, 3000, 20123])
@pytest.mark.parametrize("chunk", [160, 1024, 100_000])
def test_the_pictures_are_those_of_say(talker: Talker, samples: int, chunk: int) -> None:
    sound, acting = noise(samples), Acting(blinks=40.0, seed=2)
    chunks = (sound[start : start + chunk] for start in range(0, samples, chunk))
    live_pictures = list(stream(talker, chunks, acting))
    wanted = offline(talker, sound, acting, talker.scale)
    assert len(live_pictures) == len(wanted)
    for found, picture in zip(live_pictures, wanted, strict=True):
        assert np.abs(found.astype(int) - picture).max() <= 1


def test_with_the_recordings_own_scale_they_are_those_of_say_as_it_is(talker: Talker) -> None:
    sound = noise(20000)
    values = logmel.extract(sound, 31, 16)
    wanted = speak(TalkingHead(talker.weights), perform(talker.scene), audio_windows(values))
    found = list(stream(talker, [sound], scale=logmel.measure(sound)))
    for one, other in zip(found, wanted, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    other_scale = list(stream(talker, [sound]))
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(found, other_scale, strict=True)) > 3


def test_a_picture_comes_as_soon_as_what_it_hears_is_there(talker: Talker) -> None:
    assert look_ahead(talker) == 4720  # 0.295 s
    given = 0

    def microphone() -> Iterator[np.ndarray]:
        nonlocal given
        for start in range(0, 32000, 80):
            given = start + 80
            yield noise(32000)[start : start + 80]

    waits = [given - 640 * number for number, _ in enumerate(stream(talker, microphone()))]
    assert len(waits) == 50
    assert all(0 <= wait - 4720 < 80 for wait in waits[:42])
    assert all(given == 32000 for _ in waits[43:])


def test_no_sound_beyond_the_look_ahead_changes_a_picture(talker: Talker) -> None:
    sound = noise(16000)
    other = sound.copy()
    other[10 * 640 + 4720 :] = 20000
    first, second = (list(stream(talker, [samples])) for samples in (sound, other))
    assert all(np.array_equal(first[k], second[k]) for k in range(11))
    assert not np.array_equal(first[13], second[13])


def test_memory_does_not_grow_with_the_sound(talker: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = 0
    original = Hearing.windows

    def watched(self: Hearing, sound: np.ndarray, count: int, scale: object = None) -> np.ndarray:
        nonlocal longest
        longest = max(longest, len(sound), count * 640)
        return original(self, sound, count, scale)

    monkeypatch.setattr(Hearing, "windows", watched)
    monkeypatch.setattr(live, "speak", lambda head, shots, windows: (w.numpy() for w in windows))
    monkeypatch.setattr(live, "draw_mark", lambda picture, mark: picture)
    minute = np.zeros(60 * 16000, np.int16)
    assert sum(1 for _ in stream(talker, (minute for _ in range(3)))) == 3 * 60 * 25
    assert longest < 2 * 16000


def test_research_heads_are_marked_live_too(talker: Talker) -> None:
    marked = talker.person.model_copy(update={"basis": "research"})
    plain, strip = (
        next(stream(dataclasses.replace(talker, person=person), [noise(6000)])) for person in (talker.person, marked)
    )
    assert np.array_equal(plain[:30], strip[:30])
    assert not np.array_equal(plain[-8:], strip[-8:])
    followed = next(stream(talker, [noise(6000)], followed=[marked]))
    np.testing.assert_array_equal(followed, strip)


def test_what_cannot_be_streamed_is_refused_at_once(talker: Talker, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(UsageError, match="float32"):
        next(stream(talker, [np.zeros(9999, np.float32)]))
    monkeypatch.setattr("tasks.speech_features.find_asset", lambda *_: tmp_path)
    with pytest.raises(UsageError, match="speech_embedding cannot follow live sound") as error:
        stream(dataclasses.replace(talker, extractor="speech_embedding"), [])
    assert "logmel" in error.value.fix
    assert torch.is_grad_enabled()
