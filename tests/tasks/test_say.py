"""A head says recordings: in sync, of any length, many at once, each pixel if wanted; what cannot be said is told."""

import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from speaking_egg import make_speaking_egg, write_person

from models.audio import logmel
from models.errors import ConsentError, InputError, UsageError
from models.storage import RECORD_FILE
from tasks import say
from tasks.acting import Acting
from tasks.media import FrameReader, probe, read_sound, sound_rate, write_wav
from tasks.places import Keys, Places
from tasks.scene import Shot
from tasks.speech_features import AudioParams, Hearing
from tasks.talker import Talker
from tasks.trained import check_trained

RATE = 16000


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Talker:
    return Talker.of(make_speaking_egg(tmp_path_factory.mktemp("egg")), "egg")


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    count = round(seconds * RATE)
    return (random.normal(0, 3000, count) * (np.sin(np.arange(count) / 1500) > 0)).astype(np.int16)


# ------------------------------------------------------------------------------------------------- where videos go


@pytest.mark.parametrize(
    ("names", "output", "lossless", "wanted"),
    [
        (["a.wav"], "out.mp4", False, ["out.mp4"]),
        (["a.wav"], "new/out.MP4", False, ["new/out.MP4"]),
        (["a.wav"], "out.mkv", True, ["out.mkv"]),
        (["a.wav"], "out", False, ["out/a.mp4"]),
        (["a.wav"], "folder.mp4", False, ["folder.mp4/a.mp4"]),
        (["x/a.wav", "b.mp3"], "out", True, ["out/a.mkv", "out/b.mkv"]),
        (["x/a.wav", "y/a.wav"], "out", False, ["out/x_a.mp4", "out/y_a.mp4"]),
        (["x/a.wav", "x/a.mp3"], "out", False, ["out/a_wav.mp4", "out/a_mp3.mp4"]),
    ],
)
def test_each_recording_has_its_video(
    tmp_path: Path, names: list[str], output: str, lossless: bool, wanted: list[str]
) -> None:
    (tmp_path / "folder.mp4").mkdir()
    videos = say.videos_of([tmp_path / name for name in names], tmp_path / output, lossless)
    assert videos == [tmp_path / name for name in wanted]
    assert all(video.parent.is_dir() for video in videos)


@pytest.mark.parametrize(
    ("names", "output", "lossless"),
    [
        (["a.wav"], "out.avi", False),
        (["a.wav"], "out.mkv", False),
        (["a.wav"], "out.mp4", True),
        (["a.wav"], "file.txt/out.mp4", False),
        (["a.wav", "b.wav"], "out.mp4", False),
        (["x/a.wav", "x/a.wav"], "out", False),
        (["own.mp4"], ".", False),
        (["a.wav"], f"{'a' * 300}.mp4", False),
        (["a.wav"], f"{'a' * 252}.mp4", False),  # there would be no room for the file that it is until it is whole
        ([f"{'a' * 250}.wav"], "out", False),
    ],
)
def test_a_place_where_no_video_can_be_written_is_refused_with_the_way_out(
    tmp_path: Path, names: list[str], output: str, lossless: bool
) -> None:
    for name in ("file.txt", "own.mp4"):
        (tmp_path / name).write_text("")
    with pytest.raises(UsageError) as error:
        say.videos_of([tmp_path / name for name in names], tmp_path / output, lossless)
    assert error.value.fix


