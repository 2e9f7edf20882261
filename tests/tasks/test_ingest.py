"""From a speaker's recordings to one clip: all sources, exact lengths, and errors that say what to do."""

import datetime
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from clips import clicks, first_seconds, lose_first_key_frame, make_clip, read_stamp, stamped, turn_upright_flag
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ConsentError, InputError, MissingAssetError
from models.records import TEST, TRAIN, VALIDATION, Clip
from tasks import ingest
from tasks.fitness import sound_statistics
from tasks.places import Keys, Places
from tasks.sources import clip_pictures, face_boxes, face_crop
from tasks.stage import execute

ROOT = Path(__file__).resolve().parents[2]
KEYS = Keys(speaker="ada")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "params.yaml").write_text("ingest: {size: 64}\n")
    shutil.copytree(ROOT / "data", tmp_path / "data", ignore=lambda _, names: set(names) - {"assets.toml"})
    made = Places(tmp_path)
    made.raw_speaker("ada").mkdir(parents=True)
    return made


def describe(places: Places, *sources: str, basis: str = "synthetic", more: str = "") -> None:
    path = places.speaker_record("ada")
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"name: Ada\nbasis: {basis}\nsources: [{', '.join(sources)}]\n{more}")


def ingested(places: Places) -> Clip:
    return Clip.load(execute(ingest.STAGE, ingest.run, KEYS, places))


def test_several_sources_become_one_clip_with_a_cut_at_every_joint(places: Places) -> None:
    folder = places.raw_speaker("ada")
    make_clip(folder / "one.mp4", 2.0, 25, sound=clicks(2.0, 48000, [1.0]))
    make_clip(folder / "two.mkv", 1.52, 30, sound=clicks(1.2, 22050, [0.5]), sound_rate=22050, codec="libx264")
    describe(places, "one.mp4", "two.mkv")
    clip = ingested(places)
    assert len(clip) == 50 + 38
    assert clip.frames.shape == (88, 64, 64, 3)
    assert clip.cuts.tolist() == [50]
    assert len(clip.sound) == 88 * 640
    loud = np.flatnonzero(np.abs(clip.sound.astype(int)) > 8000) / 16000
    np.testing.assert_allclose([loud[0], loud[loud > 1.5][0]], [1.0, 2.0 + 0.5], atol=3e-3)
    assert [read_stamp(clip.frames[t]) for t in (0, 20, 49, 50, 55)] == [0, 20, 49, 0, 6]
    assert [source["first_frame"] for source in clip.sources] == [0, 50]
    assert clip.fitness["frame_rates"] == [25.0, 30.0]
    verdicts = " ".join(clip.fitness["verdicts"])
    assert "two.mkv: 30 pictures a second were resampled to 25" in verdicts
    assert "only 3.52 s" in verdicts
    assert (places.preview("ingest", KEYS) / "strip.jpg").stat().st_size > 1000


@given(count=st.integers(10, 5000), test=st.floats(0.01, 0.49), validation=st.floats(0.01, 0.29))
def test_the_split_is_training_then_validation_then_test(count: int, test: float, validation: float) -> None:
    parts = ingest.split(count, test, validation)
    assert len(parts) == count
    order = parts[np.r_[True, np.diff(parts) != 0]]
    assert order.tolist() == [TRAIN, VALIDATION, TEST]
    assert abs((parts == TEST).sum() - count * test) <= 1
    assert abs((parts == VALIDATION).sum() - count * validation) <= 1


