"""Cost against Gaussians, pixels and frames, and where it stops being linear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import nnls

from tasks.bench import scenes
from tasks.bench.backends import FAST, using
from tasks.bench.head import Speaking
from tasks.bench.parts import Rig, raster_call
from tasks.bench.timing import Tick, least_ms, rounded

LINEAR = 0.85
"""Between two points, cost counts as linear where it grows at least with this power of what is varied."""


@dataclass
class Curve:
    """One implementation's cost over one quantity."""

    name: str
    backend: str
    x_label: str
    x: list[int]
    ms: list[float]  # the least of the samples
    note: str = ""
    slopes: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.slopes = slopes(self.x, self.ms)

    def as_record(self) -> dict[str, Any]:
        """Return what JSON keeps."""
        return {
            "name": self.name,
            "backend": self.backend,
            "x_label": self.x_label,
            "x": self.x,
            "ms": [rounded(value) for value in self.ms],
            "slopes": [round(slope, 2) for slope in self.slopes],
            "linear_from": linear_from(self.x, self.slopes),
            "note": self.note,
        }


@dataclass(frozen=True)
class Cost:
    """A rasteriser's time as a sum of three: of the call, of each Gaussian and of each pixel that a Gaussian covers."""

    call_ms: float
    gaussian_us: float
    pair_ns: float
    error: float  # largest relative deviation from what was measured

    def shares(self, gaussians: float, pairs: float) -> dict[str, float]:
        """Return which part of the time goes where."""
        parts = {
            "the call itself": self.call_ms,
            "each Gaussian": self.gaussian_us * gaussians / 1e3,
            "each covered pixel": self.pair_ns * pairs / 1e6,
        }
        total = sum(parts.values()) or 1.0
        return {name: value / total for name, value in parts.items()}

    def as_record(self) -> dict[str, float]:
        """Return what JSON keeps."""
        return {
            "call_ms": rounded(self.call_ms),
            "gaussian_us": rounded(self.gaussian_us),
            "pair_ns": rounded(self.pair_ns),
            "largest_error": round(self.error, 3),
        }


def slopes(x: Sequence[float], y: Sequence[float]) -> list[float]:
    """Return between each two points the power of x with which y grows: 1 is linear, 0 is constant."""
    return [
        math.log(y[k + 1] / y[k]) / math.log(x[k + 1] / x[k])
        for k in range(len(x) - 1)
    ]  # fmt: skip


def linear_from(x: Sequence[int], powers: Sequence[float]) -> int | None:
    """Return the first x from which on no slope is below `LINEAR`; None if the last one is."""
    start = None
    for k in reversed(range(len(powers))):
        if powers[k] < LINEAR:
            break
        start = x[k]
    return start


def fit_cost(gaussians: Sequence[float], pairs: Sequence[float], ms: Sequence[float]) -> Cost:
    """Fit the three non-negative parts of `Cost` by least squares of the relative error.

    Args:
        gaussians: of each point.
        pairs: Gaussians times the pixels that each covers.
        ms: measured.
    """
    measured = np.asarray(ms)
    columns = np.stack([np.ones(len(ms)), np.asarray(gaussians) / 1e3, np.asarray(pairs) / 1e6], 1)
    parts, _ = nnls(columns / measured[:, None], np.ones(len(ms)))
    error = float(np.abs(columns @ parts / measured - 1).max())
    return Cost(float(parts[0]), float(parts[1]), float(parts[2]), error)


def raster_curves(
    rig: Rig, counts: Sequence[int], sizes: Sequence[int], at: tuple[int, int], seconds: float, tick: Tick
) -> tuple[list[Curve], Cost]:
    """Time the rasteriser, forward and backward, over Gaussians and over pixels.

    Args:
        rig: where and how often.
        counts: Gaussians, in a picture of `at[1]` pixels a side; they shrink so that the cover stays the same.
        sizes: pixels a side, of `at[0]` Gaussians.
        at: Gaussians and pixels a side where the other is varied.
        seconds: to spend on a point, at least.
        tick: told after each point which part of the whole it was.
    """
    backend = "gsplat" if rig.device == "cuda" else "cpu"
    points = [(count, at[1]) for count in counts] + [(at[0], size) for size in sizes]

    def least(count: int, size: int) -> float:
        side = rig.side(backend, raster_call(count, size, backend, True, rig.device))
        value = least_ms(side, 2 * rig.repeats, seconds)
        tick(1 / len(points))
        return value

    measured = [least(*point) for point in points]
    pairs = [scenes.COVER * scenes.head_pixels(size) for _, size in points]
    cost = fit_cost([count for count, _ in points], pairs, measured)
    over_counts = Curve("gaussians", backend, "Gaussians", list(counts), measured[: len(counts)])
    over_pixels = Curve("pixels", backend, "pixels", [size * size for size in sizes], measured[len(counts) :])
    over_counts.note = _note(over_counts, cost, [(n, scenes.COVER * scenes.head_pixels(at[1])) for n in counts])
    over_pixels.note = _note(over_pixels, cost, [(at[0], scenes.COVER * scenes.head_pixels(s)) for s in sizes])
    return [over_counts, over_pixels], cost


def frame_curve(rig: Rig, speaking: Speaking, counts: Sequence[int], tick: Tick) -> Curve:
    """Time loading a head and rendering so many frames with it."""
    backend = "gsplat" if rig.device == "cuda" else "cpu"

    def least(count: int) -> float:
        side = rig.side(backend, lambda: speaking.frames(speaking.load(), count))
        value = least_ms(side, 2, 0)
        tick(1 / len(counts))
        return value

    with using(FAST[rig.device]):
        curve = Curve("frames", backend, "frames", list(counts), [least(count) for count in counts])
    loading, frame = _line(curve.x, curve.ms)
    begin = linear_from(curve.x, curve.slopes)
    curve.note = (
        f"{frame:.3g} ms a frame and {loading:.3g} ms for loading the head, as much as {loading / frame:.1f} frames: "
        + ("nowhere linear" if begin is None else f"linear from {begin} frame{'s' if begin > 1 else ''} on")
        + f" (slopes {', '.join(f'{slope:.2f}' for slope in curve.slopes)})"
    )
    return curve


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Fit y = a + b x with a and b of at least 0 by relative error."""
    columns = np.stack([np.ones(len(x)), np.asarray(x, float)], 1) / np.asarray(y)[:, None]
    (start, rise), _ = nnls(columns, np.ones(len(x)))
    return float(start), max(float(rise), 1e-9)


def _note(curve: Curve, cost: Cost, points: Sequence[tuple[float, float]]) -> str:
    """Say where a curve is linear and what the time goes to at its ends."""
    begin = linear_from(curve.x, curve.slopes)
    where = (
        f"linear from {begin:,} {curve.x_label} on" if begin is not None and begin > curve.x[0]
        else "linear throughout" if begin is not None
        else f"nowhere linear up to {curve.x[-1]:,} {curve.x_label}"
    )  # fmt: skip
    ends = [_shares(cost.shares(*points[k])) for k in (0, -1)]
    powers = ", ".join(f"{slope:.2f}" for slope in curve.slopes)
    return f"{where} (slopes {powers}); at {curve.x[0]:,} the time goes to {ends[0]}; at {curve.x[-1]:,} to {ends[1]}"


def _shares(parts: dict[str, float]) -> str:
    ranked = sorted(parts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} ({share:.0%})" for name, share in ranked if share >= 0.05)
