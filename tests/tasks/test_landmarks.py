"""Landmarks in the clip's pixels, gaps left open, and recordings without one clear face refused."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import real_face
from clips import make_clip, read_stamp

import models.landmarks.mediapipe as mediapipe_landmarks
from models.errors import InputError
from models.landmarks.mediapipe import Face
from models.records import Clip, DemoTruth, Landmarks, store_path
from models.storage import FrameStore
from tasks import ingest, landmarks
from tasks.places import Keys, Places
from tasks.stage import execute

KEYS = Keys(speaker="ada")
COUNT, SIZE = 75, 64
FACE = np.random.default_rng(0).uniform(0.2, 0.8, (478, 2))
FACE[33], FACE[263] = (0.3, 0.4), (0.7, 0.4)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "params.yaml").write_text("ingest: {size: 64}\nlandmarks: {size: 96, truth_noise_px: 0.5}\n")
    (tmp_path / "data/speakers").mkdir(parents=True)
    made = Places(tmp_path)
    made.raw_speaker("ada").mkdir(parents=True)
    make_clip(made.raw_speaker("ada") / "a.mp4", 3.0, size=(128, 128), codec="libx264")
    made.speaker_record("ada").write_text("name: Ada\nbasis: synthetic\nsources: [a.mp4]\n")
    execute(ingest.STAGE, ingest.run, KEYS, made)
    return made


def found(places: Places) -> Landmarks:
    return Landmarks.load(execute(landmarks.STAGE, landmarks.run, KEYS, places))


class Puppeteer:
    """Stands in for MediaPipe: gives the faces that a test wants and remembers what it was shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, face_at: Callable[[int], bool], second: Callable[[int], bool]):
        self.shown: list[int] = []
        self.restarts: list[int] = []
        self.sizes: set[tuple[int, ...]] = set()
        outer = self

        class Tracker:
            def __init__(self, model: Path) -> None:
                pass

            def __enter__(self) -> "Tracker":
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def restart(self) -> None:
                outer.restarts.append(len(outer.shown))

            def next(self, image: np.ndarray) -> list[Face]:
                number = read_stamp(image)
                outer.shown.append(number)
                outer.sizes.add(image.shape)
                if not face_at(number):
                    return []
                # The same face found twice is not a second one.
                return [face(image), face(image, 0.5 if second(number) else 0.002)]

        def face(image: np.ndarray, shift: float = 0.0) -> Face:
            points = (FACE + shift) * image.shape[0]
            return Face(points.astype(np.float32), np.full(52, 0.25, np.float32), [f"b{i}" for i in range(52)])

        monkeypatch.setattr(mediapipe_landmarks, "FaceTracker", Tracker)
        monkeypatch.setattr(landmarks, "find_asset", lambda places, name: Path("model"))


def never(_: int) -> bool:
    return False