def test_the_way_out_can_be_pasted(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        say.videos_of([tmp_path / "a.wav"], tmp_path / "my films" / "out.avi")
    assert error.value.fix == f"-o '{tmp_path}/my films/out.mp4'"


def test_a_head_that_is_not_trained_is_named_with_those_that_are(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.params.write_text("extractors: [logmel]\n")
    with pytest.raises(InputError, match="ann has no head for logmel") as error:
        check_trained(places, "ann", "logmel")
    assert (error.value.why, error.value.fix) == ("trained: none", "gausstalk run ann")
    record = places.record("tg_fuse", Keys(speaker="ann", extractor="logmel")) / RECORD_FILE
    record.parent.mkdir(parents=True)
    record.write_bytes(b"")
    check_trained(places, "ann", "logmel")
    with pytest.raises(InputError, match="no head for hubert") as error:
        check_trained(places, "ann", "hubert")
    assert error.value.fix == "add hubert to extractors in params.yaml, then gausstalk run ann; or --extractor logmel"
    with pytest.raises(UsageError, match="no audio extractor 'nonsense'"):
        check_trained(places, "ann", "nonsense")


# ---------------------------------------------------------------------------------------------------- what is said


def test_a_recording_longer_than_the_clip_is_said_to_its_end(talker: Talker, tmp_path: Path) -> None:
    write_wav(tmp_path / "long.wav", np.concatenate([noise(2.0), np.zeros(32000, np.int16), noise(0.6)]))
    (said,) = say.say(talker, [tmp_path / "long.wav"], tmp_path / "out.mkv", lossless=True)
    assert (said.pictures, said.error) == (115, None)
    info = probe(tmp_path / "out.mkv")
    assert info.has_sound
    assert info.seconds == pytest.approx(4.6, abs=0.05)
    pictures = [picture.astype(int) for picture in FrameReader(tmp_path / "out.mkv")]
    assert len(pictures) == 115
    # The clip's loop is 46 frames long: pictures so far apart differ by what is heard, and by nothing else.
    assert np.abs(pictures[15] - pictures[61]).max() > 3


def test_lossless_keeps_every_pixel_and_sample(talker: Talker, tmp_path: Path) -> None:
    sound = noise(0.5)
    write_wav(tmp_path / "a.wav", sound)
    say.say(talker, [tmp_path / "a.wav"], tmp_path / "out.mkv", lossless=True)
    from tasks.acting import perform
    from tasks.speaking import speak
    from tasks.talking_head import TalkingHead, audio_windows

    values = logmel.extract(sound, 12, 16, scale=logmel.measure(sound))  # as `say` hears it, to the last bit
    drawn = list(speak(TalkingHead(talker.weights), perform(talker.scene), audio_windows(values)))
    pictures = list(FrameReader(tmp_path / "out.mkv"))
    assert len(pictures) == len(drawn) == 12
    assert all(np.array_equal(a, b) for a, b in zip(pictures, drawn, strict=True))
    np.testing.assert_array_equal(read_sound(tmp_path / "out.mkv"), sound[: 12 * 640])


def test_sound_moves_a_head_as_far_as_is_asked_for(talker: Talker, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", noise(0.8))
    acting = Acting(neutral=True, blinks="none")

    def moved(by: float | None) -> float:
        asked = talker.still() if by is None else talker.still().articulating(by)
        say.say(asked, [tmp_path / "a.wav"], tmp_path / "out.mkv", acting, lossless=True)
        return float(np.stack(list(FrameReader(tmp_path / "out.mkv"))).std(0).mean())

    assert moved(0.0) == 0  # nothing but sound could move it
    assert 0 < moved(0.5) < moved(1.0) < moved(1.5)
    assert moved(None) == moved(1.0)  # this head's own
    talker = talker.articulating(1.5)
    assert moved(1.0) < moved(None)


@pytest.mark.parametrize(("rate", "shown"), [(44100, 44100), (8000, 16000), (96000, 48000)])
def test_the_video_has_the_sound_as_it_was_recorded(talker: Talker, tmp_path: Path, rate: int, shown: int) -> None:
    tone = (9000 * np.sin(2 * np.pi * 0.3 * rate * np.arange(rate // 2) / rate)).astype(np.int16)  # 0.3 of its rate
    write_wav(tmp_path / "tone.wav", tone, rate)
    (said,) = say.say(talker, [tmp_path / "tone.wav"], tmp_path / "out.mkv", lossless=True)
    assert said.pictures == 12
    assert sound_rate(tmp_path / "out.mkv") == shown
    heard = read_sound(tmp_path / "out.mkv", shown)[shown // 10 : shown // 3].astype(float)
    at = np.fft.rfftfreq(len(heard), 1 / shown)[np.abs(np.fft.rfft(heard)).argmax()]
    assert (np.abs(heard).max() < 1000) if 0.3 * rate > shown / 2 else at == pytest.approx(0.3 * rate, rel=0.01)


def test_one_bad_recording_does_not_stop_the_others(
    talker: Talker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for name, sound in (("a", noise(0.4)), ("short", noise(0.1)), ("b", noise(0.6))):
        write_wav(tmp_path / f"{name}.wav", sound)
    (tmp_path / "bad.wav").write_text("no sound")
    names = ["a", "short", "bad", "b", "none"]
    outcomes = say.say(talker, [tmp_path / f"{name}.wav" for name in names], tmp_path / "out")
    assert [said.pictures for said in outcomes] == [10, 0, 0, 15, 0]
    assert [said.error.exit_code if said.error else 0 for said in outcomes] == [0, 3, 3, 0, 3]
    assert "nothing can be said" in str(outcomes[1].error)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.mp4", "b.mp4"]
    assert "egg says 5 recordings: 25 pictures" in caplog.text
    caplog.clear()
    assert say.say(talker, [tmp_path / "bad.wav"], tmp_path / "out")[0].error
    assert caplog.text == ""  # nothing was said


def test_a_recording_that_was_cut_off_is_said_as_far_as_it_goes_and_told_of_once(
    talker: Talker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_wav(tmp_path / "a.wav", noise(2.0))
    os.truncate(tmp_path / "a.wav", 44 + 2 * RATE)
    (said,) = say.say(talker, [tmp_path / "a.wav"], tmp_path / "out.mp4")
    assert (said.pictures, said.error) == (25, None)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert "a.wav: its header promises 2.0 s of sound, 1.0 s are there" in told[0]


def test_a_silent_recording_is_told_of(talker: Talker, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_wav(tmp_path / "a.wav", np.zeros_like(noise(0.4)))
    write_wav(tmp_path / "b.wav", noise(0.4))
    outcomes = say.say(talker, [tmp_path / "a.wav", tmp_path / "b.wav"], tmp_path / "out")
    assert [said.pictures for said in outcomes] == [10, 10]
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == [f"{tmp_path / 'a.wav'}: it is silent: the head has nothing to say"]


def test_a_recording_that_breaks_while_it_is_said_leaves_no_video(
    talker: Talker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        write_wav(tmp_path / f"{name}.wav", noise(0.4))
    original = say._read
    times = {"a.wav": 0}

    def read(path: Path, talker: Talker) -> np.ndarray:
        times[path.name] = times.get(path.name, 0) + 1
        if (path.name, times[path.name]) == ("a.wav", 2):  # it was there when all were looked at
            raise InputError(f"{path}: gone")
        return original(path, talker)

    monkeypatch.setattr(say, "_read", read)
    outcomes = say.say(talker, [tmp_path / "a.wav", tmp_path / "b.wav"], tmp_path / "out")
    assert "gone" in str(outcomes[0].error)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.mp4"]


def test_a_long_recording_is_heard_in_blocks_as_if_it_were_one(talker: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(say, "BLOCK_S", 1.6)
    monkeypatch.setattr(say, "MARGIN_S", 0.4)
    monkeypatch.setattr(say, "STRETCH_S", 0.4)
    sound = noise(4.0)
    hearing = Hearing.open("logmel", AudioParams())
    scale = say._scale(sound, RATE, hearing)
    whole = hearing.windows(sound, 100, scale)
    heard = [window for block in say._heard(sound, 100, talker, talker.head(), hearing) for window in block]
    assert len(heard) == 100
    for frame, window in enumerate(heard):
        wanted = whole[[min(max(k, 0), 99) for k in range(frame - 4, frame + 4)]]
        torch.testing.assert_close(window, torch.from_numpy(wanted), atol=1e-4, rtol=0)


def test_the_mark_of_everybody_is_on_the_video(talker: Talker, tmp_path: Path) -> None:
    places = make_speaking_egg(tmp_path)
    write_wav(tmp_path / "a.wav", noise(0.4))
    write_person(places, "research")
    marked = Talker.of(places, "egg")
    for name, who, followed in (("own", marked, ()), ("other", talker, (marked.person,)), ("none", talker, ())):
        say.say(who, [tmp_path / "a.wav"], tmp_path / f"{name}.mp4", Acting(neutral=True), followed)
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            assert ("private evaluation only" in container.metadata.get("comment", "")) == (name != "none")
    write_person(places, "consent")
    assert Talker.of(places, "egg").person.basis == "consent"
    record = places.speaker_record("egg")
    record.write_text(record.read_text().replace("2999", "2021"))
    with pytest.raises(ConsentError, match="expired"):
        Talker.of(places, "egg")


# ------------------------------------------------------------------------------------------------------------ sync


class Flash:
    """A head that is as bright as its middle window is loud."""

    device = "cpu"
    teachers = ()

    def __init__(self, *_: object) -> None:
        pass

    def hear(self, values: np.ndarray) -> np.ndarray:
        return values[:, :, 7:9].mean((1, 2))

    def picture(self, shot: Shot, level: float) -> np.ndarray:
        return np.full(shot.behind.shape, (level + 3) / 6 * 255, np.uint8)


def moments(times: np.ndarray, strength: np.ndarray, near: tuple[float, ...]) -> np.ndarray:
    """Where the strength within 0.15 s of each instant is centred."""
    weights = (strength - np.median(strength)).clip(0)
    around = [np.abs(times - instant) < 0.15 for instant in near]
    return np.array([np.average(times[some], weights=weights[some]) for some in around])


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_flash_and_its_click_are_less_than_half_a_frame_apart(
    talker: Talker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    clicks = (0.5, 0.913, 1.307, 1.71, 2.125, 2.54, 3.333, 3.78, 4.2)
    sound = np.random.default_rng(0).normal(0, 20, round(4.6 * RATE))
    for instant in clicks:
        first = round(instant * RATE) - 80
        sound[first : first + 160] += 15000 * np.sin(np.arange(160) * 0.7)
    write_wav(tmp_path / "clicks.wav", sound.astype(np.int16))
    monkeypatch.setattr("tasks.talker.TalkingHead", Flash)
    say.say(talker, [tmp_path / "clicks.wav"], tmp_path / f"out{ending}", lossless=ending == ".mkv")

    with av.open(str(tmp_path / f"out{ending}")) as container:  # as a player does: by time stamps alone
        shown = [(frame.time, frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0)]
    with av.open(str(tmp_path / f"out{ending}")) as container:
        blocks = [(frame.time, frame.to_ndarray().reshape(-1)) for frame in container.decode(audio=0)]
    times, bright = np.array(shown).T
    heard_at = np.concatenate([time + np.arange(len(block)) / RATE for time, block in blocks])
    heard = np.concatenate([block for _, block in blocks]).astype(float)
    heard /= np.abs(heard).max()
    flash, click = moments(times, bright, clicks), moments(heard_at, heard**2, clicks)
    np.testing.assert_allclose(click, clicks, atol=0.002)  # the recording's own clock has been kept
    assert np.abs(flash - click).max() < 0.020
    assert np.abs(np.mean(flash - click)) < 0.008  # nor is there a constant delay


def test_pictures_are_drawn_ahead_in_order_and_no_further_than_they_are_wanted() -> None:
    drawn = []

    def pictures() -> Iterator[np.ndarray]:
        for number in range(100):
            drawn.append(number)
            if number == 50:
                raise InputError("the recording breaks", "here", "")
            yield np.array(number)

    taken = say._ahead(pictures())
    assert [int(next(taken)) for _ in range(10)] == list(range(10))
    taken.close()
    assert len(drawn) <= 10 + say.AHEAD + 1
    drawn.clear()
    taken = say._ahead(pictures())
    assert [int(next(taken)) for _ in range(50)] == list(range(50))
    with pytest.raises(InputError, match="the recording breaks"):
        next(taken)
