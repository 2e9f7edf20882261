import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from flows.processes import Children, stop_groups

ROOT = Path(__file__).resolve().parents[2]

# A parent that does not listen to the gentle signals, with a child of its own.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
print(child.pid, flush=True)
time.sleep(100)
"""


def test_stopping_reaches_the_children_of_children(tmp_path: Path) -> None:
    children = Children(tmp_path / "book.json")
    process = children.start([sys.executable, "-c", STUBBORN], tmp_path, os.environ, subprocess.PIPE)
    assert process.stdout is not None
    grandchild = int(process.stdout.readline())
    assert list(json.loads((tmp_path / "book.json").read_text())) == [str(process.pid)]
    thread = threading.Thread(target=process.wait)  # reap it, as the thread that runs a stage does
    thread.start()
    children.stop()
    thread.join(5)
    assert process.returncode is not None
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE
    with pytest.raises(InterruptedError):
        children.start([sys.executable, "-c", ""], tmp_path, os.environ, subprocess.DEVNULL)


def test_an_impatient_second_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job begins with it ignored
    children = Children(tmp_path / "book.json")
    process = children.start([sys.executable, "-c", STUBBORN], tmp_path, os.environ, subprocess.PIPE)
    assert process.stdout is not None
    grandchild = int(process.stdout.readline())
    threading.Thread(target=process.wait).start()
    # The child ignores the first request, so that stopping it is still going on by then.
    threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    children.stop()
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler  # it listens again afterwards


def test_lines_arrive_while_the_process_runs(tmp_path: Path) -> None:
    seen: list[tuple[float, str]] = []
    text = "import time; print('one', flush=True); time.sleep(1); print('two', flush=True); raise SystemExit(3)"
    code = Children(tmp_path / "book.json").run(
        [sys.executable, "-c", text], tmp_path, os.environ, lambda line: seen.append((time.monotonic(), line))
    )
    assert code == 3
    assert [line for _, line in seen] == ["one", "two"]
    assert seen[1][0] - seen[0][0] > 0.5
    assert json.loads((tmp_path / "book.json").read_text()) == {}


def test_a_number_that_now_belongs_to_somebody_else_is_left_alone(tmp_path: Path) -> None:
    book = tmp_path / "book.json"
    book.write_text(json.dumps({str(os.getpid()): 12345.0}))
    assert Children(book).stop_leftovers() == 0
    book.write_text("no json")
    assert Children(book).stop_leftovers() == 0


def test_stopping_what_has_ended_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    process.wait()
    stop_groups([process.pid])