def test_points_are_in_pixels_of_the_clip_and_gaps_stay(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    puppeteer = Puppeteer(monkeypatch, lambda t: not 20 <= t < 30, never)
    result = found(places)
    assert puppeteer.shown == list(range(COUNT))  # the very frames of the clip
    assert puppeteer.sizes == {(96, 96, 3)}  # but larger
    assert np.flatnonzero(~result.valid).tolist() == list(range(20, 30))
    assert np.isnan(result.points[~result.valid]).all()
    assert np.isnan(result.blendshapes[~result.valid]).all()
    np.testing.assert_allclose(result.points[40], FACE * SIZE, atol=1e-4)
    np.testing.assert_allclose(result.blendshapes[40], 0.25)
    assert result.blendshape_names[3] == "b3"
    assert result.present.all()
    assert result.quality["longest_gap"] == 10
    assert result.quality["second_face_frames"] == []
    assert (places.preview("landmarks", KEYS) / "strip.jpg").stat().st_size > 1000


def test_the_tracker_forgets_at_every_cut(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    puppeteer = Puppeteer(monkeypatch, lambda _: True, never)
    original = Clip.load

    def with_cut(folder: Path) -> Clip:
        clip = original(folder)
        object.__setattr__(clip, "cuts", np.array([25], np.int32))
        return clip

    monkeypatch.setattr(Clip, "load", with_cut)
    assert 25 in found(places).cuts
    assert puppeteer.restarts == [25]


@pytest.mark.parametrize(
    ("face_at", "second", "says", "why"),
    [
        (never, never, "no face in any of the 75 frames", "landmarker"),
        (lambda t: t % 3 == 0, never, "a face in only 25 of 75 frames", "50 frames are without, the first at 0.04 s"),
        (lambda t: not 10 <= t < 40, never, "only 45 of 75", "from 0.40 s (frame 10) to 1.60 s (frame 40)"),
        (lambda _: True, lambda t: t >= 48, "two faces in 36 %", "from 1.92 s (frame 48) to 3.00 s (frame 75)"),
    ],
)
def test_recordings_without_one_clear_face_are_refused(
    places: Places,
    monkeypatch: pytest.MonkeyPatch,
    face_at: Callable[[int], bool],
    second: Callable[[int], bool],
    says: str,
    why: str,
) -> None:
    Puppeteer(monkeypatch, face_at, second)
    with pytest.raises(InputError) as raised:
        found(places)
    assert says in raised.value.what
    assert why in raised.value.why
    assert raised.value.fix
    assert not places.record("landmarks", KEYS).exists()


def test_true_landmarks_tremble_a_little_and_absent_points_stay_absent(places: Places) -> None:
    folder = places.raw_speaker("ada") / "truth"
    folder.mkdir()
    present = np.ones(478, bool)
    present[[5, 200]] = False
    points = np.tile((FACE * 128).astype(np.float32), (COUNT, 1, 1))
    points[:, ~present] = np.nan
    truth = DemoTruth(
        width=128,
        height=128,
        labels=FrameStore.create(store_path(folder, "labels"), np.zeros((COUNT, 4, 4), np.uint8), (4, 4)),
        intrinsics=np.eye(3, dtype=np.float32),
        world_to_camera=np.tile(np.eye(4, dtype=np.float32), (COUNT, 1, 1)),
        expression=np.zeros((COUNT, 2), np.float32),
        landmarks_px=points,
        landmarks_m=np.zeros((COUNT, 478, 3), np.float32),
        present=present,
        action_units=np.zeros((COUNT, 1), np.float32),
        gaze=np.zeros((COUNT, 4), np.float32),
    )
    truth.save(folder)
    record = "name: Ada\nbasis: synthetic\nsources: [a.mp4]\nlandmarks: truth\nhead_model: synthetic\n"
    places.speaker_record("ada").write_text(record)
    result = found(places)
    np.testing.assert_array_equal(result.present, present)
    assert np.isnan(result.points[:, ~present]).all()
    assert result.valid.all()
    assert result.blendshapes.shape == (COUNT, 0)
    error = (result.points - FACE * SIZE)[:, present]  # the clip is half as large as the video
    assert error.std() == pytest.approx(0.5, rel=0.05)
    assert abs(error.mean()) < 0.02
    np.testing.assert_array_equal(found(places).points, result.points)  # seeded

    make_clip(places.raw_speaker("ada") / "a.mp4", 2.8, size=(128, 128), codec="libx264")
    execute(ingest.STAGE, ingest.run, KEYS, places)
    with pytest.raises(InputError, match="70 frames, 75 frames of true"):
        found(places)


@pytest.mark.assets
def test_a_real_face_is_found_in_every_frame(places: Places, assets: Path) -> None:
    (places.root / "data/assets.toml").write_bytes(
        (Path(__file__).resolve().parents[2] / "data/assets.toml").read_bytes()
    )
    (places.root / "params.yaml").write_text("ingest: {size: 128}\nlandmarks: {}\n")
    (places.raw_speaker("ada") / "may.mp4").symlink_to(assets / "video/may_en_f_5s.mp4")
    places.speaker_record("ada").write_text("name: Ada\nbasis: synthetic\nsources: [may.mp4]\n")
    execute(ingest.STAGE, ingest.run, KEYS, places)
    result = found(places)
    assert result.valid.all()
    assert result.cuts == []
    assert result.quality["eye_distance_px"] == pytest.approx(37, abs=1.5)
    assert result.blendshapes.shape == (125, 52)
    assert 0 <= np.nanmin(result.blendshapes) <= np.nanmax(result.blendshapes) <= 1
    right, left = result.points[:, 33], result.points[:, 263]
    assert (right[:, 0] < left[:, 0]).all()  # the subject's right eye is on the left of the picture
    assert (result.points[:, 152, 1] > result.points[:, 10, 1]).all()


def test_the_face_that_was_there_before_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """MediaPipe gives faces in any order, and none of them a name."""
    size = 100

    def face(left: float, side: float) -> list[SimpleNamespace]:
        return [SimpleNamespace(x=(x * side + left) / size, y=y * side / size) for x, y in FACE]

    small, large = face(0, 40), face(50, 50)
    seen = iter([[small, large], [face(0, 60), face(52, 30)], [], [face(51, 30)], [small, large]])
    task = SimpleNamespace(
        detect_for_video=lambda image, at: SimpleNamespace(face_landmarks=next(seen), face_blendshapes=[]),
        close=lambda: None,
    )
    monkeypatch.setattr(mediapipe_landmarks, "_create", lambda *_, **__: task)
    with mediapipe_landmarks.FaceTracker(Path("model")) as tracker:
        found = [tracker.next(np.zeros((size, size, 3), np.uint8)) for _ in range(5)]
    assert [len(faces) for faces in found] == [2, 2, 0, 1, 2]
    assert all(faces[0].points[0, 0] > 50 for faces in found if faces)  # the large one at first, and ever after


@pytest.mark.assets
def test_lids_and_lips_are_where_they_are_in_the_picture_alone(assets: Path) -> None:
    """Smoothed over time, fast ones come late and move less far."""
    frames, alone = real_face.sentence(assets)
    with mediapipe_landmarks.FaceTracker(assets / "weights" / "face_landmarker.task") as tracker:
        followed = np.stack([tracker.next(frame)[0].points for frame in frames])
    gaps = [np.linalg.norm(points[:, 13] - points[:, 14], axis=-1)[2:] for points in (followed, alone)]
    assert np.corrcoef(*gaps)[0, 1] > 0.97
    assert gaps[0].std() > 0.95 * gaps[1].std()
    late = np.corrcoef(gaps[0][1:], gaps[1][:-1])[0, 1]
    early = np.corrcoef(gaps[0][:-1], gaps[1][1:])[0, 1]
    assert abs(late - early) < 0.1
