"""Whose lips a drive shows: in step with its sound, or a gap that says why."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from clips import clicks, make_clip, read_stamp, stamped

from models.errors import InputError
from models.landmarks import mediapipe
from models.records import Landmarks
from tasks import drive_landmarks
from tasks.media import write_wav
from tasks.places import Keys, Places
from tasks.stage import execute

ROOT = Path(__file__).resolve().parents[2]
RATE = 16000


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.delenv("GAUSSTALK_ASSETS", raising=False)
    places = Places(tmp_path)
    places.raw_drive("bob").mkdir(parents=True)
    places.drive_record("bob").parent.mkdir(parents=True)
    shutil.copy(ROOT / "data/assets.toml", tmp_path / "data/assets.toml")
    return places


def record(places: Places, source: str, more: str = "") -> Path:
    """Write the record of the drive; return where its recording belongs."""
    places.drive_record("bob").write_text(f"name: bob\nbasis: research\nlanguage: de\nsource: {source}\n{more}")
    return places.raw_drive("bob") / source


def run(places: Places) -> Landmarks:
    keys = Keys(drive="bob")
    execute(drive_landmarks.STAGE, drive_landmarks.run, keys, places, drive_landmarks.DriveLandmarkParams())
    return Landmarks.load(places.record("drive_landmarks", keys))


class StampReader:
    """In the place of MediaPipe, whose weights are not in the project: every point is the number in the picture."""

    faces, apart, opens = 1, 0.0, 1.0

    def __init__(self, model: Path) -> None:
        assert model.is_file()

    def __enter__(self) -> "StampReader":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def next(self, image: np.ndarray) -> list[mediapipe.Face]:
        points = np.full((478, 2), read_stamp(image), np.float32)
        points[263, 0] += 10  # the eyes are so far apart
        points[14, 1] += self.opens * (read_stamp(image) % 7)
        return [mediapipe.Face(points + k * self.apart, np.zeros(0), []) for k in range(self.faces)]


@pytest.fixture
def reader(places: Places, monkeypatch: pytest.MonkeyPatch) -> type[StampReader]:
    (places.root / "data/assets").mkdir()
    (places.root / "data/assets/face_landmarker.task").write_bytes(b"weights")
    kind = type("Reader", (StampReader,), {})
    monkeypatch.setattr(mediapipe, "FaceTracker", kind)
    return kind


def test_sound_alone_shows_nobody(places: Places) -> None:
    write_wav(record(places, "speech.wav"), clicks(2.0, RATE, []))
    found = run(places)
    assert found.points.shape == (50, 478, 2)
    assert not found.valid.any()
    assert "sound alone" in found.quality["why"]


def test_without_the_landmarker_the_gap_says_how_to_get_it(places: Places) -> None:
    make_clip(record(places, "speech.mp4"), 2.0)
    found = run(places)
    assert not found.valid.any()
    assert "gausstalk fetch face_landmarker" in found.quality["why"]
    assert "dvc repro -f -s drive_landmarks@bob" in found.quality["why"]


@pytest.mark.parametrize("late", [0.0, 0.4, -0.4])
def test_lips_are_in_step_with_the_sound_wherever_it_begins(
    places: Places, reader: type[StampReader], late: float
) -> None:
    """Frame 0 of a drive is where its sound begins; pictures may begin before or after that."""
    path = record(places, "speech.mkv")
    sound = clicks(2.0, 48000, [])
    make_clip(path, 2.0, start=max(0.0, -late), sound=sound, sound_start=max(0.0, late), sound_codec="pcm_s16le")
    found = run(places)
    assert found.points.shape[0] == 50
    assert found.quality["why"] == ""
    shift = round(late * 25)  # picture t shows the number t and belongs to frame t - shift of the sound
    frames = np.arange(max(0, -shift), min(50, 50 - shift))
    assert list(np.flatnonzero(found.valid)) == list(frames)
    np.testing.assert_array_equal(found.points[frames, 0, 0], frames + shift)


def test_of_two_people_nobody_knows_who_speaks(places: Places, reader: type[StampReader]) -> None:
    make_clip(record(places, "speech.mp4"), 2.0)
    reader.faces, reader.apart = 2, 1.0
    assert run(places).valid.all()  # the same face, found twice
    reader.apart = 30.0
    found = run(places)
    assert not found.valid.any()
    assert found.quality["why"].startswith("two faces in 100 %")


def test_pictures_without_a_face_are_a_gap(places: Places, reader: type[StampReader]) -> None:
    make_clip(record(places, "speech.mp4"), 2.0)
    reader.faces = 0
    found = run(places)
    assert not found.valid.any()
    assert found.quality["why"] == "no face is seen in its pictures"


def test_lips_that_never_move_say_nothing(places: Places, reader: type[StampReader]) -> None:
    make_clip(record(places, "speech.mp4"), 2.0)
    reader.opens = 0.01
    found = run(places)
    assert not found.valid.any()
    assert "a photo" in found.quality["why"]


def test_the_cover_of_a_song_is_nobody(places: Places) -> None:
    path = record(places, "speech.mp3")
    with av.open(str(path), "w") as song:
        voice = song.add_stream("libmp3lame", rate=44100, layout="mono")
        cover = song.add_stream("mjpeg")
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")
        song.mux(cover.encode(picture.reformat(format="yuvj420p")))
        sound = av.AudioFrame.from_ndarray(clicks(2.0, 44100, [])[None], format="s16", layout="mono")
        sound.sample_rate = 44100
        song.mux([*voice.encode(sound), *voice.encode(None)])
    with av.open(str(path)) as song:
        assert song.streams.video
    assert "sound alone" in run(places).quality["why"]


def test_cuts_are_said(places: Places, reader: type[StampReader], caplog: pytest.LogCaptureFixture) -> None:
    pictures = [stamped(k) if k < 30 else 255 - stamped(k) for k in range(60)]
    make_clip(record(places, "speech.mp4"), 2.4, pictures=pictures, times=[k / 25 for k in range(60)])
    assert run(places).cuts == [30]
    assert "cuts at frames [30]" in caplog.text


def test_pictures_that_break_off_are_said(
    places: Places, reader: type[StampReader], caplog: pytest.LogCaptureFixture
) -> None:
    sound = clicks(4.0, 48000, [])
    path = make_clip(record(places, "speech.mp4"), 3.0, sound=sound, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    found = run(places)
    assert found.quality["why"] == ""
    assert found.quality["note"].startswith("only the first")
    assert "only the first" in caplog.text
    assert found.valid.all()  # the sound breaks off there, too


def test_known_landmarks_are_taken_as_they_are(places: Places) -> None:
    write_wav(record(places, "speech.wav", "landmarks: truth\n"), clicks(2.0, RATE, []))
    points = np.random.default_rng(0).random((50, 478, 2)).astype(np.float32)
    everything = (np.ones(478, bool), np.ones(50, bool), np.empty((50, 0), np.float32))
    truth = Landmarks("truth", points, *everything)
    folder = places.raw_drive("bob") / "truth"
    folder.mkdir()
    truth.save(folder)
    np.testing.assert_array_equal(run(places).points, points)
    write_wav(places.raw_drive("bob") / "speech.wav", clicks(1.0, RATE, []))
    with pytest.raises(InputError, match="25 frames of sound, 50 of true landmarks"):
        run(places)
