"""Folders that a process works in alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.places import Places
from tasks.private import private_folder, remove_left

ROOT = Path(__file__).resolve().parents[2]
AT_WORK = """
import sys
from pathlib import Path
from tasks.places import Places
from tasks.private import private_folder
with private_folder(Places(Path(sys.argv[1]))) as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def at_work(root: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process that works in a private folder."""
    call = [sys.executable, "-c", AT_WORK, str(root)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_process_has_left_goes_and_what_others_work_in_stays(tmp_path: Path) -> None:
    (killed, left), (busy, kept) = at_work(tmp_path), at_work(tmp_path)
    assert left != kept
    killed.kill()
    killed.communicate()
    assert left.is_dir()
    with private_folder(Places(tmp_path)) as own:
        assert sorted(path.name for path in own.parent.iterdir()) == sorted([own.name, kept.name])
    remove_left(Places(tmp_path))
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    busy.communicate("")
    assert busy.returncode == 0
    assert not list(kept.parent.iterdir())


def test_nothing_to_remove_is_no_error(tmp_path: Path) -> None:
    remove_left(Places(tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_an_earlier_version_has_left_goes_too(tmp_path: Path) -> None:
    left = tmp_path / ".work" / "private" / "4711" / "output"
    left.mkdir(parents=True)
    (left.parent.parent / "notes.txt").touch()
    remove_left(Places(tmp_path))
    assert [path.name for path in left.parent.parent.iterdir()] == ["notes.txt"]


def test_a_folder_that_is_just_going_disturbs_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / ".work" / "private"
    (base / "gone").mkdir(parents=True)
    listed = list(base.iterdir())
    (base / "gone").rmdir()
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(listed))
    remove_left(Places(tmp_path))
