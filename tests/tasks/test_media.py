"""Pictures and sound of any recording meet on one clock; what is broken says so in one typed error."""

import contextlib
import os
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from clips import clicks, make_clip, read_stamp, stamped, turn_upright_flag

from models.errors import InputError, UsageError
from tasks.media import FrameReader, draw_mark, probe, read_frames_near, read_sound, write_video, write_wav

CLICKS = (0.5, 1.3, 1.9)


def onsets(sound: np.ndarray, rate: int = 16000) -> np.ndarray:
    """Seconds at which clicks begin."""
    loud = np.flatnonzero(np.abs(sound.astype(int)) > 8000) / rate
    return loud[np.concatenate([[True], np.diff(loud) > 0.1])] if len(loud) else loud


@pytest.mark.parametrize("rate", [15, 24, 25, 29.97, 30, 50, 60])
def test_every_picture_is_the_one_nearest_to_its_instant(tmp_path: Path, rate: float) -> None:
    path = make_clip(tmp_path / "clip.mp4", 2.4, rate, sound=clicks(2.4, 48000, CLICKS), codec="libx264")
    reader = FrameReader(path)
    pictures = list(reader)
    assert reader.count == len(pictures) == 60
    shown = np.array([read_stamp(picture) for picture in pictures]) / rate
    assert np.abs(shown - np.arange(60) / 25).max() <= 0.5 / rate + 1e-3
    sound = read_sound(path, origin_s=reader.origin_s, samples=60 * 640)
    assert len(sound) == 60 * 640
    np.testing.assert_allclose(onsets(sound), CLICKS, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "codec", "sound_codec", "start", "sound_start"),
    [
        ("late_sound.mp4", "libx264", "aac", 0.0, 0.4),
        ("late_picture.mp4", "libx264", "aac", 0.4, 0.0),
        ("clock_of_5_s.mkv", "libx264", "aac", 5.0, 5.0),
        ("early_sound.mkv", "libx264", "flac", 1.0, 0.9),
        ("stream.ts", "libx264", "aac", 0.0, 0.0),
        ("programme.mpg", "mpeg1video", "mp2", 0.0, 0.0),
        ("plain.avi", "mpeg4", "pcm_s16le", 0.0, 0.0),
        ("broadcast.mp4", "libx264", "mp3", 0.0, 0.0),  # an edit list leaves out what its encoder begins with
    ],
)
def test_sound_keeps_its_offset_to_the_pictures(
    tmp_path: Path, name: str, codec: str, sound_codec: str, start: float, sound_start: float
) -> None:
    path = make_clip(
        tmp_path / name,
        2.4,
        25,
        start=start,
        sound=clicks(2.4, 48000, CLICKS),
        sound_start=sound_start,
        codec=codec,
        sound_codec=sound_codec,
    )
    reader = FrameReader(path)
    assert [read_stamp(picture) for picture in reader] == list(range(60))
    sound = read_sound(path, origin_s=reader.origin_s, samples=60 * 640)
    np.testing.assert_allclose(onsets(sound), np.array(CLICKS) + sound_start - start, atol=2e-3)


def test_variable_frame_rate_is_resampled_by_time_stamps(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 0.3, 0.31, 0.32, 0.9, 1.0, 1.04, 1.5, 1.54]
    reader = FrameReader(make_clip(tmp_path / "vfr.mkv", times=times, codec="libx264"))
    pictures = list(reader)
    shown = np.array([times[read_stamp(picture)] for picture in pictures])
    instants = np.arange(len(pictures)) / 25
    nearest = np.abs(np.array(times)[:, None] - instants).min(0)
    np.testing.assert_allclose(np.abs(shown - instants)[:39], nearest[:39], atol=2e-3)
    assert reader.source_count == len(times)


