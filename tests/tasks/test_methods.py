"""One word chooses a method: how it is found, whose heads it makes, and which stages are its own."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from models.errors import UsageError
from tasks import evaluate, gt_evaluate, matrix, tables
from tasks.comparable import caveats
from tasks.measured import Measured
from tasks.methods import GAUSSIAN_TALKER, METHODS, TALKING_GAUSSIAN, Method, find_method, method_of, videos_made
from tasks.params import read_yaml
from tasks.params_file import choose_preset
from tasks.places import Keys, Places
from tasks.registry import check_enlisted, enlist
from tasks.stage import execute

ROOT = Path(__file__).resolve().parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    text = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("speakers: [demo]", "speakers: [demo, ann]"))
    return Places(tmp_path)


@pytest.mark.parametrize("word", ["gaussiantalker", "gaussian_talker", "GaussianTalker", "gaussian-talker"])
def test_a_method_is_found_however_it_is_written(word: str) -> None:
    assert find_method(word) is GAUSSIAN_TALKER
    assert find_method("talkinggaussian") is TALKING_GAUSSIAN


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError) as error:
        find_method("gausiantalker")
    assert error.value.fix == "did you mean gaussiantalker?"
    with pytest.raises(UsageError) as error:
        find_method("wav2lip")
    assert "import-predictions" in error.value.fix


def test_every_stage_that_a_methods_list_runs_is_that_methods_own() -> None:
    """And no stage of all speakers is a single method's, unless it makes the heads that all speakers have."""
    for name, stage in STAGES.items():
        listed = stage.get("foreach") or stage.get("matrix", {}).get("speaker", "")
        if listed == "${gaussian_talkers}":
            assert method_of(name) is GAUSSIAN_TALKER, name
        else:
            assert method_of(name) is not GAUSSIAN_TALKER, name
    for method in METHODS.values():
        own = (method.render, method.evaluate, method.render_drive, method.evaluate_drive, *method.trained)
        assert set(own) <= STAGES.keys()
        assert all(method_of(stage) is method for stage in own)
    assert method_of("pose_refine") is method_of("audio_drive") is method_of("report") is None


def test_no_stage_of_one_method_reads_what_the_other_gives() -> None:
    for name, stage in STAGES.items():
        method = method_of(name)
        if method is None:
            continue
        read = {part for path in stage.get("do", stage)["deps"] for part in path.split("/")[3:4] if "/work/" in path}
        assert all(method_of(one) in (None, method) for one in read), name


def test_a_speaker_who_is_new_to_a_method_is_listed_and_nothing_else_changes(places: Places) -> None:
    before = places.params.read_text()
    with pytest.raises(UsageError, match="not to make heads of ann") as error:
        check_enlisted(places, ["ann"], GAUSSIAN_TALKER)
    assert error.value.fix == "gausstalk run ann --method gaussiantalker"
    assert enlist(places, ["ann"], GAUSSIAN_TALKER) == ["ann"]
    assert places.params.read_text() == before.replace("gaussian_talkers: []", "gaussian_talkers: [ann]")
    check_enlisted(places, ["ann"], GAUSSIAN_TALKER)
    assert enlist(places, ["ann"], GAUSSIAN_TALKER) == []
    assert enlist(places, [], GAUSSIAN_TALKER) == ["demo"]  # nobody named: everybody
    assert read_yaml(places.params)["gaussian_talkers"] == ["ann", "demo"]
    assert enlist(places, [], TALKING_GAUSSIAN) == []
    with pytest.raises(UsageError, match="no speaker 'bob'"):
        enlist(places, ["bob"], GAUSSIAN_TALKER)
    with pytest.raises(UsageError) as error:
        check_enlisted(places, ["anna"], GAUSSIAN_TALKER)
    assert error.value.fix == "did you mean 'ann'?"


def test_a_preset_is_written_where_it_was_and_nothing_else_changes(places: Places) -> None:
    before = places.params.read_text()
    assert not choose_preset(places, "cpu")
    assert choose_preset(places, "best")
    assert places.params.read_text() == before.replace("preset: cpu ", "preset: best ")
    places.params.write_text("preset:\n  - a\nspeakers: []\n")
    with pytest.raises(UsageError, match="preset is \\['a'\\]"):
        choose_preset(places, "best")
    assert places.params.read_text() == "preset:\n  - a\nspeakers: []\n"
    with pytest.raises(UsageError, match="no preset 'bset'") as error:
        choose_preset(places, "bset")
    assert error.value.fix == "did you mean 'best'?"
    places.params.write_text("speakers: []\n")
    assert choose_preset(places, "demo")
    assert read_yaml(places.params) == {"preset": "demo", "speakers": []}
    for unusual in (
        "preset:\n  cpu\n",
        '"preset": cpu\n',
        "preset : cpu\n",
        "preset: |\n  cpu\n",
        "---\n",
        "preset: 'cpu'\n",
    ):
        places.params.write_text(f"{unusual}speakers: []  # nobody\n")
        choose_preset(places, "best")
        assert read_yaml(places.params) == {"preset": "best", "speakers": []}
        assert "# nobody" in places.params.read_text()


