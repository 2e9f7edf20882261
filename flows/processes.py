"""Child processes that cannot be lost: each leads a process group, and is stopped with everything it started.

Every child is written down with the instant it began. A run that was killed outright leaves its children behind; the
next one finds them in that book, knows by that instant that their numbers have not been given to somebody else, and
ends them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

log = logging.getLogger("gausstalk")

# A stage saves its checkpoint on the first signal. The second and the third are for one that does not listen.
STOP_SIGNALS = ((signal.SIGINT, 8.0), (signal.SIGTERM, 4.0), (signal.SIGKILL, 4.0))


def interrupt_on_signals() -> None:
    """End on SIGTERM and SIGHUP as on Ctrl-C: what has been begun is stopped and cleared away, too."""

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup wants it to go on
            signal.signal(number, interrupt)


class Children:
    """The child processes of this run, written down in `book`."""

    def __init__(self, book: Path) -> None:
        self.book = book
        self.stopping = False
        self._living: dict[int, float] = {}
        self._lock = threading.Lock()

    def start(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], output: int
    ) -> subprocess.Popen[str]:
        """Start a process in a group of its own; what it prints goes to `output` (a descriptor or subprocess.PIPE).

        Raises:
            InterruptedError: everything is being stopped.
        """
        with self._lock:
            if self.stopping:
                raise InterruptedError("the run is being stopped")
            process = subprocess.Popen(  # noqa: S603 - a list of words, never a shell
                list(command),
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._living[process.pid] = _began(process.pid)
            self._write()
        return process

    def run(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], on_line: Callable[[str], None]
    ) -> int:
        """Run a process to its end, give every line that it prints to `on_line`, return its exit code.

        What it says of being stopped, DVC in tracebacks, is nobody's concern.
        """
        process = self.start(command, folder, environment, subprocess.PIPE)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if not self.stopping:
                    on_line(line.rstrip("\n"))
            return process.wait()
        finally:
            if process.poll() is None:
                stop_groups([process.pid])
            self.forget(process)

    def forget(self, process: subprocess.Popen[str]) -> None:
        """Take an ended process out of the book."""
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        with self._lock:
            self._living.pop(process.pid, None)
            self._write()

    def stop(self) -> None:
        """Stop every child and whatever it has started; no other can be started from now on."""
        with self._lock:
            self.stopping = True
            groups = list(self._living)
        with _not_interrupted():
            stop_groups(groups)

    def stop_leftovers(self) -> int:
        """End what an earlier run, itself killed, has left running; return how many there were."""
        try:
            written = {int(pid): float(began) for pid, began in json.loads(self.book.read_text()).items()}
        except (FileNotFoundError, ValueError, AttributeError):
            return 0
        left = [pid for pid, began in written.items() if _began(pid) == began]
        stop_groups(left)
        self.book.unlink(missing_ok=True)
        return len(left)

    def _write(self) -> None:
        self.book.parent.mkdir(parents=True, exist_ok=True)
        draft = self.book.with_suffix(".new")
        draft.write_text(json.dumps({str(pid): began for pid, began in self._living.items()}))
        os.replace(draft, self.book)


@contextlib.contextmanager
def _not_interrupted() -> Iterator[None]:
    """Hold back a second Ctrl-C: breaking off here would leave behind what is just being stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_groups(groups: Sequence[int]) -> None:
    """Stop process groups: ask, ask again, then force; return when nothing of them runs any more."""
    for number, patience in STOP_SIGNALS:
        left = [group for group in groups if _members(group)]
        if not left:
            return
        for group in left:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and any(_members(group) for group in left):
            time.sleep(0.05)


def _members(group: int) -> bool:
    """Return whether a process of the group still runs (a dead one that nobody has waited for does not)."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError):
            if process.info["status"] != psutil.STATUS_ZOMBIE and os.getpgid(process.pid) == group:
                return True
    return False


def _began(pid: int) -> float:
    try:
        return round(psutil.Process(pid).create_time(), 2)
    except psutil.NoSuchProcess:
        return -1.0