def test_a_phone_video_comes_out_upright(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "phone.mp4", 0.4, size=(96, 64), codec="libx264")
    lying = next(iter(FrameReader(path)))
    turn_upright_flag(path)
    info = probe(path)
    assert (info.width, info.height) == (64, 96)
    upright = next(iter(FrameReader(path)))
    assert upright.shape == (96, 64, 3)
    np.testing.assert_array_equal(upright, np.rot90(lying, -1))
    (picture,) = read_frames_near(path, [0.1])
    assert picture is not None
    assert picture.shape == (96, 64, 3)


def test_pictures_are_those_of_their_instants_however_far_the_key_frames_lie_apart(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "one_key.mp4", 8.0, codec="libx264", options={"movflags": "faststart"})
    images = read_frames_near(path, [0.0, 1.0, 3.02, 20.0, 7.9, 7.99, 1.0])
    stamps = [image if image is None else read_stamp(image) for image in images]
    assert stamps == [0, 25, 76, None, 198, 199, 25]  # what cannot be read keeps its place


def test_a_recording_written_live_is_as_long_as_its_packets_say(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "live.mkv", 2.0, codec="libx264", options={"live": "1"})
    with av.open(str(path)) as container:
        assert not container.duration
    assert probe(path).seconds == pytest.approx(2.0, abs=0.05)
    assert len(list(FrameReader(path))) == 50
    (picture,) = read_frames_near(path, [1.0])
    assert picture is not None
    assert read_stamp(picture) == 25


def test_a_name_with_a_colon_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(Path("talk:1.mp4"), [np.zeros((32, 32, 3), np.uint8)] * 3, 25, None, 16000, "", {})
    assert len(list(FrameReader(Path("talk:1.mp4")))) == 3