def test_that_one_draws_only_a_face_is_told_beside_the_numbers() -> None:
    whole = {"speaker": "ann", "method": "talking_gaussian", "drawn": evaluate.DRAWN}
    face = {"speaker": "ann", "method": "gaussian_talker", "drawn": gt_evaluate.DRAWN}
    assert "draws the face alone" in Measured(face, []).conditions()
    assert "draws the head, onto neck and cloth of the true frame" in Measured(whole, []).conditions()
    for one, other, which in ((whole, face, "second"), (face, whole, "first")):
        (note,) = caveats(one, other)
        assert f"he {which}: draws the face alone" in note
    assert caveats(face, face) == caveats(whole, whole) == []


def write_numbers(places: Places, method: Method, keys: Keys, value: float) -> None:
    """Write a file of one number of a head of ann, or of what a drive makes it say."""
    own = {"speaker": "ann", "extractor": keys.extractor, "method": method.name, "drive": keys.drive or ""}
    row = {**own, "region": "face_box", "variant": "full", "metric": "PSNR", "unit": "dB", "better": "higher"}
    about = {**own, "size": "9 x 9", "data": {"split": "a", "truth": "b"}, "language": "de"}
    rows = [{**row, "split": "drive" if keys.drive else "test", "value": value}]
    path = places.metrics(method.evaluate_drive if keys.drive else method.evaluate, keys) / "metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"about": about, "rows": rows}))


def cells_of(places: Places) -> set[tuple[str, str, str]]:
    """Return method, extractor and drive of every cell of the matrix."""
    content = json.loads((execute(matrix.STAGE, matrix.run, Keys(), places) / "matrix.json").read_text())
    return {(cell["method"], cell["extractor"], cell["drive"]) for cell in content["cells"]}


def test_heads_of_all_methods_stand_in_the_same_tables(places: Places) -> None:
    enlist(places, ["ann"], GAUSSIAN_TALKER)
    for value, method in enumerate(METHODS.values(), 30):
        for drive in (None, "de_f"):
            write_numbers(places, method, Keys("ann", "logmel", drive), float(value))
    folder = execute(tables.STAGE, tables.run, Keys(), places)
    third = (folder / "gaussian_talker_table_3.csv").read_text()
    assert 'ann,"TalkingGaussian (ours), logmel",30' in third
    assert 'ann,"GaussianTalker (ours), logmel",31' in third
    assert cells_of(places) == {(name, "logmel", drive) for name in METHODS for drive in ("", "de_f")}


def test_what_a_list_no_longer_has_is_in_no_table_though_its_numbers_lie_there(places: Places) -> None:
    for method in METHODS.values():
        for extractor in ("logmel", "hubert"):
            for drive in (None, "de_f", "gone"):
                write_numbers(places, method, Keys("ann", extractor, drive), 30.0)
    for other in ("wav2lip", "old"):
        path = places.metrics("evaluate_predictions", Keys("ann", method=other)) / "metrics.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"about": {"speaker": "ann", "method": other, "extractor": ""}, "rows": []}))
    text = places.params.read_text().replace("imports: {} ", "imports: {ann-wav2lip: {speaker: ann, method: wav2lip}} ")
    places.params.write_text(text)
    first = TALKING_GAUSSIAN.name
    assert cells_of(places) == {(first, "logmel", ""), (first, "logmel", "de_f")}
    found = tables.read_results(places)
    assert [(one.about["method"], one.about["extractor"]) for one in found.heads] == [(first, "logmel")]
    assert [one.about["method"] for one in found.imported] == ["wav2lip"]
    assert [one.about["drive"] for one in found.drives] == ["de_f"]
    places.params.write_text(text.replace("extractors: [logmel]", "extractors: [logmel, hubert]"))
    enlist(places, ["ann"], GAUSSIAN_TALKER)
    assert len(cells_of(places)) == 8
    assert len(tables.read_results(places).heads) == 4


def test_only_videos_of_what_is_listed_are_shown(places: Places) -> None:
    made = {
        name: places.root / "data" / "preview" / name
        for name in (
            "demo/render/logmel/result.mp4",
            "demo/render_drive/logmel/de_f/result.mp4",
            "demo/render_drive/logmel/gone/result.mp4",  # a drive that is listed no more
            "demo/render/hubert/result.mp4",
            "demo/gt_render/logmel/result.mp4",
            "bob/render/logmel/result.mp4",
        )
    }
    for path in made.values():
        path.parent.mkdir(parents=True)
        path.touch()
    assert videos_made(places) == list(made.values())[:2]
    text = places.params.read_text()
    places.params.write_text(text.replace("gaussian_talkers: []", "gaussian_talkers: [demo]"))
    assert made["demo/gt_render/logmel/result.mp4"] in videos_made(places)
