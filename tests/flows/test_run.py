import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from toy_project import Toy

from flows.graph import Plan, read_plan
from flows.processes import Children
from flows.run import Outcome, failure, priorities
from tasks.places import Places

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("prefect_server")


def conduct(toy: Toy, *speakers: str, jobs: int = 2) -> Outcome:
    from flows.run import Conductor

    children = Children(toy.root / ".work" / "run" / "stages.json")
    return Conductor(Places(toy.root), read_plan(toy.root, speakers), jobs, 1, children).run()


def test_runs_everything_once_speakers_side_by_side_and_then_finds_it_cached(toy: Toy) -> None:
    toy.control("audio-ann-logmel", "sleep 8")
    toy.control("audio-bob-logmel", "sleep 8")
    outcome = conduct(toy)
    assert outcome.errors == []
    assert set(outcome.states.values()) == {"done"}
    assert toy.starts() == dict.fromkeys(
        ["audio-ann-logmel", "audio-bob-logmel", "demo", "evaluate-ann-logmel", "evaluate-bob-logmel", "ingest-ann"]
        + ["ingest-bob", "tables"],
        1,
    )
    ann, bob = toy.span("audio-ann-logmel"), toy.span("audio-bob-logmel")
    assert max(ann[0], bob[0]) < min(ann[1], bob[1])
    # DVC itself agrees that nothing is left to do.
    assert "up to date" in toy.dvc("status").stdout
    again = conduct(toy)
    assert set(again.states.values()) == {"cached"}
    assert set(toy.starts().values()) == {1}


def test_a_failed_stage_is_named_with_its_words_and_the_other_speaker_goes_on(toy: Toy) -> None:
    toy.control("audio-bob-logmel", "fail 3")
    outcome = conduct(toy)
    assert [error.name for error in outcome.errors] == ["audio@bob-logmel"]
    assert outcome.exit_code == 3
    assert outcome.errors[0].words == (
        "error: audio-bob-logmel cannot\nwhy:   it was told so\nfix:   tell it otherwise"
    )
    assert outcome.states["evaluate@bob-logmel"] == "skipped"
    assert outcome.states["evaluate@ann-logmel"] == "done"
    assert outcome.states["tables"] == "done"
    assert toy.starts()["audio-bob-logmel"] == 1  # a bad input is not tried again
    toy.release("audio-bob-logmel")
    repaired = conduct(toy, "bob")
    assert repaired.exit_code == 0
    assert {name for name, state in repaired.states.items() if state == "done"} == {
        "audio@bob-logmel",
        "evaluate@bob-logmel",
        "tables",
    }
    assert "bob" in (toy.root / "data" / "tables.txt").read_text()


GATHERING = """
  cut:
    foreach: ${{speakers}}
    do:
      cmd: >-
        {python} toy.py cut --speaker ${{item}} --out data/cut/${{item}}.txt --reads data/work/${{item}}/ingest.txt
      deps: ["data/work/${{item}}/ingest.txt"]
      outs: ["data/cut/${{item}}.txt"]
  gather:
    cmd: {python} toy.py gather --out data/gathered.txt --reads data/cut
    deps: [data/cut]
    outs: [data/gathered.txt]
"""


def test_what_gathers_of_all_speakers_does_without_those_that_failed(toy: Toy) -> None:
    text = (toy.root / "dvc.yaml").read_text()
    needed = '      deps: ["data/work/${item.speaker}/audio/${item.extractor}.txt"'
    assert needed[2:] in text
    text = text.replace(needed[2:], needed[2:] + ", data/gathered.txt")
    (toy.root / "dvc.yaml").write_text(text + GATHERING.format(python=sys.executable))
    plan = read_plan(toy.root)
    assert [item.name for item in plan.shared] == ["demo", "gather"]
    names = [item.name for item in plan.items]
    assert all(names.index(need) < names.index(item.name) for item in plan.items for need in item.needs)
    toy.control("cut-bob", "fail 3")
    outcome = conduct(toy)
    assert [error.name for error in outcome.errors] == ["cut@bob"]
    assert outcome.states["gather"] == "done"
    assert outcome.states["evaluate@ann-logmel"] == "done"
    assert (toy.root / "data/gathered.txt").read_text().count("cut-") == 1


def test_what_comes_after_a_failure_is_called_skipped(toy: Toy) -> None:
    lines: list[tuple[str, str]] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append((record.levelname, record.getMessage()))  # type: ignore[method-assign]
    toy.control("ingest-bob", "fail 3")
    logging.getLogger("prefect.task_runs").addHandler(handler)
    try:
        conduct(toy, "bob")
    finally:
        logging.getLogger("prefect.task_runs").removeHandler(handler)
    assert ("INFO", "skipped: a stage that it needs has failed") in lines
    assert not [words for _, words in lines if "NotReady" in words]


