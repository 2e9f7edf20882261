"""Locks that end with the process that holds them, whatever ends it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from models.errors import BusyError


@contextlib.contextmanager
def held(path: Path, wait: bool = True) -> Iterator[IO[str]]:
    """Hold the lock file `path`, which is made if it is not there.

    Raises:
        BlockingIOError: another process holds it, and that is not waited for.
    """
    with path.open("a+", encoding="ascii") as file:  # network file systems lock only what can be written
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file


@contextlib.contextmanager
def only_one(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path`, with this process's number in it.

    Raises:
        BusyError: another process holds it; the message says which.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(held(path, wait=False))
        except BlockingIOError as error:
            owner = path.read_text(encoding="ascii").strip() or "unknown"
            raise BusyError(
                f"{what} is already going on in this project",
                f"process {owner} holds {path.name}",
                f"wait for it to end, or stop it: kill -INT {owner}",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
        file.truncate(0)


def is_held(path: Path) -> bool:
    """Return whether another process holds the lock file `path` (see `only_one`)."""
    if not path.is_file():
        return False
    try:
        with held(path, wait=False):
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:  # just gone, with its folder
        return False
