"""Our compiled kernels as a user meets them: says when they are being compiled and where they are kept.

Numba keeps what it has compiled in `__pycache__` beside the source, or, if that cannot be written to (a read-only
installation), in the user's cache folder. Where neither can be written to, it refuses to import the kernels; then they
are kept in a temporary folder for as long as the process lives.
"""

from __future__ import annotations

import atexit
import logging
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TAKES = "10 to 30 s of computing"
log = logging.getLogger("gausstalk")


class Compilations:
    """Listens to Numba: how many of our functions it has compiled in this process, and for how long."""

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0
        self.temporary = False
        self._depth, self._started = 0, 0.0

    def begin(self, dispatcher: Any) -> None:
        """Take in that Numba compiles a function; the first of ours is told to the user."""
        if not _is_ours(dispatcher):
            return
        if self.count == 0 and not self.temporary:
            where = folder_of(dispatcher.stats.cache_path)
            log.info("compiling kernels: %s, this once; they are kept in %s", TAKES, where)
        if self._depth == 0:
            self._started = time.monotonic()
        self._depth += 1  # a kernel's compilation contains those of the functions that it calls
        self.count += 1

    def end(self, dispatcher: Any) -> None:
        """Take in that Numba has compiled a function."""
        if _is_ours(dispatcher):
            self._depth -= 1
            if self._depth == 0:
                self.seconds += time.monotonic() - self._started


def _is_ours(dispatcher: Any) -> bool:
    return dispatcher.py_func.__module__.startswith("models.")


def folder_of(cache_path: str | None) -> str:
    """Return in a user's words where Numba keeps kernels, given what it says of one of them."""
    if cache_path is None:
        return "no folder"
    path = Path(cache_path)
    return f"{ROOT / 'models'}/**/__pycache__" if path.name == "__pycache__" else str(path.parent)


_compilations: Compilations | None = None


def watch() -> Compilations:
    """Tell the user when kernels are compiled from now on, and make sure that they can be.

    To be called before kernels are imported, and as often as one likes.

    Returns:
        What has been compiled since the first call.
    """
    global _compilations
    if _compilations is None:
        from numba.core import event

        compilations = _compilations = Compilations()

        class Listener(event.Listener):
            def on_start(self, event: Any) -> None:
                compilations.begin(event.data["dispatcher"])

            def on_end(self, event: Any) -> None:
                compilations.end(event.data["dispatcher"])

        event.register("numba:compile", Listener())
        if cache_folder() is None:
            _compilations.temporary = True
            _keep_for_this_process()
    return _compilations


def cache_folder() -> str | None:
    """Return where Numba keeps our kernels, None if it finds no folder that it can write to."""
    import numba

    try:
        return folder_of(numba.njit(cache=True)(_probe).stats.cache_path)
    except RuntimeError:
        return None


def _probe() -> None:
    """Stand for a kernel: where it would be kept, they are."""


def _keep_for_this_process() -> None:
    import numba

    folder = tempfile.mkdtemp(prefix="gausstalk-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    numba.config.CACHE_DIR = folder  # type: ignore[attr-defined]
    log.warning(
        "kernels cannot be kept: neither %s nor the user's cache folder can be written to. Every process compiles them "
        "anew, %s; NUMBA_CACHE_DIR=<folder> names another place",
        ROOT / "models",
        TAKES,
    )
