"""How long a stage still takes is told from what its steps cost, not from what the first one did."""

import logging

import pytest

from tasks import progress
from tasks.progress import Progress, clock


def test_a_slow_first_step_does_not_count(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "gausstalk")
    shown = Progress("train", 1000, "steps")
    now[0] = 30.0  # compiles kernels
    shown.update()
    assert caplog.messages == ["train: 1/1000 steps"]
    for _ in range(100):
        now[0] += 0.1
        shown.update()
    assert caplog.messages[-1] == "train: 101/1000 steps, 10.0/s, 1:30 left"
    shown.finish()
    assert caplog.messages[-1] == "train: 101 steps in 0:40"


def test_a_duration_is_told_in_hours_minutes_and_seconds() -> None:
    assert (clock(59.4), clock(60), clock(3661)) == ("0:59", "1:00", "1:01:01")
