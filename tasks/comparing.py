"""Metrics that compare a rendering with the footage frame by frame: its pixels, and the judge's landmarks of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from models.metrics.base import Metric
from models.records import Clip
from models.storage import FrameStore
from tasks.progress import track
from tasks.regions import Regions
from tasks.scores import MISSED, Scores
from tasks.synchrony import breaks_of

NO_FACE = "the judge finds no face in the truth, or none in the rendering"
CHUNK = 16  # frames compared at a time, so that memory does not grow with the clip


class Pairs:
    """Which rendered frame goes with which true one.

    Args:
        clip: the footage.
        frames: `[n]` indices of true frames.
        positions: `[n]` where their renderings lie in a store.
    """

    def __init__(self, clip: Clip, frames: np.ndarray, positions: np.ndarray) -> None:
        self.clip, self.frames, self.positions = clip, frames, positions

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def breaks(self) -> list[int]:
        """Where a new shot begins, or a frame does not follow the one before."""
        return breaks_of(self.clip, self.frames)

    def inner(self, reach: int) -> np.ndarray:
        """Return `[n]` which frames have so many neighbours of the same shot on either side."""
        run = np.searchsorted(np.array(self.breaks, int), np.arange(len(self)), "right")
        result = np.zeros(len(self), bool)
        result[reach : len(self) - reach] = run[2 * reach :] == run[: len(self) - 2 * reach]
        return result


def compare_images(
    scores: Scores, metrics: Sequence[Metric], variant: str, store: FrameStore, pairs: Pairs, regions: Regions
) -> None:
    """Add the metrics that compare pixels of one variant, a few frames at a time."""
    parts: dict[tuple[str, str], list[np.ndarray]] = {}
    reach, count = max(metric.reach for metric in metrics), len(pairs)
    starts = range(0, count, CHUNK)
    for start in track(starts, f"comparing {variant}", len(starts), "blocks"):
        first, end = max(0, start - reach), min(count, start + CHUNK + reach)
        own = slice(start - first, min(count, start + CHUNK) - first)
        true = pairs.clip.frames.take(pairs.frames[first:end])
        predicted = store.take(pairs.positions[first:end])
        masks = regions.of(pairs.frames[first:end])
        for metric in metrics:
            seen = slice(None) if metric.reach else own
            for region in metric.regions:
                mask = masks[region]
                columns = metric.per_frame(predicted[seen], true[seen], None if mask is None else mask[seen])
                parts.setdefault((metric.name, region), []).append(columns[own] if metric.reach else columns)
    for metric in metrics:
        for region in metric.regions:
            columns = np.concatenate(parts[metric.name, region])
            columns[~pairs.inner(metric.reach)] = np.nan
            scores.add_columns(metric, region, variant, columns)


def compare_points(scores: Scores, metrics: Sequence[Metric], points: dict[str, np.ndarray], pairs: Pairs) -> None:
    """Add the metrics that compare landmarks, and how many frames the judge missed.

    Args:
        scores: to add to.
        metrics: those that compare landmarks.
        points: `[n, 478, 2]` of "truth" and of every variant.
        pairs: the frames.
    """
    true = points["truth"]
    found = ~np.isnan(true[:, 33, 0])
    for variant, measured in points.items():
        if variant == "truth":
            continue
        for metric in metrics:
            if variant == "constant_lips" and not metric.name.startswith("LMD"):
                continue  # lips that never move have no correlation, and everything else is the truth's own
            # The judge's own error is told like that of a rendering: its points against the record's.
            columns = metric.per_frame(*((true, measured) if variant == "judge" else (measured, true)))
            columns[~pairs.inner(metric.reach)] = np.nan
            why = NO_FACE if np.isnan(columns).any(1).all() else ""
            scores.add_columns(metric, "face", variant, columns, why)
        if variant not in ("judge", "constant_lips"):
            missed = int(np.count_nonzero(found & np.isnan(measured[:, 33, 0])))
            scores.add(MISSED.name, missed, MISSED.unit, MISSED.better, "face", variant)