def test_a_killed_stage_is_tried_once_more(toy: Toy) -> None:
    toy.control("ingest-ann", "killed-once")
    outcome = conduct(toy, "ann")
    assert outcome.exit_code == 0
    assert outcome.errors == []
    assert outcome.states["ingest@ann"] == "done"
    assert toy.starts()["ingest-ann"] == 2
    assert "ingest-bob" not in toy.starts()


def start_run(toy: Toy) -> "subprocess.Popen[str]":
    """Start `gausstalk run` as a user would and wait until a stage is in the middle of its work."""
    from prefect.settings import PREFECT_API_URL

    environment = {**os.environ, "GAUSSTALK_ROOT": str(toy.root), "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "flows.cli", "run"]
    process = subprocess.Popen(command, env=environment, cwd=toy.root, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while "audio-ann-logmel" not in toy.starts():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


def living(toy: Toy) -> list[int]:
    """The processes that stand in the toy project."""
    found = []
    for process in psutil.process_iter(["cwd", "status"]):
        if process.info["cwd"] == str(toy.root) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_process_and_the_next_run_goes_on(toy: Toy, number: signal.Signals) -> None:
    toy.control("audio-ann-logmel", "sleep 120")
    process = start_run(toy)
    process.send_signal(number)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130, complaints
    assert "the same command goes on" in complaints
    assert "Traceback" not in complaints
    assert living(toy) == []
    toy.release("audio-ann-logmel")
    assert conduct(toy, "ann").exit_code == 0
    assert toy.starts()["ingest-ann"] == 1


def test_a_run_whose_log_nobody_reads_any_more_goes_on(toy: Toy) -> None:
    process = start_run(toy)
    assert process.stderr is not None
    process.stderr.readline()
    process.stderr.close()
    assert process.wait(timeout=100) == 0
    assert (toy.root / "data" / "tables.txt").is_file()


def test_a_run_that_was_killed_outright_is_cleaned_up_by_the_next(toy: Toy) -> None:
    toy.control("audio-ann-logmel", "sleep 120")
    process = start_run(toy)
    process.kill()
    process.communicate()
    assert living(toy) != []
    assert Children(toy.root / ".work" / "run" / "stages.json").stop_leftovers() >= 1
    assert living(toy) == []
    toy.release("audio-ann-logmel")
    assert conduct(toy, "ann").exit_code == 0
    assert toy.dvc("status", "audio@ann-logmel", "-q").returncode == 0


@pytest.mark.parametrize(
    ("code", "lines", "exit_code", "passing"),
    [
        (255, ["error: no face", "ERROR: failed to run: python -m tasks.x, exited with 3"], 3, False),
        (255, ["error: no weights", "ERROR: failed to run: x, exited with 4"], 4, False),
        (255, ["ERROR: failed to run: x, exited with -9"], 1, True),
        (255, ["ERROR: failed to run: x, exited with 137"], 1, True),
        (255, ["Traceback", "ValueError: x", "ERROR: failed to run: x, exited with 1"], 1, False),
        (255, ["ERROR: 'data/a' is busy, it is being blocked by:", "  (PID 1): dvc repro"], 6, True),
        (-9, [], 1, True),
    ],
)
def test_why_a_stage_failed_decides_exit_code_and_retry(
    code: int, lines: list[str], exit_code: int, passing: bool
) -> None:
    error = failure("x", code, lines)
    assert (error.exit_code, error.passing) == (exit_code, passing)


def test_a_traceback_is_cut_down_to_what_was_raised_and_where() -> None:
    lines = ["Traceback (most recent call last):", '  File "a.py", line 3, in run', "    x()", "    ^^^"]
    lines += ["TypeError: x() takes 1 argument", "ERROR: failed to run: x, exited with 1"]
    assert failure("report", 255, lines).words == (
        "error: TypeError: x() takes 1 argument\n"
        'why:   File "a.py", line 3, in run\n'
        "fix:   see all of it: dvc repro --single-item report"
    )


def test_what_most_wait_for_comes_first(toy: Toy) -> None:
    plan: Plan = read_plan(toy.root)
    order = priorities(plan)
    assert order["demo"] == 7
    assert order["demo"] > order["ingest@ann"] > order["audio@ann-logmel"] > order["tables"] == 0