def test_odd_sizes_are_read_and_written(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "odd.mkv", 0.4, size=(65, 49), codec="ffv1", sound_codec="flac")
    pictures = list(FrameReader(path))
    assert pictures[0].shape == (49, 65, 3)
    write_video(tmp_path / "even.mp4", pictures, 25, None, 16000, "", {})
    info = probe(tmp_path / "even.mp4")
    assert (info.width, info.height, info.has_sound) == (66, 50, False)
    write_video(tmp_path / "odd_again.mkv", pictures, 25, None, 16000, "", {}, lossless=True)
    for one, other in zip(FrameReader(tmp_path / "odd_again.mkv"), pictures, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("keep", [0.3, 0.75])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.mkv"])
def test_a_truncated_video_says_at_which_second(tmp_path: Path, name: str, keep: float) -> None:
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    path = make_clip(tmp_path / name, 3.0, sound_codec="aac" if options else "pcm_s16le", options=options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError, match=r"breaks at \d\.\d s") as raised:
        list(FrameReader(path))
    assert raised.value.why
    assert "use_damaged" in raised.value.fix
    reader = FrameReader(path, use_damaged=True)
    pictures = list(reader)
    assert [read_stamp(picture) for picture in pictures] == list(range(len(pictures)))
    assert 0.1 < len(pictures) / 75 < keep + 0.1
    assert reader.note.startswith("only the first")


def test_damaged_pictures_are_never_taken_for_good_ones(tmp_path: Path) -> None:
    data = make_clip(tmp_path / "good.mp4", 3.0, codec="libx264").read_bytes()
    random = np.random.default_rng(1)
    for turn in range(40):
        broken = bytearray(data)
        for place in random.integers(0, len(data), 1 + turn % 10):
            broken[place] = random.integers(0, 256)
        path = tmp_path / "broken.mp4"
        path.write_bytes(bytes(broken))
        count = 0
        with contextlib.suppress(InputError):
            reader = FrameReader(path, max_seconds=60, threads=1)
            pictures = sum(1 for _ in reader)
            read_sound(path, origin_s=reader.origin_s, samples=pictures * 640)
            count = pictures
        assert count == 0 or 70 <= count <= 80


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.mp4", b"", "empty"),
        ("text.mp4", b"these are words, not a video\n" * 50, "not a video"),
        ("playlist.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://localhost:9/a.ts\n", "not a video"),
        ("list.mp4", b"ffconcat version 1.0\nfile other.mp4\n", "not a video"),
        ("noise.mp4", bytes(range(256)) * 40, "not a video"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for read in (FrameReader, read_sound):
        with pytest.raises(InputError, match=says) as raised:
            read(path)
        assert raised.value.fix
        assert "Errno" not in str(raised.value)
        assert str(raised.value).count(str(path)) == 1


def test_missing_files_streams_and_sizes_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        FrameReader(tmp_path / "absent.mp4")
    silent = make_clip(tmp_path / "silent.mp4", 0.4, sound=np.empty(0, np.int16))
    with pytest.raises(InputError, match="no sound"):
        read_sound(silent)
    write_wav(tmp_path / "voice.wav", np.zeros(1600, np.int16))
    with pytest.raises(InputError, match="no picture"):
        FrameReader(tmp_path / "voice.wav")
    huge = make_clip(tmp_path / "huge.avi", size=(4112, 4096), times=[0], sound=np.empty(0, np.int16))
    with pytest.raises(InputError, match="4112 x 4096"):
        FrameReader(huge)
    with pytest.raises(InputError, match="lasts 3 s"):
        FrameReader(make_clip(tmp_path / "long.mp4", 3.0), max_seconds=2)
    jumping = make_clip(tmp_path / "jump.mkv", times=[0, 0.04, 0.08, 90, 90.04], codec="libx264")
    with pytest.raises(InputError, match="breaks at 0.1 s") as raised:
        list(FrameReader(jumping))
    assert "clock jumps" in raised.value.why


def test_eight_and_twenty_four_bit_stereo_wav(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050)
    for width in (1, 3):
        with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
            file.setnchannels(2 if width == 3 else 1)
            file.setsampwidth(width)
            file.setframerate(22050)
            if width == 1:
                file.writeframes((tone * 100 + 128).astype(np.uint8).tobytes())
            else:
                both = np.repeat((tone * 0.78 * 2**23).astype("<i4")[:, None], 2, axis=1)
                file.writeframes(both.reshape(-1, 1).view(np.uint8).reshape(-1, 4)[:, :3].tobytes())
        sound = read_sound(tmp_path / "voice.wav").astype(float) / 32768
        assert abs(len(sound) - 16000) <= 1
        expected = 0.78 * np.sin(2 * np.pi * 440 * np.arange(len(sound)) / 16000)
        assert np.abs(sound - expected)[200:-200].max() < 0.02


def test_mp3_and_sound_without_numbers(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mkv", 2.0, sound=clicks(2.0, 44100, [1.0]), sound_rate=44100, sound_codec="mp3")
    np.testing.assert_allclose(onsets(read_sound(path, origin_s=0.0)), [1.0], atol=2e-3)
    samples = np.zeros(8000, np.float32)
    samples[4000] = np.nan
    with av.open(str(tmp_path / "nan.wav"), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="no numbers"):
        read_sound(tmp_path / "nan.wav")


def test_a_hole_in_the_sound_stays_a_hole(tmp_path: Path) -> None:
    path = tmp_path / "hole.mkv"
    sound = clicks(3.0, 48000, [0.5, 2.5])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=48000, layout="mono")
        for first in range(0, len(sound), 4608):
            frame = av.AudioFrame.from_ndarray(sound[None, first : first + 4608], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48000, first
            for packet in stream.encode(frame):
                if not 1.0 < float(packet.pts * packet.time_base) < 2.0:
                    container.mux(packet)
        container.mux(stream.encode(None))
    heard = read_sound(path)
    np.testing.assert_allclose(onsets(heard), [0.5, 2.5], atol=5e-3)
    assert not heard[int(1.2 * 16000) : int(1.8 * 16000)].any()


def test_a_written_video_carries_pictures_sound_mark_and_metadata(tmp_path: Path) -> None:
    pictures = [stamped(k, 128, 128) for k in range(30)]
    mark = "research - private evaluation only"
    metadata = {"basis": "research", "speaker": "ada", "drive": "de_f", "made_with": "gausstalk"}
    sound = clicks(3.0, 22050, [0.4, 0.9])
    path = tmp_path / "new" / "out.mp4"
    assert write_video(path, iter(pictures), 25, sound, 22050, mark, metadata) == 30
    with av.open(str(path)) as container:
        assert {**metadata, "comment": mark, "copyright": mark}.items() <= container.metadata.items()
        assert container.duration / 1e6 == pytest.approx(1.2, abs=0.08)  # the sound is cut to the pictures
    back = list(FrameReader(path))
    assert [read_stamp(picture) for picture in back] == list(range(30))
    top = np.abs(back[7][:64].astype(int) - pictures[7][:64])
    assert (top**2).mean() < 20  # 35 dB
    strip = back[7][-8:].astype(int)
    assert strip.max() > 180  # readable on
    assert np.median(strip) < 60  # dark ground
    np.testing.assert_allclose(onsets(read_sound(path)), [0.4, 0.9], atol=3e-3)
    assert [file.name for file in path.parent.iterdir()] == ["out.mp4"]


def test_colours_survive_writing_and_reading(tmp_path: Path) -> None:
    for size in (64, 736):  # players guess other colours for large pictures than for small ones
        picture = np.zeros((size, size, 3), np.uint8)
        for place, colour in enumerate([(200, 30, 40), (30, 190, 60), (40, 50, 210), (220, 170, 140)]):
            picture[:, place * size // 4 : (place + 1) * size // 4] = colour
        write_video(tmp_path / "out.mp4", [picture] * 3, 25, None, 16000, "", {})
        back = next(iter(FrameReader(tmp_path / "out.mp4")))
        middles = [size // 8 + place * size // 4 for place in range(4)]
        assert np.abs(back[size // 2, middles].astype(int) - picture[size // 2, middles]).max() <= 2
        assert np.abs(back[:, middles].mean((0, 1)) - picture[:, middles].mean((0, 1))).max() < 0.8


def test_the_same_pictures_give_the_same_video(tmp_path: Path) -> None:
    def contents(path: Path) -> tuple:
        with av.open(str(path)) as container:
            metadata = dict(container.metadata)
            packets = [packet for packet in container.demux() if packet.size]
            times = [(packet.stream.type, packet.pts, packet.duration) for packet in packets]
            decoded = [frame.to_ndarray().tobytes() for packet in packets for frame in packet.decode()]
        return metadata, times, decoded

    pictures = [stamped(k) for k in range(10)]
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, pictures, 25, clicks(0.4, 16000, [0.1]), 16000, "x", {"speaker": "ada"})
    # Not the bytes: once in thousands of times x264 takes one more for the same pictures.
    assert contents(tmp_path / "a.mp4") == contents(tmp_path / "b.mp4")


def test_a_video_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    def breaking():
        yield stamped(0)
        raise InputError("the renderer stopped")

    for frames, error in ((breaking(), InputError), ([], UsageError), ([stamped(0), stamped(1, 32, 32)], UsageError)):
        with pytest.raises(error):
            write_video(tmp_path / "out.mp4", frames, 25, None, 16000, "", {})
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_has_left_of_a_video_goes_with_the_next_one(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path = tmp_path / "a[1].mp4"
    for process in (gone.pid, os.getppid()):
        (tmp_path / f".{path.name}.part-{process}").write_text("")
    write_video(path, [stamped(0)], 25, None, 16000, "", {})
    assert {file.name for file in tmp_path.iterdir()} == {path.name, f".{path.name}.part-{os.getppid()}"}


def test_no_mark_leaves_the_picture_alone() -> None:
    image = stamped(3)
    np.testing.assert_array_equal(draw_mark(image, ""), image)
    marked = draw_mark(image, "research - private evaluation only")
    np.testing.assert_array_equal(marked[:50], image[:50])
    assert (marked[-12:] != image[-12:]).mean() > 0.5
