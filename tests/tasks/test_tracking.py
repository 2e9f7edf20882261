import json
import logging
import shutil
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import evaluated_project
import numpy as np
import pytest

from models.errors import ConsentError, InputError, UsageError
from tasks import tracking
from tasks.entries import Entry, metric_rows
from tasks.places import Keys, Places
from tasks.publish import _note, publish
from tasks.side_by_side import open_run
from tasks.tracking import live_curves, open_store, pending_folder

ROOT = Path(__file__).resolve().parents[2]
KEYS = Keys(speaker="ann", extractor="logmel")
METHOD = "talking_gaussian"


@pytest.fixture(scope="module")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's empty database; creating one takes seconds."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def places(bare: Places, fresh_database: Path) -> Places:
    """The project with an empty database."""
    target = bare.root / ".work" / "mlflow" / "mlflow.db"
    target.parent.mkdir(parents=True)
    shutil.copy(fresh_database, target)
    return bare


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """A project with numbers, a table, a report, a picture and a video."""
    monkeypatch.delenv("GAUSSTALK_ASSETS", raising=False)
    row = {"speaker": "ann", "method": METHOD, "extractor": "logmel", "split": "test", "drive": None, "region": "head"}
    rows = [
        {**row, "variant": "full", "metric": "psnr", "value": 30.5, "unit": "dB", "better": "higher"},
        {**row, "variant": "wrong_audio", "metric": "psnr", "value": 28.0, "unit": "dB", "better": "higher"},
        {**row, "variant": "full", "metric": "lmd", "value": None, "unit": "px", "better": "lower"},
    ]
    driven = [
        {**row, "drive": "de_f", "variant": "full", "metric": "sync", "value": 5.0, "unit": "1", "better": "higher"}
    ]
    files = {
        "params.yaml": "speakers: [ann]\ntg_face:\n  steps: 7\n",
        "data/assets.toml": '[w]\nfile = "w"\nurl = ""\nsha256 = "0"\nbytes = 1\nlicence = "MIT"\nwhat = "w"\n',
        "data/metrics/ann/evaluate/logmel/self.json": json.dumps({"rows": rows}),
        "data/metrics/ann/evaluate_drive/logmel/de_f/drive.json": json.dumps({"rows": driven}),
        "data/tables/all.csv": "a,b\n1,2\n",
        "data/report/report.html": "<p>report</p>",
        "data/preview/ann/render/logmel/strip.jpg": "picture",
        "data/preview/ann/render/logmel/result.mp4": "video",
        "data/preview/ann/render_drive/logmel/de_f/result.mp4": "driven video",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Places(tmp_path)


def runs_of(places: Places, **tags: str) -> list[Any]:
    client, experiment = open_store(places)
    found = client.search_runs([experiment])
    return [
        run for run in found if all(run.data.tags.get(f"gausstalk.{name}") == value for name, value in tags.items())
    ]


def curve(places: Places, run: Any, name: str) -> list[tuple[int, float]]:
    client, _ = open_store(places)
    return sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, name))


def test_curves_of_all_phases_arrive_in_one_run(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "LEAVE_WITHIN_S", 30.0)
    for phase in ("tg_face", "tg_mouth"):
        with live_curves(KEYS, METHOD, phase, places) as live:
            for step in range(1500):
                live.log(step, loss=1.0 / (step + 1), bad=float("nan"))
            live.log(2000, loss=np.float32(0.5))
    (run,) = runs_of(places, key=f"ann/{METHOD}/logmel", state="live")
    points = curve(places, run, "tg_face/loss")
    assert len(points) == 1501
    assert points[-1] == (2000, 0.5)
    assert "tg_face/bad" not in run.data.metrics
    assert len(curve(places, run, "tg_mouth/loss")) == 1501
    assert list(pending_folder(places).glob("*")) == []


