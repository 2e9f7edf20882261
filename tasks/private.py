"""Folders that a process works in alone, on the file system of the project, gone with it however it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.places import Places

LOCK = "lock"  # in every folder


@contextmanager
def private_folder(places: Places) -> Iterator[Path]:
    """Give a fresh folder; what killed processes have left of theirs is removed."""
    base = _base(places)
    base.mkdir(parents=True, exist_ok=True)
    with _held(base):
        _remove_left(base)
        folder = Path(tempfile.mkdtemp(dir=base))
        held = _hold(folder / LOCK)
    try:
        yield folder
    finally:
        _end(folder, held)


def remove_left(places: Places) -> None:
    """Remove private folders of processes that were killed: they may hold somebody's frames."""
    if _base(places).is_dir():
        with _held(_base(places)):
            _remove_left(_base(places))


def _base(places: Places) -> Path:
    return places.root / ".work" / "private"


def _remove_left(base: Path) -> None:
    # A lock ends with its process; numbers of processes are given again, in a container even at once.
    for folder in base.iterdir():
        try:
            held = _hold(folder / LOCK, fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError, NotADirectoryError):  # at work, just gone, nobody's
            continue
        _end(folder, held)


def _end(folder: Path, held: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(held)
    shutil.rmtree(folder, ignore_errors=True)  # network file systems keep a file while it is open


@contextmanager
def _held(base: Path) -> Iterator[None]:
    held = _hold(base.with_suffix(".lock"))
    try:
        yield
    finally:
        os.close(held)


def _hold(path: Path, how: int = 0) -> int:
    held = os.open(path, os.O_RDWR | os.O_CREAT)  # network file systems lock only what can be written
    try:
        fcntl.flock(held, fcntl.LOCK_EX | how)
    except BaseException:
        os.close(held)
        raise
    return held
