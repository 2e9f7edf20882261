"""Whatever file a voice comes in, the same is heard at the same instant, and the same features come of it."""

from pathlib import Path

import av
import numpy as np
import pytest

from models.audio import logmel
from tasks.media import read_sound, warn_if_cut_off, write_wav

SECONDS, RATE = 2.0, 16000
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def voice(rate: int) -> np.ndarray:
    """A hum with syllables from 0.5 s to 1.5 s, float in -1..1."""
    t = np.arange(round(SECONDS * rate)) / rate
    hum = sum(np.sin(2 * np.pi * 140 * k * t + k) / k for k in range(1, 20))
    return 0.2 * hum * (np.abs(t - 1) < 0.5) * (0.6 + 0.4 * np.cos(2 * np.pi * 4 * t))


def write(path: Path, samples: np.ndarray, rate: int, codec: str) -> Path:
    """Write `[C, S]` float samples."""
    options = {"movflags": "faststart"} if path.suffix == ".m4a" else {}  # so that what was cut off can be opened
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout=LAYOUTS[len(samples)])
        stream.options = {"strict": "experimental"}  # FFmpeg calls its own encoder of Vorbis that
        resampler = av.AudioResampler(stream.format, stream.layout, rate)
        for first in range(0, samples.shape[1], 960):
            block = np.ascontiguousarray(samples[:, first : first + 960].astype(np.float32))
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=LAYOUTS[len(samples)])
            frame.sample_rate, frame.pts = rate, first
            for out in resampler.resample(frame):
                container.mux(stream.encode(out))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "rate", "channels"),
    [
        ("a.wav", "pcm_u8", 22050, 1),
        ("a.wav", "pcm_s16le", 8000, 2),
        ("a.wav", "pcm_s24le", 96000, 2),
        ("a.wav", "pcm_s32le", 44100, 1),
        ("a.wav", "pcm_f32le", 48000, 6),
        ("a.aiff", "pcm_s16be", 44100, 2),
        ("a.flac", "flac", 44100, 2),
        ("a.mp3", "libmp3lame", 44100, 2),
        ("a.mp3", "libmp3lame", 16000, 1),
        ("a.ogg", "vorbis", 44100, 2),
        ("a.ogg", "libopus", 48000, 1),
        ("a.webm", "libopus", 48000, 2),
        ("a.m4a", "aac", 44100, 2),
        ("a.mka", "ac3", 48000, 6),
    ],
)
def test_the_same_voice_is_heard_in_every_file(tmp_path: Path, name: str, codec: str, rate: int, channels: int) -> None:
    sound = read_sound(write(tmp_path / name, np.tile(voice(rate), (channels, 1)), rate, codec))
    assert sound.dtype == np.int16
    assert len(sound) / RATE == pytest.approx(SECONDS, abs=0.1)
    expected = (voice(RATE) * 32767).astype(np.int16)
    length = min(len(sound), len(expected))
    loud = np.flatnonzero(np.abs(sound.astype(int)) > 1000) / RATE
    # Lossy codecs smear an edge by some milliseconds; half a frame would be 20.
    assert loud[0] == pytest.approx(0.5, abs=0.012)
    assert loud[-1] == pytest.approx(1.5, abs=0.012)
    spectrum = np.abs(np.fft.rfft(sound[:length], 2 * RATE))
    assert spectrum[200:400].argmax() / 2 + 100 == pytest.approx(140, abs=1)
    if channels < 3:  # the centre and the sides of surround add up to something louder
        assert np.std(sound[:length].astype(float)) == pytest.approx(np.std(expected.astype(float)), rel=0.1)
    heard, wanted = (logmel.extract(part, 50, 16) for part in (sound, expected))
    bands = slice(0, 30)  # up to 1.5 kHz; a narrow recording has nothing at the top
    assert np.corrcoef(heard[:, bands].ravel(), wanted[:, bands].ravel())[0, 1] > 0.9


def test_both_sides_of_a_stereo_recording_are_heard(tmp_path: Path) -> None:
    one_sided = np.stack([voice(44100), 0 * voice(44100)])
    for samples in (one_sided, one_sided[::-1]):
        sound = read_sound(write(tmp_path / "side.wav", samples, 44100, "pcm_s16le"))
        assert 0.3 < np.std(sound / 32768) / np.std(voice(RATE)) < 0.8


def test_what_is_too_loud_is_clipped_and_not_wrapped_around(tmp_path: Path) -> None:
    t = np.arange(44100) / 44100
    sound = read_sound(write(tmp_path / "loud.wav", 4 * np.sin(2 * np.pi * 200 * t)[None], 44100, "pcm_f32le"))
    expected = np.sign(np.sin(2 * np.pi * 200 * np.arange(len(sound)) / RATE))
    assert np.mean(np.sign(sound.astype(int)) == expected) > 0.97
    assert np.abs(sound.astype(int)).max() >= 32700
    assert np.isfinite(logmel.extract(sound, 25, 16)).all()


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.wav", "pcm_s16le"), ("a.wav", "pcm_s24le"), ("a.wav", "pcm_f32le"), ("a.aiff", "pcm_s16be"),
     ("a.flac", "flac"), ("a.mp3", "libmp3lame"), ("a.m4a", "aac")],
)  # fmt: skip
def test_only_what_is_cut_off_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, codec: str
) -> None:
    whole = write(tmp_path / name, voice(44100)[None], 44100, codec)
    warn_if_cut_off(whole, len(read_sound(whole)) / RATE)
    assert not caplog.records
    if codec != "libmp3lame":
        short = tmp_path / f"short{whole.suffix}"
        short.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        heard = len(read_sound(short)) / RATE
        warn_if_cut_off(short, heard)
        assert f"{short}: its header promises 2.0 s of sound, {heard:.1f} s are there" in caplog.text


def test_a_wav_that_was_written_to_a_pipe_is_not_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(RATE, np.int16))
    for size in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0):
        data = bytearray((tmp_path / "a.wav").read_bytes())
        data[40:44] = size.to_bytes(4, "little")
        (tmp_path / "a.wav").write_bytes(data)
        warn_if_cut_off(tmp_path / "a.wav", 1.0)
    assert not caplog.records