def test_leaving_is_quick_and_publish_hands_in_the_rest(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def slow_store(_: Places) -> None:
        over.wait(60)
        raise OSError("too late")

    monkeypatch.setattr(tracking, "open_store", slow_store)
    started = time.monotonic()
    with live_curves(KEYS, METHOD, "tg_face", places) as live:
        live.log(1, loss=3.0)
    assert time.monotonic() - started < 5
    over.set()
    assert len(list(pending_folder(places).glob("*.json"))) == 1
    monkeypatch.undo()
    assert publish(places)["state"] == "complete"
    (run,) = runs_of(places, key=f"ann/{METHOD}/logmel")
    assert curve(places, run, "tg_face/loss") == [(1, 3.0)]
    assert list(pending_folder(places).glob("*")) == []


def test_a_broken_store_is_one_warning(bare: Places, caplog: pytest.LogCaptureFixture) -> None:
    database = bare.root / ".work" / "mlflow" / "mlflow.db"
    database.parent.mkdir(parents=True)
    database.write_bytes(b"this is no database" * 100)
    with caplog.at_level(logging.WARNING, "gausstalk"), live_curves(KEYS, METHOD, "tg_face", bare) as live:
        for step in range(10):
            live.log(step, loss=1.0)
            live.log(step, loss="none")  # type: ignore[arg-type]
        deadline = time.monotonic() + 60
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.1)
    assert len([record for record in caplog.records if record.name == "gausstalk"]) == 1
    result = publish(bare)
    assert result["state"] == "pending"
    assert "not a database" in result["why"]
    (kept,) = pending_folder(bare).glob("*.json")
    assert len(json.loads(kept.read_text())["points"]) == 10


def test_the_body_s_own_error_is_not_swallowed(places: Places) -> None:
    with pytest.raises(KeyError), live_curves(KEYS, METHOD, "tg_face", places):
        raise KeyError("mine")


def test_publishing_logs_all_of_it_and_twice_adds_nothing(places: Places) -> None:
    first = publish(places)
    assert first["state"] == "complete"
    assert [entry["key"] for entry in first["runs"]] == [
        "ann",
        f"ann/{METHOD}/logmel",
        f"ann/{METHOD}/logmel/de_f",
        "project",
    ]
    client, _ = open_store(places)
    (head,) = runs_of(places, key=f"ann/{METHOD}/logmel", state="published")
    assert head.data.metrics == {"test.head.psnr": 30.5, "test.head.psnr.wrong_audio": 28.0}
    assert head.data.params["tg_face.steps"] == "7"
    assert head.data.params["asset.w"] == "absent"
    files = [
        item.path
        for folder in client.list_artifacts(head.info.run_id)
        for item in client.list_artifacts(head.info.run_id, folder.path)
    ]
    assert files == ["metrics/evaluate", "pictures/render", "tables/metrics.json", "videos/render"]
    (speaker,) = runs_of(places, key="ann", level="speaker")
    assert head.data.tags["mlflow.parentRunId"] == speaker.info.run_id
    assert "mlflow.parentRunId" not in speaker.data.tags
    assert head.data.tags["gausstalk.level"] == "head"
    (drive,) = runs_of(places, key=f"ann/{METHOD}/logmel/de_f")
    assert drive.data.tags["mlflow.parentRunId"] == head.info.run_id
    assert drive.data.metrics == {"test.head.sync": 5.0}
    (project,) = runs_of(places, key="project")
    assert [item.path for item in client.list_artifacts(project.info.run_id, "report")] == ["report/report.html"]

    again = publish(places)
    assert [entry["new"] for entry in again["runs"]] == [False] * 4
    assert [entry["run_id"] for entry in again["runs"]] == [entry["run_id"] for entry in first["runs"]]
    assert len(runs_of(places)) == 4


LOCK = """schema: '2.0'
stages:
  ingest@ann:
    cmd: python -m tasks.ingest --speaker ann
    params: {{params.yaml: {{ingest: {{size: {size}}}}}}}
    outs: [{{path: data/work/ann/ingest, md5: 1.dir}}]
  tg_face@ann-logmel:
    cmd: python -m tasks.tg_face --speaker ann --extractor logmel
    params: {{params.yaml: {{preset: cpu, tg_face: {{steps: 7}}}}}}
    outs: [{{path: data/work/ann/tg_face/logmel, md5: {face}.dir}}]
  tg_face@bob-logmel:
    cmd: python -m tasks.tg_face --speaker bob --extractor logmel
    params: {{params.yaml: {{tg_face: {{steps: {bob}}}}}}}
    outs: [{{path: data/work/bob/tg_face/logmel, md5: {bob}.dir}}]
"""


