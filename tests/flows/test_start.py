import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest
import torch
from toy_project import Toy

from flows import start
from flows.graph import Plan, read_plan
from flows.processes import Children
from tasks.places import Places

ROOT = Path(__file__).resolve().parents[2]


def call(toy: Toy, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GAUSSTALK_ROOT": str(toy.root)}
    command = [sys.executable, "-m", "flows.cli", *words]
    return subprocess.run(command, cwd=toy.root, env=environment, capture_output=True, text=True, timeout=120)


def test_with_nothing_to_do_no_server_is_started(toy: Toy) -> None:
    assert toy.dvc("repro", "-q").returncode == 0
    done = call(toy, "run", "--json")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["states"].values()) == {"cached"}
    assert len(json.loads(done.stdout)["states"]) == 8
    assert not (toy.root / ".work" / "log").exists()


def test_a_device_that_is_not_there_is_told_before_anything_runs(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = call(toy, "run", "--device", "cuda")
    assert done.returncode == 5, done.stderr
    assert "no CUDA device here" in done.stderr
    for device, code in (("cuda", 5), ("gpu", 2)):
        monkeypatch.setenv("GAUSSTALK_DEVICE", device)
        assert call(toy, "run").returncode == code
    assert not toy.starts()
    assert toy.dvc("repro", "-q").returncode == 0
    assert call(toy, "run", "--device", "cpu").returncode == 0


def test_without_a_valid_basis_nothing_is_begun(toy: Toy) -> None:
    record = toy.root / "data" / "speakers" / "bob.yaml"
    record.write_text(record.read_text().replace("synthetic", "consent"))
    done = call(toy, "run", "bob")
    assert done.returncode == 4
    assert "no consent record" in done.stderr
    assert not toy.starts()
    assert toy.dvc("repro", "-q").returncode == 0
    assert call(toy, "run", "bob").returncode == 0  # nothing is to be done


def test_what_a_kill_has_cut_off_in_dvcs_notes_stops_no_run(toy: Toy) -> None:
    assert toy.dvc("repro", "-q").returncode == 0
    note = toy.root / ".dvc" / "tmp" / "rwlock"
    whole = note.read_text()
    for content in ('{"read": {', whole):
        note.write_text(content)
        start._mend_lock(Places(toy.root))
        assert note.is_file() == (content == whole)
    note.write_text("")
    (toy.root / "data" / "tables.txt").unlink()
    done = call(toy, "run", "ann")
    assert done.returncode == 0, done.stderr
    assert "had not finished writing" in done.stderr
    assert (toy.root / "data" / "tables.txt").is_file()


def test_a_dry_run_tells_what_would_run_and_runs_nothing(toy: Toy) -> None:
    assert toy.dvc("repro", "-q", "ingest@ann").returncode == 0
    done = call(toy, "run", "ann", "--dry-run", "--json")
    assert {row["name"]: row["changed"] for row in json.loads(done.stdout)} == {
        "demo": False,
        "ingest@ann": False,
        "audio@ann-logmel": True,
        "evaluate@ann-logmel": True,
        "tables": True,
    }
    assert set(toy.starts()) == {"demo", "ingest-ann"}
    assert "3 of 5 stages to do" in call(toy, "run", "ann", "--dry-run").stdout


def test_wrong_params_stop_a_run_before_it_begins(toy: Toy) -> None:
    with (toy.root / "params.yaml").open("a") as file:
        file.write("tg_face:\n  stpes: 3\n")
    done = call(toy, "run")
    assert done.returncode == 2
    assert done.stderr.startswith("error: params.yaml: tg_face: unknown key 'stpes'")
    assert not (toy.root / "log").exists()


def test_a_list_that_is_none_is_refused_before_dvc_reads_it(toy: Toy) -> None:
    (toy.root / "params.yaml").write_text("speakers: ann\nextractors: [logmel]\n")
    for words in (("--dry-run", "ann"), ("ann", "--method", "gaussiantalker"), ("ann", "--table", "5")):
        done = call(toy, "run", *words)
        assert done.returncode == 2
        assert done.stderr.startswith("error: params.yaml: speakers is 'ann', no list")
        assert "fix:   write speakers: [ann]" in done.stderr


def test_a_run_trains_by_the_preset_it_is_told_and_goes_on_with_it(toy: Toy) -> None:
    params = toy.root / "params.yaml"
    before = params.read_text()
    for words, why in (
        ("bset", "no preset 'bset'"),
        ("huge --dry-run", "no preset 'huge'"),
        ("best --dry-run", "a preset is chosen by a whole run"),
        ("best nobody", "no speaker 'nobody' in this project"),
        ("best --extractor nothing", "no extractor 'nothing' in this project"),
    ):
        refused = call(toy, "run", "--preset", *words.split())
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"error: {why}")
        assert params.read_text() == before
    assert call(toy, "run", "--preset", "best").returncode == 0
    assert params.read_text() == f"preset: best\n{before}"


def test_a_speaker_without_a_record_stops_a_run_before_it_begins(toy: Toy) -> None:
    (toy.root / "data" / "speakers" / "bob.yaml").unlink()
    done = call(toy, "run")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no speaker 'bob'")
    assert "fix:   gausstalk add-speaker bob VIDEO --consent FILE" in done.stderr
    assert not (toy.root / "log").exists()


def test_a_stage_that_is_run_alone_ends_with_the_command(toy: Toy) -> None:
    assert toy.dvc("repro", "-q", "evaluate").returncode == 0
    toy.control("tables", "sleep 100")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GAUSSTALK_ROOT": str(toy.root)}
    process = subprocess.Popen([sys.executable, "-m", "flows.cli", "tables"], cwd=toy.root, env=environment)
    log = toy.root / "log" / "tables"
    while not (log.is_file() and log.read_text()) and process.poll() is None:
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    code = process.wait(60)
    left = [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    for child in left:
        child.kill()
    assert code == 130
    assert len(children) >= 2
    assert left == []


@pytest.mark.parametrize(("allowed", "share"), [("6", 3), ("1", 1), ("", max(1, len(os.sched_getaffinity(0)) // 2))])
def test_stages_side_by_side_share_the_threads_that_a_run_may_use(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, allowed: str, share: int
) -> None:
    import flows.run

    told: list[int] = []

    def conductor(_places: Places, _plan: Plan, _jobs: int, threads: int, _stages: Children) -> Mock:
        told.append(threads)
        return Mock(run=flows.run.Outcome)

    monkeypatch.setattr(flows.run, "Conductor", conductor)
    monkeypatch.setattr(start, "prefect_for_a_run", lambda *_: nullcontext("nowhere"))
    monkeypatch.setenv("GAUSSTALK_THREADS", allowed)
    places, children = Places(toy.root), Children(toy.root / "children.json")
    start._conduct(places, read_plan(toy.root), 2, children, children)
    assert told == [share]