def test_a_hard_cut_is_listed_and_motion_is_not(places: Places) -> None:
    random = np.random.default_rng(0)
    rooms = [random.integers(0, 256, (8, 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(2)]
    pictures = []
    for t in range(75):
        picture = rooms[t >= 31].copy()
        picture[20:40, 10 + t // 3 : 30 + t // 3] = 200
        pictures.append(picture)
    make_clip(places.raw_speaker("ada") / "a.mp4", pictures=pictures, codec="libx264")
    describe(places, "a.mp4")
    assert ingested(places).cuts.tolist() == [31]


def test_pictures_that_show_nothing_keep_their_place_and_are_marked(places: Places) -> None:
    room = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    pictures = []
    for t in range(75):
        picture = room.copy()
        picture[20:40, 10 + t // 3 : 30 + t // 3] = 200
        pictures.append(picture)
    lose_first_key_frame(make_clip(places.raw_speaker("ada") / "a.mkv", pictures=pictures))
    pictures[30:32] = [np.zeros((64, 64, 3), np.uint8)] * 2  # a pause: what comes after it is whole
    make_clip(places.raw_speaker("ada") / "b.mp4", pictures=pictures, codec="libx264")
    describe(places, "a.mkv", "b.mp4")
    clip = ingested(places)
    assert len(clip) == 150
    # mpeg4 has a key frame every 12 pictures
    assert np.flatnonzero(~clip.intact).tolist() == [*range(12), 75 + 30, 75 + 31]
    verdicts = " ".join(clip.fitness["verdicts"])
    assert "a.mkv: blank or damaged: 12 pictures, the first at 0.0 s" in verdicts
    assert "b.mp4: blank or damaged: 2 pictures, the first at 1.2 s" in verdicts


def test_a_sideways_phone_video_of_known_landmarks_is_cropped_to_its_middle(places: Places) -> None:
    path = make_clip(places.raw_speaker("ada") / "a.mp4", size=(128, 64), codec="libx264")
    turn_upright_flag(path)
    describe(places, "a.mp4", basis="synthetic", more="landmarks: truth\nhead_model: synthetic\n")
    clip = ingested(places)
    assert clip.sources[0]["size"] == [64, 128]
    assert clip.sources[0]["crop"] == [0, 32, 64]
    expected = np.rot90(stamped(7, 128, 64), -1)[32:96]
    assert np.abs(clip.frames[7].astype(int) - expected).mean() < 4


def test_the_pictures_can_be_had_again_at_their_full_size(places: Places) -> None:
    make_clip(places.raw_speaker("ada") / "a.mp4", size=(160, 160), codec="libx264")
    describe(places, "a.mp4")
    clip = ingested(places)
    again = list(clip_pictures(clip, places, 128))
    assert len(again) == len(clip)
    assert again[0].shape == (128, 128, 3)
    assert [read_stamp(picture) for picture in again] == [read_stamp(picture) for picture in clip.frames]
    make_clip(places.raw_speaker("ada") / "a.mp4", size=(160, 160), codec="libx264", seconds=2.8)
    with pytest.raises(InputError, match="changed since"):
        list(clip_pictures(clip, places, 128))


@pytest.mark.parametrize(("size", "refused"), [(1.0, True), (0.6, True), (0.3, False)])
def test_two_people_side_by_side_are_refused_and_pictures_on_a_wall_are_not(
    tmp_path: Path, size: float, refused: bool
) -> None:
    """The square would show one of two people, but the sound has both."""
    path = make_clip(tmp_path / "two.mp4", seconds=1.0)
    face = np.random.default_rng(0).uniform(-20, 20, (478, 2))

    def find(_picture: np.ndarray) -> list[SimpleNamespace]:
        return [SimpleNamespace(points=face + 60), SimpleNamespace(points=size * face + 200)]

    if refused:
        with pytest.raises(InputError, match="two faces in 10 of 10"):
            face_boxes([(path, 1.0)], find)
    else:
        assert face_boxes([(path, 1.0)], find).shape == (10, 4)
    # The same face found twice is one face.
    assert face_boxes([(path, 1.0)], lambda picture: find(picture)[:1] * 2).shape == (10, 4)


def test_the_crop_holds_the_face_and_stays_in_the_picture() -> None:
    boxes = np.array([[400.0, 300, 600, 560], [420, 310, 620, 570], [380, 290, 580, 550]])
    crop = face_crop(boxes, 1080, 1920, 2.0)
    assert crop.side == 520
    assert crop.left <= 380
    assert crop.left + crop.side >= 620
    assert crop.top <= 290 - 0.2 * 260  # hair
    assert crop.top + crop.side >= 570
    corner = face_crop(np.array([[0.0, 0, 200, 250]]), 640, 360, 2.0)
    assert (corner.left, corner.top, corner.side) == (0, 0, 360)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: make_clip(p, sound=np.empty(0, np.int16)), "no sound"),
        (lambda p: make_clip(p, times=[0.0]), "one picture|s of video"),
        (lambda p: make_clip(p, 1.0), "1.00 s of video"),
        (lambda p: p.write_bytes(b""), "empty"),
        (lambda p: p.write_text("no video\n" * 99), "not a video"),
        (lambda p: None, "no such file"),
        (lambda p: p.write_bytes(make_clip(p).read_bytes()[:20000]), "breaks at|not a video"),
    ],
)
def test_unusable_footage_says_why_and_leaves_nothing(
    places: Places, make: Callable[[Path], object], says: str
) -> None:
    make(places.raw_speaker("ada") / "a.mp4")
    describe(places, "a.mp4")
    with pytest.raises(InputError, match=says) as raised:
        execute(ingest.STAGE, ingest.run, KEYS, places)
    assert raised.value.fix
    assert not (places.root / "data/work").exists()
    assert not (places.root / "data/preview").exists()
    assert not list((places.root / ".work").rglob("*.zarr"))


def test_the_good_start_of_a_broken_file_can_be_kept(places: Places) -> None:
    path = make_clip(places.raw_speaker("ada") / "a.mp4", 4.0, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.8)])
    describe(places, "a.mp4")
    (places.root / "params.yaml").write_text("ingest: {size: 64, use_damaged: true}\n")
    clip = ingested(places)
    assert 50 <= len(clip) < 90
    assert len(clip.sound) == len(clip) * 640
    assert any("only the first" in verdict for verdict in clip.fitness["verdicts"])
    assert len(list(clip_pictures(clip, places, 64))) == len(clip)


