"""Progress of long steps: rate and time left, live on a terminal, now and then in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
LOG_EVERY_S = 10.0
REDRAW_EVERY_S = 0.2

log = logging.getLogger("gausstalk")


def clock(seconds: float) -> str:
    """Format a duration as m:ss or h:mm:ss."""
    whole = int(seconds + 0.5)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Progress:
    """Counts towards `total` and tells how fast it goes and how long it still takes."""

    def __init__(self, label: str, total: int, unit: str = "frames") -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done, self.note = 0, ""
        self.start = self._last = time.monotonic()
        self._warm: tuple[float, int] | None = None  # when the first were done, and how many
        self._live = sys.stderr.isatty()

    def update(self, count: int = 1, note: str = "") -> None:
        """Advance by `count`; `note` is shown behind the figures."""
        self.done += count
        self.note = note or self.note
        now = time.monotonic()
        self._warm = self._warm or (now, self.done)
        if now - self._last >= (REDRAW_EVERY_S if self._live else LOG_EVERY_S):
            self._last = now
            self._show()

    def finish(self) -> None:
        """Show the last state with the total time."""
        seconds = time.monotonic() - self.start
        text = f"{self.label}: {self.done} {self.unit} in {clock(seconds)}" + (f", {self.note}" if self.note else "")
        if self._live:
            sys.stderr.write("\r\033[K")
        log.info(text)

    def _show(self) -> None:
        # The first step compiles kernels and fills caches: it tells nothing of the others.
        since, before = self._warm or (self.start, 0)
        rate = (self.done - before) / max(1e-6, time.monotonic() - since)
        text = f"{self.label}: {self.done}/{self.total} {self.unit}"
        text += f", {rate:.1f}/s, {clock((self.total - self.done) / rate)} left" if rate else ""
        text += f", {self.note}" if self.note else ""
        if self._live:
            sys.stderr.write(f"\r\033[K{text}")
            sys.stderr.flush()
        else:
            log.info(text)


def track(items: Iterable[T], label: str, total: int, unit: str = "frames") -> Iterator[T]:
    """Yield `items` while showing progress."""
    progress = Progress(label, total, unit)
    for item in items:
        yield item
        progress.update()
    progress.finish()
