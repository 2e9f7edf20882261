"""Frames of another system: in whole or not at all, measured as our own are, refused with what mends it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import clips
import evaluated_project
import numpy as np
import pytest
from PIL import Image

from models.errors import ConsentError, GausstalkError, InputError, UsageError
from models.records import Clip, Rendering
from tasks import evaluate, evaluate_predictions, judge, predictions
from tasks.doctor import wrong_params
from tasks.importing import import_predictions, remove_predictions
from tasks.imports import load_predictions
from tasks.judge import JudgeParams
from tasks.measuring import EvaluateParams
from tasks.media import write_video
from tasks.params import read_yaml
from tasks.places import Keys, Places
from tasks.removal import remove_speaker
from tasks.rendering import RenderParams
from tasks.stage import execute

PARAMS = EvaluateParams(draws=100, block_seconds=0.4, worst=1)
TEXT = "speakers: [ada]   # who\nimports: {}        # frames of others\n\nrender: {}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Places:
    places = evaluated_project.make(tmp_path_factory.mktemp("made"))
    places.params.write_text(TEXT)
    return places


@pytest.fixture
def places(made: Places, tmp_path: Path) -> Places:
    shutil.copytree(made.root, tmp_path, dirs_exist_ok=True)
    return Places(tmp_path)


def own_frames(places: Places, variant: str = "full") -> np.ndarray:
    store = getattr(Rendering.load(places.record("render", Keys("ada", "logmel"))), variant)
    return store.take(range(len(store)))


def pngs(folder: Path, frames: Any, name: str = "{:04d}.png", first: int = 1) -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames, first):
        Image.fromarray(frame).save(folder / name.format(number))
    return folder


def rows(places: Places, stage: str, keys: Keys) -> dict[tuple[str, str, str], float]:
    content = json.loads((places.metrics(stage, keys) / "metrics.json").read_text())
    return {(row["metric"], row["region"], row["variant"]): row["value"] for row in content["rows"]}


def test_frames_of_our_own_head_get_the_numbers_of_our_own_head(places: Places, monkeypatch) -> None:
    monkeypatch.delenv("GAUSSTALK_ASSETS", raising=False)
    folder = pngs(
        places.root / "in", own_frames(places), "frame_{:d}.png", first=98
    )  # 98, 99, 100: not by the alphabet
    late = places.root / "late.mkv"
    write_video(late, iter(own_frames(places, "wrong_audio")), 25.0, None, 16000, "", {}, lossless=True)
    import_predictions(places, "other", "ada", folder, late, note="version 1", drawn="head")
    assert places.params.read_text() == TEXT.replace("{} ", "{ada-other: {speaker: ada, method: other}} ", 1)
    record = load_predictions(places, "ada", "other")
    assert (record.full.frames, record.full.lossless, record.full.part) == (60, True, "test")
    assert record.wrong_audio is not None
    assert record.wrong_audio.how == "ffv1, bgr0"
    assert record.wrong_audio.lossless

    keys = Keys("ada", method="other")
    execute(judge.STAGE, judge.run, Keys("ada"), places, JudgeParams())
    execute(predictions.STAGE, predictions.run, keys, places, RenderParams())
    execute(evaluate_predictions.STAGE, evaluate_predictions.run, keys, places, PARAMS)
    execute(evaluate.STAGE, evaluate.run, Keys("ada", "logmel"), places, PARAMS)
    theirs = rows(places, "evaluate_predictions", keys)
    ours = rows(places, "evaluate", Keys("ada", "logmel"))
    compared = {key for key in ours if key[2] in ("full", "wrong_audio", "constant_lips", "judge", "truth")}
    costs = set(evaluate_predictions.COSTS)
    assert {key: theirs.get(key) for key in compared if key[0] not in costs} == {
        key: ours[key] for key in compared if key[0] not in costs
    }
    assert ("PSNR", "mouth", "wrong_audio") in compared
    content = json.loads((places.metrics("evaluate_predictions", keys) / "metrics.json").read_text())
    assert {entry["metric"] for entry in content["absent"]} >= costs
    assert content["about"]["imported"]["full"] == {"how": "png", "lossless": True}
    own = json.loads((places.metrics("evaluate", Keys("ada", "logmel")) / "metrics.json").read_text())
    assert content["about"]["data"] == own["about"]["data"]
    assert content["about"]["drawn"] == own["about"]["drawn"] == "head"
    assert (places.preview("predictions", keys) / "side_by_side.mp4").is_file()


def test_of_the_whole_clip_the_test_part_is_measured(places: Places) -> None:
    clip = Clip.load(places.record("ingest", Keys("ada")))
    whole = pngs(places.root / "in", clip.frames.take(range(len(clip))), first=0)
    import_predictions(places, "truth", "ada", whole)
    keys = Keys("ada", method="truth")
    execute(predictions.STAGE, predictions.run, keys, places, RenderParams())
    rendering = Rendering.load(places.record("predictions", keys))
    assert list(rendering.frame_index) == list(range(evaluated_project.TEST_FROM, 130))
    np.testing.assert_array_equal(rendering.full[0], clip.frames[evaluated_project.TEST_FROM])
    np.testing.assert_array_equal(rendering.full[59], clip.frames[129])


@pytest.mark.parametrize(
    ("lossless", "declared", "expected"), [(False, False, False), (True, False, True), (True, True, False)]
)
def test_what_was_compressed_is_marked(places: Places, lossless: bool, declared: bool, expected: bool) -> None:
    video = places.root / ("a.mkv" if lossless else "a.mp4")
    write_video(video, iter(own_frames(places)), 25.0, None, 16000, "", {}, lossless=lossless)
    import_predictions(places, "other", "ada", video, lossy=declared)
    assert load_predictions(places, "ada", "other").full.lossless is expected


def wrong_size(places: Places) -> Path:
    clip = Clip.load(places.record("ingest", Keys("ada")))
    clip.sources[:] = [{"file": "a.mp4", "size": [64, 40], "crop": [6, 2, 32], "first_frame": 0}]
    clip.save(places.record("ingest", Keys("ada")))
    return pngs(places.root / "in", np.zeros((60, 40, 64, 3), np.uint8), "{:03d}.png", 7)


def too_few(places: Places) -> Path:
    return pngs(places.root / "in", own_frames(places)[:59])


def too_many(places: Places) -> Path:
    return pngs(places.root / "in here", np.zeros((131, 96, 96, 3), np.uint8), "a{:d}.png")


def with_a_gap(places: Places) -> Path:
    folder = pngs(places.root / "in", own_frames(places))
    (folder / "0031.png").unlink()
    return folder


def with_a_stranger(places: Places) -> Path:
    folder = pngs(places.root / "in", own_frames(places))
    (folder / "notes.txt").write_text("x")
    return folder


def transparent(places: Places) -> Path:
    return pngs(places.root / "in here", np.zeros((60, 96, 96, 4), np.uint8))


def damaged(places: Places) -> Path:
    folder = pngs(places.root / "in", own_frames(places))
    (folder / "0009.png").write_bytes((folder / "0009.png").read_bytes()[:200])
    return folder


def at_30(places: Places) -> Path:
    return clips.make_clip(places.root / "a b.mp4", 2.4, 30.0, (96, 96))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            wrong_size,
            r"64 x 40.*-start_number 7 -i .*/in/%03d.png -vf crop=32:32:6:2,scale=96:96:flags=area.* out/%06d",
        ),
        (too_few, r"59 frames.*last 60: frame 70 to 129, 2.80 to 5.20 s.*ffmpeg -ss 2.80 -t 2.40"),
        (too_many, r"131 frames.*-i '[^']*/in here/a%d.png' -frames:v 130 "),
        (with_a_gap, "frame 31 is missing"),
        (with_a_stranger, "notes.txt"),
        (transparent, r"RGBA.*-i '[^']*/in here/0001.png' -pix_fmt rgb24"),
        (damaged, "0009.png: no PNG"),
        (at_30, r"30 frames a second.*-i '[^']*/a b.mp4' -vf fps=25 "),
        (lambda places: places.root / "nothing", "no such file"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_mends_it_and_leaves_nothing(
    places: Places, make: Any, message: str
) -> None:
    given = make(places)
    with pytest.raises(InputError) as refused:
        import_predictions(places, "other", "ada", given)
    assert re.search(message, str(refused.value).replace("\n", " "))
    assert places.params.read_text() == TEXT
    assert not places.predictions_record("ada", "other").exists()
    assert not list((places.root / "data").glob("raw/predictions/ada/*"))


def test_names_speakers_and_bases_are_checked(places: Places) -> None:
    folder = pngs(places.root / "in", own_frames(places))
    for method, speaker, error in (
        ("talking_gaussian", "ada", "method of this project"),
        ("no-hyphen", "ada", "cannot name a method"),
        ("other", "bob", "no speaker 'bob'"),
    ):
        with pytest.raises(UsageError, match=error):
            import_predictions(places, method, speaker, folder)
    with pytest.raises(UsageError, match="--drawn 'lips' is none of mouth, face, head, frame"):
        import_predictions(places, "other", "ada", folder, drawn="lips")
    import_predictions(places, "other", "ada", folder)
    with pytest.raises(UsageError, match="already"):
        import_predictions(places, "other", "ada", folder)
    import_predictions(places, "other", "ada", folder, replace=True)
    consent = "consent: {who: A, scope: b, date: 2020-01-01, expiry: 2020-02-01, evidence_sha256: " + "a" * 64 + "}\n"
    places.speaker_record("ada").write_text(f"name: Ada\nbasis: consent\nsources: [a.mp4]\n{consent}")
    for call in (
        lambda: import_predictions(places, "another", "ada", folder),
        lambda: execute(predictions.STAGE, predictions.run, Keys("ada", method="other"), places, RenderParams()),
    ):
        with pytest.raises(ConsentError, match="expired"):
            call()


def test_a_speaker_without_a_clip_is_told_how_to_get_one(places: Places) -> None:
    folder = pngs(places.root / "in", own_frames(places))
    for file in places.record("ingest", Keys("ada")).glob("record*"):
        file.unlink()
    with pytest.raises(InputError, match="dvc repro ingest@ada"):
        import_predictions(places, "other", "ada", folder)


def test_frames_that_were_changed_afterwards_are_noticed(places: Places) -> None:
    import_predictions(places, "other", "ada", pngs(places.root / "in", own_frames(places)))
    file = places.raw_predictions("ada", "other") / "full" / "000003.png"
    Image.fromarray(np.zeros((96, 96, 3), np.uint8)).save(file)
    with pytest.raises(InputError, match="not what was imported"):
        execute(predictions.STAGE, predictions.run, Keys("ada", method="other"), places, RenderParams())


def test_what_was_imported_can_be_taken_out_again(places: Places) -> None:
    folder = pngs(places.root / "in", own_frames(places))
    for method in ("one", "two"):
        import_predictions(places, method, "ada", folder)
    execute(predictions.STAGE, predictions.run, Keys("ada", method="one"), places, RenderParams())
    remove_predictions(places, "one", "ada")
    assert places.params.read_text() == TEXT.replace("{} ", "{ada-two: {speaker: ada, method: two}} ", 1)
    assert not list((places.root / "data").rglob("*one*"))
    with pytest.raises(UsageError, match="imported: two for ada"):
        remove_predictions(places, "one", "ada")
    remove_speaker(places, "ada")
    assert read_yaml(places.params)["speakers"] == []
    assert read_yaml(places.params)["imports"] == {}
    assert not list((places.root / "data").rglob("predictions/ada"))


def test_a_list_of_imports_in_lines_keeps_its_comments(places: Places) -> None:
    text = TEXT.replace("imports: {} ", "imports:  # all\n  ada-zero:  # kept\n    speaker: ada\n    method: zero\n#")
    places.params.write_text(text)
    import_predictions(places, "other", "ada", pngs(places.root / "in", own_frames(places)))
    new = places.params.read_text()
    assert all(comment in new for comment in ("# all", "# kept", "# frames of others", "# who"))
    assert list(read_yaml(places.params)["imports"]) == ["ada-zero", "ada-other"]


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ("bob-x: {speaker: bob, method: x}", "no speaker 'bob'"),
        ("ada-x: {speaker: ada, method: x}", "no frames of 'x'"),
        ("x: {speaker: ada, method: x}", "no name for it"),
        ("ada-x: {speaker: ada, method: x, methd: y}", "unknown key"),
    ],
)
def test_what_params_list_wrongly_is_told_before_a_run(places: Places, entry: str, error: str) -> None:
    places.params.write_text(TEXT.replace("{}", f"{{{entry}}}", 1))
    wrong: list[GausstalkError] = list(wrong_params(places))
    assert len(wrong) == 1
    assert error in str(wrong[0])