def test_a_run_is_one_state_of_what_the_lock_says_of_its_own_stages(places: Places) -> None:
    """What concerns others makes no new run; another output or param of its own stages does, down to the drives."""

    def new(**change: int) -> list[str]:
        (places.root / "dvc.lock").write_text(LOCK.format(**{"size": 256, "face": 2, "bob": 3, **change}))
        return [entry["key"] for entry in publish(places)["runs"] if entry["new"] and entry["key"] != "project"]

    head, drive = f"ann/{METHOD}/logmel", f"ann/{METHOD}/logmel/de_f"
    assert new() == ["ann", head, drive]
    (first,) = runs_of(places, key=head)
    assert first.data.params["ingest.size"] == "256"
    assert first.data.params["tg_face.steps"] == "7"
    places.params.write_text("speakers: [ann, bob]\nextractors: [x]\ntg_face: {steps: 9}\n")
    assert new(bob=4) == []
    assert new(face=5) == [head, drive]
    assert new(face=5, size=512) == ["ann", head, drive]
    assert new(face=5, size=512) == []
    newest = max(runs_of(places, key=head), key=lambda run: run.info.start_time)
    assert newest.data.params["ingest.size"] == "512"
    parents = {run.data.tags["mlflow.parentRunId"] for run in runs_of(places, key=drive)}
    assert parents == {run.info.run_id for run in runs_of(places, key=head)}


def test_publishers_at_once_leave_one_set_of_runs(places: Places) -> None:
    open_store(places)
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(publish, [places] * 3))
    assert [result["state"] for result in results] == ["complete"] * 3
    assert sorted(sum(entry["new"] for entry in result["runs"]) for result in results) == [0, 0, 4]
    keys = sorted(run.data.tags["gausstalk.key"] for run in runs_of(places))
    assert keys == ["ann", f"ann/{METHOD}/logmel", f"ann/{METHOD}/logmel/de_f", "project"]
    client, _ = open_store(places)
    (head,) = runs_of(places, key=f"ann/{METHOD}/logmel")
    table = json.loads(Path(client.download_artifacts(head.info.run_id, "tables/metrics.json")).read_text())
    assert len(table["data"]) == 3


def test_frames_of_another_system_are_a_run_beside_our_heads(places: Places) -> None:
    row = {"speaker": "ann", "method": "wav2lip", "extractor": "", "split": "test", "drive": "", "region": "head"}
    row |= {"variant": "full", "metric": "psnr", "value": 29.0, "unit": "dB", "better": "higher"}
    about = {"size": "256 x 256", "split": "test: 5 of 9 frames", "data": {"split": "12ab", "truth": "34cd"}}
    for name, text in {
        "data/metrics/ann/evaluate_predictions/wav2lip/metrics.json": json.dumps({"about": about, "rows": [row]}),
        "data/metrics/ann/evaluate_predictions/wav2lip/per_frame.parquet": "rows",
        "data/preview/ann/predictions/wav2lip/result.mp4": "video",
        "data/preview/ann/evaluate_predictions/wav2lip/worst_PSNR_mouth.jpg": "picture",
    }.items():
        path = places.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    publish(places)
    (run,) = runs_of(places, key="ann/wav2lip", level="head", method="wav2lip")
    (speaker,) = runs_of(places, key="ann")
    assert run.data.tags["mlflow.parentRunId"] == speaker.info.run_id
    assert (run.data.tags["gausstalk.size"], run.data.tags["gausstalk.split_sha256"]) == ("256 x 256", "12ab")
    client, _ = open_store(places)
    for folder, file in (
        ("videos/predictions", "result.mp4"),
        ("pictures/evaluate_predictions", "worst_PSNR_mouth.jpg"),
        ("metrics/evaluate_predictions", "per_frame.parquet"),
    ):
        assert f"{folder}/{file}" in [item.path for item in client.list_artifacts(run.info.run_id, folder)]


