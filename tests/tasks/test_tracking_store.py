"""MLflow's database is made whole or not at all, whoever else makes it or is killed meanwhile."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

from tasks import tracking
from tasks.places import Places
from tasks.tracking import open_store


def _open(root: Path, speaker: str) -> None:
    client, experiment = open_store(Places(root))
    tracking.live_run(Places(root), client, experiment, speaker)


def test_two_processes_may_open_a_fresh_store_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_open, args=(tmp_path, "ann")) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    client, experiment = open_store(Places(tmp_path))
    assert len(client.search_runs([experiment])) == 1


CUT_SHORT = """
import os, sqlite3, sys, threading
from pathlib import Path
from tasks.places import Places
from tasks.tracking import open_store

places = Places(Path(sys.argv[1]))


def half_made():
    for path in (places.root / ".work").rglob("*.db*"):
        try:
            reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0)
            names = {name for name, in reader.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            reader.close()
        except sqlite3.Error:
            continue  # a journal, or being written
        if "datasets" in names:  # which a later migration of MLflow adds
            return True
    return False


threading.Thread(target=open_store, args=(places,), daemon=True).start()
while not half_made():
    pass
os._exit(9)
"""


def test_a_process_that_ends_while_it_makes_the_store_breaks_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CUT_SHORT, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 9, done.stderr
    client, experiment = open_store(Places(tmp_path))
    client.create_run(experiment)
    assert len(client.search_runs([experiment])) == 1
    assert not list((tmp_path / ".work").rglob("*.new*"))
