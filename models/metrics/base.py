"""What a metric is, how its value and its interval come out of per-frame columns, and which of two values is better."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.errors import UsageError
from models.records import Weights

Compute = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]
SpeechCompute = Callable[..., Any]
Better = Literal["higher", "lower", "1", ""]
"""The direction of a metric; "1" means the nearer to one the better, "" that it is only told."""


LEAST_RATIO = 1e-6
LEAST_BLOCKS = 3  # of frames; with fewer nobody can say what is chance


def merit_of(value: float, better: str) -> float:
    """Return a number that is larger the better `value` is; NaN ranks last.

    Half as much as it should be is as bad as twice as much; nothing at all, or less, is the worst.
    """
    if np.isnan(value):
        return float("-inf")
    if better == "1":
        return -abs(float(np.log(max(value, LEAST_RATIO))))
    return {"higher": value, "lower": -value, "": 0.0}[better]


def mean_of(columns: np.ndarray) -> float:
    """Return the mean of the first column over the frames that have it, NaN if none has."""
    values = columns[:, 0][~np.isnan(columns[:, 0])]
    return float(values.mean()) if len(values) else float("nan")


def correlation(columns: np.ndarray) -> float:
    """Return Pearson's r of two columns over the frames that have both, NaN where one of them does not vary."""
    kept = columns[~np.isnan(columns).any(1)]
    if len(kept) < 3 or (kept.std(0) < 1e-9).any():
        return float("nan")
    return float(np.corrcoef(kept[:, 0], kept[:, 1])[0, 1])


def spread_ratio(columns: np.ndarray) -> float:
    """Return the standard deviation of the first column over that of the second, over the frames that have both."""
    kept = columns[~np.isnan(columns).any(1)]
    if len(kept) < 3 or kept[:, 1].std() < 1e-9:
        return float("nan")
    return float(kept[:, 0].std() / kept[:, 1].std())


@dataclass(frozen=True)
class Metric:
    """A number with its definition, unit and direction.

    `compute(predicted, true, region)` gives one row a frame, `[n]` or `[n, k]`, NaN where it cannot be told; `summary`
    turns the rows of any set of frames into the value, so that intervals come from drawing frames anew.
    A metric that compares frames gets uint8 RGB `[n, H, W, 3]` and bool `[n, H, W]`; one that compares landmarks gets
    points `[n, 478, 2]` in pixels of the clip and no region, and one that compares "second" those of the second judge;
    one that compares a talker gets the landmarks of a head and of the one who says its words;
    one that compares units gets intensities `[n, 17]`, of our own landmarks or of OpenFace, in the order of
    `models.action_units.UNIT_NAMES`. One that compares speech gets frames, points, sound and cuts instead, and gives
    distances over lags (`models.sync.syncnet.measure`); one that compares persons reads the faces of one clip at a
    time (`models.metrics.identity`).

    `range` says which values there are and `source` where the definition comes from; `regions` are those in which a
    metric of frames is told, and `reach` is how many frames before and after a frame its row needs. A metric that
    `needs` assets of data/assets.toml cannot compute before `ready` has handed their files to `opens`; one that is
    `taught` by a stage of the project, not before it has handed over what that stage gave. `series` says what rows of
    more than two numbers tell of each frame; without it that is the metric's value on the row alone.
    `unknown` says why two columns have no value although they have rows.
    """

    name: str
    unit: str
    better: Better
    definition: str
    compares: Literal["frames", "landmarks", "second", "talker", "units", "openface", "speech", "identity"]
    compute: Compute | SpeechCompute
    summary: Callable[[np.ndarray], float] = mean_of
    regions: tuple[str, ...] = ("frame", "head", "face_box", "mouth")
    reach: int = 0
    range: str = ""
    source: str = ""
    needs: tuple[str, ...] = ()
    opens: Callable[..., Compute | SpeechCompute] | None = None
    series: Callable[[np.ndarray], np.ndarray] | None = None
    taught: str = ""
    unknown: str = "one of the two does not move"

    @property
    def words(self) -> str:
        """Return all that a reader has to know of it beside unit and direction."""
        more = {"range": self.range, "source": self.source, "needs": ", ".join(self.needs)}
        return self.definition + "".join(f"; {name}: {text}" for name, text in more.items() if text)

    def ready(self, files: Sequence[Path | Weights]) -> Metric:
        """Return the metric with the files of what it needs, in the order of `needs`, or what it is taught, opened."""
        return replace(self, compute=self.opens(*files)) if self.opens else self

    def per_frame(self, predicted: np.ndarray, true: np.ndarray, region: np.ndarray | None = None) -> np.ndarray:
        """Return the metric's columns `[n, k]` float64.

        Raises:
            UsageError: the two are not of one length and size, or the region is not theirs.
        """
        if predicted.shape != true.shape:
            raise UsageError(
                f"{self.name}: {predicted.shape} against {true.shape}",
                "only the same frames at the same size can be compared",
            )
        if region is not None and region.shape != true.shape[:3]:
            raise UsageError(f"{self.name}: a region of shape {region.shape} for frames of {true.shape}")
        columns = np.asarray(self.compute(predicted, true, region), np.float64)
        return columns.reshape(len(true), -1)

    def value(self, predicted: np.ndarray, true: np.ndarray, region: np.ndarray | None = None) -> float:
        """Return the value over all frames, NaN if it is not defined here."""
        return self.summary(self.per_frame(predicted, true, region))

    def by_frame(self, columns: np.ndarray) -> np.ndarray:
        """Return what the rows tell of each frame: its value `[n, 1]`, or `[n, 2]` with what it is held against."""
        if columns.shape[1] <= 2:
            return columns
        if self.series:
            return self.series(columns)
        return np.array([[self.summary(row[None])] for row in columns]).reshape(-1, 1)

    def merit(self, value: float) -> float:
        """Return a number that is larger the better `value` is; NaN ranks last."""
        return merit_of(value, self.better)