def test_each_method_has_its_own_run_with_its_own_params_and_pictures(places: Places) -> None:
    row = {"speaker": "ann", "method": "gaussian_talker", "extractor": "logmel", "split": "test", "drive": ""}
    row |= {"region": "head", "variant": "full", "metric": "psnr", "value": 29.0, "unit": "dB", "better": "higher"}
    for name, text in {
        "dvc.lock": LOCK.format(size=256, face=2, bob=3) + GAUSSIAN_TALKERS_LOCK,
        "data/metrics/ann/gt_evaluate/logmel/metrics.json": json.dumps({"rows": [row]}),
        "data/metrics/ann/gt_evaluate_drive/logmel/de_f/metrics.json": json.dumps({"rows": [{**row, "drive": "de_f"}]}),
        "data/preview/ann/gt_render/logmel/result.mp4": "video of the second method",
        "data/preview/ann/gt_render_drive/logmel/de_f/result.mp4": "driven video of the second method",
        "data/preview/ann/gt_renderer/strip.jpg": "picture",
    }.items():
        path = places.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    publish(places)
    client, _ = open_store(places)

    def pictures(key: str) -> set[str]:
        (run,) = runs_of(places, key=key)
        kinds = ("videos", "pictures")
        folders = [item.path for kind in kinds for item in client.list_artifacts(run.info.run_id, kind)]
        return {item.path for folder in folders for item in client.list_artifacts(run.info.run_id, folder)}

    first, second = f"ann/{METHOD}/logmel", "ann/gaussian_talker/logmel"
    assert pictures(first) == {"videos/render/result.mp4", "pictures/render/strip.jpg"}
    assert pictures(second) == {"videos/gt_render/result.mp4", "pictures/gt_renderer/strip.jpg"}
    assert pictures(f"{first}/de_f") == {"videos/render_drive/result.mp4"}
    assert pictures(f"{second}/de_f") == {"videos/gt_render_drive/result.mp4"}
    assert pictures("ann") == set()
    (one,), (other,) = (runs_of(places, key=key) for key in (first, second))
    assert {"tg_face.steps", "ingest.size"} <= one.data.params.keys()
    assert {"gt_renderer.gaussians", "ingest.size"} <= other.data.params.keys()
    assert not {"gt_renderer.gaussians"} & one.data.params.keys() | {"tg_face.steps"} & other.data.params.keys()


GAUSSIAN_TALKERS_LOCK = """  gt_renderer@ann:
    cmd: python -m tasks.gt_renderer --speaker ann
    params: {params.yaml: {gt_renderer: {gaussians: 9}}}
    outs: [{path: data/work/ann/gt_renderer, md5: 7.dir}]
"""


def test_curves_of_a_step_before_the_head_are_closed_too(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "LEAVE_WITHIN_S", 30.0)
    for speaker in ("ann", "bob"):
        with live_curves(Keys(speaker=speaker), METHOD, "pose_refine", places) as live:
            live.log(1, loss=1.0)
    publish(places)
    (closed,) = runs_of(places, key=f"ann/{METHOD}", state="curves")
    assert closed.info.run_name == f"ann {METHOD} (curves only)"  # beside results it looks like one of them
    assert len(runs_of(places, key=f"bob/{METHOD}", state="live")) == 1  # his head is not there yet


@pytest.mark.parametrize(
    ("value", "unit", "better", "told"),
    [
        (-1.0, "frames", "", "-1 frames"),
        (4.0, "count", "", "4"),
        (0.98765, "1", "higher", "0.988, better: higher"),
        (0.00042, "1", "lower", "0.00042, better: lower"),
        (0.9, "1", "1", "0.900, better: nearer to 1"),
        (30.5, "dB", "higher", "30.50 dB, better: higher"),
        (None, "dB", "higher", "n/a, better: higher"),
    ],
)
def test_a_run_s_description_tells_unit_and_direction_only_where_there_are(
    value: float | None, unit: str, better: str, told: str
) -> None:
    row = {"split": "test", "region": "head", "metric": "m", "value": value, "unit": unit, "better": better}
    assert _note(Entry("ann", rows=[{**row, "variant": "full"}])).endswith(f"` {told}")


def test_another_result_is_another_run_to_compare_with(places: Places) -> None:
    publish(places)
    path = places.root / "data/metrics/ann/evaluate/logmel/self.json"
    path.write_text(path.read_text().replace("30.5", "31.5"))
    publish(places)
    heads = runs_of(places, key=f"ann/{METHOD}/logmel", state="published")
    assert sorted(run.data.metrics["test.head.psnr"] for run in heads) == [30.5, 31.5]


