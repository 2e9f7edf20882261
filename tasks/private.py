"""Folders that a process works in alone, on the file system of the project, gone with it however it ends."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tasks.locks import held, is_held
from tasks.places import Places

LOCK = "lock"  # in every folder


@contextmanager
def private_folder(places: Places) -> Iterator[Path]:
    """Give a fresh folder; what killed processes have left of theirs is removed."""
    base = _base(places)
    base.mkdir(parents=True, exist_ok=True)
    with ExitStack() as own:
        with held(base.with_suffix(".lock")):
            _remove_left(base)
            folder = Path(tempfile.mkdtemp(dir=base))
            own.callback(shutil.rmtree, folder, ignore_errors=True)  # last, when its lock is closed
            own.enter_context(held(folder / LOCK))
        yield folder


def remove_left(places: Places) -> None:
    """Remove private folders of processes that were killed: they may hold somebody's frames."""
    base = _base(places)
    if base.is_dir():
        with held(base.with_suffix(".lock")):
            _remove_left(base)


def _base(places: Places) -> Path:
    return places.root / ".work" / "private"


def _remove_left(base: Path) -> None:
    # A lock ends with its process; numbers of processes are given again, in a container even at once.
    for folder in base.iterdir():
        if not is_held(folder / LOCK):
            shutil.rmtree(folder, ignore_errors=True)