def in_common(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both columns `[n, k]` with NaN where either has it: who loses a face must not gain by the frame."""
    unknown = np.isnan(one) | np.isnan(other)
    return np.where(unknown, np.nan, one), np.where(unknown, np.nan, other)


def by_computation(metrics: Iterable[Metric]) -> list[list[Metric]]:
    """Group metrics that are summaries of one computation, so that it is done once for all of them."""
    groups: dict[int, list[Metric]] = {}
    for metric in metrics:
        groups.setdefault(id(metric.compute), []).append(metric)
    return list(groups.values())


def not_ready(*_clip: Any) -> np.ndarray:
    """Stand for the computation of a metric whose needs have not been met.

    Raises:
        UsageError: always.
    """
    raise UsageError("this metric needs weights", "it was asked to compute without them", "call its ready() first")


def blocks_of(frame_index: np.ndarray, length: int) -> list[np.ndarray]:
    """Split positions `0..n-1` into runs of up to `length` neighbouring frames of the clip."""
    breaks = np.flatnonzero(np.diff(frame_index) != 1) + 1
    runs = np.split(np.arange(len(frame_index)), breaks)
    return [run[start : start + length] for run in runs for start in range(0, len(run), length)]


def block_draws(
    statistic: Callable[[np.ndarray], float], blocks: list[np.ndarray], draws: int, seed: int = 0
) -> np.ndarray:
    """Return `statistic(positions)` `[draws]` with whole blocks of neighbouring frames drawn anew each time.

    Neighbouring frames are nearly copies of each other, so drawing single frames would give far too narrow intervals.
    Nothing is drawn from fewer than three blocks. Source: Kuensch, The jackknife and the bootstrap for general
    stationary observations, 1989 (here with blocks that do not overlap).
    """
    if len(blocks) < LEAST_BLOCKS:
        return np.zeros(0)
    random = np.random.default_rng(seed)
    chosen = (random.integers(0, len(blocks), len(blocks)) for _ in range(draws))
    return np.array([statistic(np.concatenate([blocks[k] for k in choice])) for choice in chosen])


def interval_of(drawn: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of drawn values, NaN ones left out; NaN where there are none."""
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def block_bootstrap(
    statistic: Callable[[np.ndarray], float], blocks: list[np.ndarray], draws: int, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of `block_draws`; both values are NaN with fewer than three blocks."""
    return interval_of(block_draws(statistic, blocks, draws, seed))