def test_no_likeness_is_used_without_a_valid_basis(places: Places) -> None:
    make_clip(places.raw_speaker("ada") / "a.mp4")
    describe(places, "a.mp4", basis="consent")
    with pytest.raises(ConsentError, match="no consent"):
        execute(ingest.STAGE, ingest.run, KEYS, places)
    describe(places, "a.mp4", basis="research")
    with pytest.raises(ConsentError, match="nobody says where the material comes from"):
        execute(ingest.STAGE, ingest.run, KEYS, places)
    describe(places, "a.mp4", basis="research", more="research: {source: an archive, reason: a test}\n")
    assert ingested(places).basis == "research"
    today = datetime.date.today()
    for days, valid in ((-1, False), (30, True)):
        consent = (
            f"consent: {{who: Ada, scope: all, date: 2020-01-01, expiry: {today + datetime.timedelta(days)}, "
            f"evidence_sha256: {'ab' * 32}}}\n"
        )
        describe(places, "a.mp4", basis="consent", more=consent)
        if valid:
            assert ingested(places).basis == "consent"
        else:
            with pytest.raises(ConsentError, match="expired"):
                execute(ingest.STAGE, ingest.run, KEYS, places)


def test_sources_outside_the_folder_and_missing_weights_are_refused(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(places, "../../../secret.mp4")
    with pytest.raises(InputError, match="outside"):
        execute(ingest.STAGE, ingest.run, KEYS, places)
    make_clip(places.raw_speaker("ada") / "wide.mp4", size=(128, 64))
    describe(places, "wide.mp4")
    monkeypatch.delenv("GAUSSTALK_ASSETS", raising=False)
    with pytest.raises(MissingAssetError, match="face_landmarker"):
        execute(ingest.STAGE, ingest.run, KEYS, places)


def test_the_command_ends_with_the_documented_codes(places: Places) -> None:
    command = [sys.executable, "-m", "tasks.ingest", "--speaker", "ada"]
    environment = {**os.environ, "GAUSSTALK_ROOT": str(places.root), "PYTHONPATH": str(ROOT)}

    def ends() -> tuple[int, str]:
        result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert "Traceback" not in result.stderr
        return result.returncode, result.stderr

    (places.raw_speaker("ada") / "a.mp4").write_text("words\n" * 100)
    describe(places, "a.mp4")
    code, text = ends()
    assert code == 3
    assert all(word in text for word in ("error: ", "why: ", "fix: "))
    describe(places, "a.mp4", basis="consent")
    assert ends()[0] == 4
    make_clip(places.raw_speaker("ada") / "a.mp4")
    describe(places, "a.mp4")
    assert ends()[0] == 0
    assert len(Clip.load(places.record("ingest", KEYS))) == 75


def test_sound_figures() -> None:
    speech = np.random.default_rng(0).normal(0, 3000, 32000)
    speech[8000:16000] *= 0.001
    figures = sound_statistics(np.concatenate([speech, np.zeros(16000)]).clip(-32768, 32767).astype(np.int16), 16000)
    assert figures["loudness_dbfs"] == pytest.approx(20 * np.log10(3000 / 32768), abs=1)
    assert figures["silence_share"] == pytest.approx(0.5, abs=0.02)
    assert figures["silent_end_s"] == pytest.approx(1.0, abs=0.01)
    assert figures["clipped_share"] == 0
    assert sound_statistics(np.full(1600, 32767, np.int16), 16000)["clipped_share"] == 1
    assert sound_statistics(np.empty(0, np.int16), 16000)["silence_share"] == 1


@pytest.mark.assets
def test_real_clips(places: Places, assets: Path) -> None:
    for name, sources, cuts, crop in (
        ("anchor", ["anchor_en_m.mp4"], [176, 702], [0, 0, 512]),
        ("grid", [f"grid_s1/{file}.mpg" for file in ("bbaf2n", "bbbm1s", "bbir8p")], [75, 150], None),
    ):
        folder = places.raw_speaker(name)
        folder.mkdir()
        for source in sources:
            target = folder / Path(source).name
            if source.endswith(".mp4"):  # half a minute of it has cuts enough
                first_seconds(assets / "video" / source, target, 30.0)
            else:
                target.symlink_to(assets / "video" / source)
        files = ", ".join(Path(source).name for source in sources)
        places.speaker_record(name).parent.mkdir(exist_ok=True)
        places.speaker_record(name).write_text(f"name: {name}\nbasis: synthetic\nsources: [{files}]\n")
        clip = Clip.load(execute(ingest.STAGE, ingest.run, Keys(speaker=name), places))
        assert clip.cuts.tolist() == cuts
        if crop:
            assert clip.sources[0]["crop"] == crop
        else:
            left, top, side = clip.sources[0]["crop"]
            assert 230 < side <= 288
            assert left < 100 < 206 < left + side
