"""The runner: published whole or not at all, documented exit codes, checkpoints that outlive a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from models.errors import InputError, UsageError
from models.records import ActionUnits
from tasks.locks import only_one
from tasks.params import Params
from tasks.places import Keys, Places
from tasks.put_away import put_away, table_lock
from tasks.stage import Context, Stage, execute, threads

ROOT = Path(__file__).resolve().parents[2]


class Settings(Params):
    level: float = 1.0


STAGE = Stage("action_units", ("speaker",), Settings, reads=(), gives=ActionUnits, preview=True)
KEYS = Keys(speaker="ada")


def units(level: float) -> ActionUnits:
    return ActionUnits(
        "test", np.full((4, 1), level, np.float32), np.zeros((4, 4), np.float32), np.ones(4, bool), ["AU01"]
    )


def run(context: Context[Settings]) -> ActionUnits:
    (context.preview / "strip.jpg").write_bytes(b"x")
    return units(context.params.level)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "params.yaml").write_text("action_units: {level: 2.5}\n")
    return Places(tmp_path)


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_a_stage_gives_lands_in_its_places(places: Places) -> None:
    folder = execute(STAGE, run, KEYS, places)
    assert folder == places.root / "data/work/ada/action_units"
    assert ActionUnits.load(folder).intensity[0, 0] == 2.5
    assert (places.root / "data/preview/ada/action_units/strip.jpg").is_file()
    assert not list((places.root / ".work").rglob("*.safetensors"))


def test_a_stage_takes_the_params_of_a_variant_from_its_table_alone(places: Places) -> None:
    saved = put_away(places)
    with only_one(table_lock(places), "a table"):
        saved.write_text("action_units: {level: 1.0}\n")
        execute(STAGE, run, KEYS, places)
    with pytest.raises(UsageError, match=r"params.yaml is a variant's") as error:  # dvc repro after a kill
        execute(STAGE, run, KEYS, places)
    words = error.value.fix.split()
    assert words[0] == "mv"
    (places.root / words[1]).rename(places.root / words[2].rstrip(","))
    folder = execute(STAGE, run, KEYS, places)
    assert ActionUnits.load(folder).intensity[0, 0] == 1.0


def test_a_failing_stage_leaves_what_was_there(places: Places) -> None:
    execute(STAGE, run, KEYS, places)
    before = tree(places.root)

    def fail(context: Context[Settings]) -> ActionUnits:
        (context.output / "half").write_text("x")
        raise InputError("no face")

    with pytest.raises(InputError):
        execute(STAGE, fail, KEYS, places)
    assert tree(places.root) == before
    assert ActionUnits.load(places.record("action_units", KEYS)).intensity[0, 0] == 2.5


def test_an_interrupt_between_old_and_new_leaves_the_old(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(STAGE, run, KEYS, places)
    before, real = tree(places.root), os.replace

    def interrupted(source: Path, target: Path) -> None:
        if Path(source).name == "output" and Path(target) == places.record("action_units", KEYS):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        execute(STAGE, run, KEYS, places)
    assert tree(places.root) == before
    assert ActionUnits.load(places.record("action_units", KEYS)).intensity[0, 0] == 2.5


def test_reading_an_undeclared_stage_is_refused(places: Places) -> None:
    def peek(context: Context[Settings]) -> ActionUnits:
        return context.read(ActionUnits, "track")

    with pytest.raises(UsageError, match="without declaring"):
        execute(STAGE, peek, KEYS, places)


def test_giving_another_record_is_refused(places: Places) -> None:
    with pytest.raises(UsageError, match="gave a NoneType"):
        execute(STAGE, lambda context: None, KEYS, places)


SCRIPT = '''
"""A stage for tests."""
import sys, time
import numpy as np
from models.errors import InputError, ConsentError
from models.records import ActionUnits
from tasks.params import Params
from tasks.stage import Stage, main

class Settings(Params):
    """Its settings."""
    mode: str = "good"

STAGE = Stage("action_units", ("speaker",), Settings, gives=ActionUnits)

def run(context):
    context.scratch.mkdir(parents=True, exist_ok=True)
    mark = context.scratch / "checkpoint"
    if context.params.mode == "input":
        raise InputError("too dark", "no face can be seen", "more light")
    if context.params.mode == "consent":
        raise ConsentError("expired")
    if context.params.mode == "sleep" and not mark.exists():
        mark.write_text("half")
        (context.output / "torn").write_text("x")
        print("ready", flush=True)
        time.sleep(60)
    return ActionUnits("test", np.ones((4, 1), np.float32), np.zeros((4, 4), np.float32), np.ones(4, bool), ["AU01"])

if __name__ == "__main__":
    main(STAGE, run)
'''


def start(root: Path, mode: str, *arguments: str) -> subprocess.Popen[str]:
    (root / "params.yaml").write_text(f"action_units: {{mode: {mode}}}\n")
    (root / "stage_for_test.py").write_text(SCRIPT)
    environment = {**os.environ, "GAUSSTALK_ROOT": str(root), "PYTHONPATH": f"{ROOT}:{root}"}
    command = [sys.executable, "-m", "stage_for_test", "--speaker", "ada", *arguments]
    return subprocess.Popen(
        command, env=environment, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize(
    ("mode", "code", "text"), [("input", 3, "fix:   more light"), ("consent", 4, "error: expired")]
)
def test_errors_become_exit_codes_without_a_traceback(tmp_path: Path, mode: str, code: int, text: str) -> None:
    process = start(tmp_path, mode)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert text in errors
    assert "Traceback" not in errors


def test_an_unknown_params_key_names_the_nearest(tmp_path: Path) -> None:
    process = start(tmp_path, "good")
    process.communicate(timeout=60)
    assert process.returncode == 0
    (tmp_path / "params.yaml").write_text("action_units: {mod: good}\n")
    environment = {**os.environ, "GAUSSTALK_ROOT": str(tmp_path), "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-m", "stage_for_test", "--speaker", "ada"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "did you mean 'mode'?" in done.stderr


@pytest.mark.parametrize("name", ["../ada", "Ada", "a b", "-x", "drives", "a" * 60])
def test_a_name_that_cannot_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    environment = {**os.environ, "GAUSSTALK_ROOT": str(tmp_path), "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    (tmp_path / "stage_for_test.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "stage_for_test", f"--speaker={name}"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "cannot name a speaker" in done.stderr


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_stage_publishes_nothing_and_finds_its_checkpoint_again(tmp_path: Path, how: signal.Signals) -> None:
    process = start(tmp_path, "sleep")
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    process.send_signal(how)
    process.wait(timeout=30)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert not (tmp_path / "data").exists()
    started = time.monotonic()
    again = start(tmp_path, "sleep")
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert time.monotonic() - started < 50
    assert ActionUnits.load(tmp_path / "data/work/ada/action_units").intensity[0, 0] == 1


def test_the_number_of_threads_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted, found in (("3", 3), ("", len(os.sched_getaffinity(0))), ("0", len(os.sched_getaffinity(0)))):
        monkeypatch.setenv("GAUSSTALK_THREADS", wanted)
        assert threads() == found
    monkeypatch.setenv("GAUSSTALK_THREADS", "many")
    with pytest.raises(UsageError, match="GAUSSTALK_THREADS is 'many'"):
        threads()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux lists them")
@pytest.mark.parametrize("stage", ["track", "landmarks"])
def test_numerical_libraries_start_no_pools_of_threads(stage: str) -> None:
    """They spin at barriers: small matrix products on two busy cores took many times as long."""
    code = f"import tasks.{stage}, numpy as np, os; np.ones((600, 600)) @ np.ones((600, 600))"
    code += "; print(len(os.listdir('/proc/self/task')))"
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    clean = {name: value for name, value in os.environ.items() if name not in pools}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