@pytest.fixture
def cut_short(places: Places) -> None:
    """A publish that broke off when all params and numbers were logged."""
    from mlflow.tracking import MlflowClient

    real = MlflowClient.log_artifact

    def failing(self: MlflowClient, run: str, path: str, artifact_path: str) -> None:
        if path.endswith(".mp4"):
            raise sqlite3.OperationalError("database is locked")
        real(self, run, path, artifact_path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifact", failing)
        assert publish(places)["state"] == "pending"


@pytest.mark.usefixtures("cut_short")
def test_a_publish_that_was_cut_short_is_completed_in_the_same_run(places: Places) -> None:
    assert publish(places)["state"] == "complete"
    assert len(runs_of(places)) == 4


@pytest.mark.usefixtures("cut_short")
def test_numbers_of_another_training_do_not_come_beside_the_params_of_one_that_was_cut_short(places: Places) -> None:
    places.params.write_text(places.params.read_text().replace("7", "9"))
    assert publish(places)["state"] == "complete"
    key = f"ann/{METHOD}/logmel"
    (head,), (old,) = (runs_of(places, key=key, state=state) for state in ("published", "curves"))
    assert (head.data.params["tg_face.steps"], old.data.params["tg_face.steps"]) == ("9", "7")
    assert head.data.metrics["test.head.psnr"] == 30.5
    assert old.info.status == "FINISHED"


@pytest.mark.usefixtures("cut_short")
def test_curves_of_the_next_training_do_not_go_into_a_result_that_was_cut_short(places: Places) -> None:
    with live_curves(KEYS, METHOD, "tg_face", places) as curves:
        curves.log(1, next=2.0)
    assert publish(places)["state"] == "complete"
    key = f"ann/{METHOD}/logmel"
    (head,), (training,) = (runs_of(places, key=key, state=state) for state in ("published", "live"))
    assert "tg_face/next" not in head.data.metrics
    assert training.data.metrics == {"tg_face/next": 2.0}


def test_no_numbers_at_all(places: Places) -> None:
    shutil.rmtree(places.root / "data" / "metrics")
    assert list(metric_rows(places)) == []
    assert [entry["key"] for entry in publish(places)["runs"]] == ["project"]


def test_without_a_valid_basis_nothing_is_published_or_compared(
    places: Places, caplog: pytest.LogCaptureFixture
) -> None:
    publish(places)
    record = places.speaker_record("ann")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text("name: ann\nbasis: consent\nsources: [a.mp4]\n")  # and nobody's consent
    with pytest.raises(ConsentError, match="no consent record"):
        open_run(places, "ann/talking_gaussian/logmel")
    assert {entry["key"].split("/")[0] for entry in publish(places)["runs"]} == {"project"}
    assert "MLflow gets nothing of ann" in caplog.text


def test_published_runs_are_found_by_key_and_by_the_beginning_of_their_id(places: Places) -> None:
    evaluated_project.write_metrics(places.root, "ada")
    publish(places)
    first = open_run(places, "ada/talking_gaussian/logmel")
    rows = evaluated_project.metrics_file("ada")["rows"]
    evaluated_project.write_metrics(places.root, "ada", rows=[{**row, "value": row["value"] + 1} for row in rows])
    publish(places)
    newest = open_run(places, "ada/talking_gaussian/logmel")
    assert newest.run_id != first.run_id
    assert newest.measured.rows[0]["value"] == first.measured.rows[0]["value"] + 1
    assert open_run(places, first.run_id[:10]).measured == first.measured
    for name in ("ada/talking_gaussian/none", "0" * 12):
        with pytest.raises(UsageError, match="there are ada/talking_gaussian/logmel"):
            open_run(places, name)
    with pytest.raises(InputError, match="no numbers of a head"):
        open_run(places, "ada")


def test_a_project_that_was_moved_finds_and_writes_its_files_where_it_is(places: Places, tmp_path: Path) -> None:
    evaluated_project.write_metrics(places.root, "ada")
    publish(places)
    moved = Places(tmp_path / "moved")
    moved.root.mkdir()
    for name in (".work", "data", "params.yaml"):
        shutil.move(places.root / name, moved.root / name)
    rows = open_run(moved, "ada/talking_gaussian/logmel").measured.rows
    changed = [{**row, "value": row["value"] + 1} for row in rows]
    evaluated_project.write_metrics(moved.root, "ada", rows=changed)
    publish(moved)
    assert open_run(moved, "ada/talking_gaussian/logmel").measured.rows == changed
    assert not (places.root / ".work").exists()
