"""Timing two implementations of one thing so that the ratio can be trusted on a machine that others use, too.

The two run in turn (A B A B ...), so that a slow minute slows both. A sample of the fast one is as many calls as fill
the time of one reference call (up to `LONGEST_SAMPLE_S`): a single short call would find a quiet moment where a long
one cannot, and the ratio of minima would flatter it.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

LONGEST_SAMPLE_S = 0.3
MOST_CALLS = 200
NOISY_SPREAD = 0.25
"""A figure is noisy where the median of its samples lies this much above the least of them."""

Tick = Callable[[float], None]


@dataclass(frozen=True)
class Side:
    """One implementation: what is called, and the setting in which it is."""

    backend: str
    call: Callable[[], object]
    setting: Callable[[], AbstractContextManager[object]] = nullcontext
    wait: Callable[[], object] = lambda: None
    """For the device to finish; its time counts."""


@dataclass
class Timing:
    """Samples of one side, milliseconds a call."""

    backend: str
    calls: int = 1  # in a sample
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    @property
    def least(self) -> float:
        """Of the samples, ms of wall clock."""
        return min(self.wall_ms)

    @property
    def median(self) -> float:
        """Of the samples, ms of wall clock."""
        return statistics.median(self.wall_ms)

    @property
    def spread(self) -> float:
        """How far the median lies above the least, as a fraction of the least."""
        return self.median / self.least - 1

    def as_record(self) -> dict[str, Any]:
        """Return what JSON keeps."""
        return {
            "backend": self.backend,
            "samples": len(self.wall_ms),
            "calls_per_sample": self.calls,
            "wall_ms_min": rounded(self.least),
            "wall_ms_median": rounded(self.median),
            "cpu_ms_min": rounded(min(self.cpu_ms)),
            "cpu_ms_median": rounded(statistics.median(self.cpu_ms)),
            "spread": rounded(self.spread),
        }


@dataclass(frozen=True)
class Figure:
    """A measured thing: the fast side, and the reference where there is one."""

    name: str
    what: str
    fast: Timing
    reference: Timing | None = None

    @property
    def ratio(self) -> float | None:
        """How many times faster than the reference, by the least of the samples of both."""
        return None if self.reference is None else self.reference.least / self.fast.least

    @property
    def ratio_median(self) -> float | None:
        """How many times faster, by the medians."""
        return None if self.reference is None else self.reference.median / self.fast.median

    @property
    def ratio_cpu(self) -> float | None:
        """How many times less processor time, all threads of the process together, by the least of the samples."""
        return None if self.reference is None else min(self.reference.cpu_ms) / max(min(self.fast.cpu_ms), 1e-6)

    @property
    def noisy(self) -> bool:
        """Whether the samples of either side differ by more than they do on a quiet machine."""
        return any(side.spread > NOISY_SPREAD for side in (self.fast, self.reference) if side is not None)

    def as_record(self) -> dict[str, Any]:
        """Return what JSON keeps."""
        ratios = {"ratio": self.ratio, "ratio_median": self.ratio_median, "ratio_cpu": self.ratio_cpu}
        return {
            "name": self.name,
            "what": self.what,
            "fast": self.fast.as_record(),
            "reference": None if self.reference is None else self.reference.as_record(),
            **{name: None if value is None else rounded(value) for name, value in ratios.items()},
            "per_second": rounded(1e3 / self.fast.least),
            "per_second_median": rounded(1e3 / self.fast.median),
            "noisy": self.noisy,
        }


def rounded(value: float) -> float:
    """Round to four digits: more are noise."""
    return float(f"{value:.4g}")


def measure(
    name: str, what: str, fast: Side, reference: Side | None, repeats: int, tick: Tick = lambda _: None
) -> Figure:
    """Time `fast`, in turn with `reference` if there is one, after a warm-up of both.

    Args:
        name: of the figure.
        what: it measures, in words.
        fast: what this is about.
        reference: what it is compared with.
        repeats: samples of each, at least one.
        tick: told after every sample which part of the whole it was.
    """
    sides = [fast] if reference is None else [fast, reference]
    timings = [Timing(side.backend) for side in sides]
    _sample(fast, 1)  # compiles, fills caches
    single = [_sample(side, 1)[0] for side in sides]
    tick(1 / (repeats + 1))
    target_ms = min(single[-1] if reference else math.inf, LONGEST_SAMPLE_S * 1e3)
    timings[0].calls = int(min(MOST_CALLS, max(1, target_ms // max(single[0], 1e-3))))
    if reference and timings[0].calls == 1 and single[1] < single[0]:  # the reference is the faster one
        timings[1].calls = int(min(MOST_CALLS, max(1, min(single[0], LONGEST_SAMPLE_S * 1e3) // max(single[1], 1e-3))))
    for _ in range(repeats):
        for side, timing in zip(sides, timings, strict=True):
            wall, cpu = _sample(side, timing.calls)
            timing.wall_ms.append(wall)
            timing.cpu_ms.append(cpu)
        tick(1 / (repeats + 1))
    return Figure(name, what, *timings)


def _sample(side: Side, calls: int) -> tuple[float, float]:
    """Return wall and process time of one call, ms, as the mean of several."""
    with side.setting():
        side.wait()
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(calls):
            side.call()
        side.wait()
        return (time.perf_counter() - wall) / calls * 1e3, (time.process_time() - cpu) / calls * 1e3


def least_ms(side: Side, repeats: int, budget_s: float) -> float:
    """Return the least wall time of one call in ms, after one that warms up.

    Args:
        side: what is called.
        repeats: of calls, at least.
        budget_s: go on for so long.
    """
    _sample(side, 1)
    times: list[float] = []
    while len(times) < repeats or (sum(times) < budget_s * 1e3 and len(times) < MOST_CALLS):
        times.append(_sample(side, 1)[0])
    return min(times)
