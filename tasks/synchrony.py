"""Metrics that hold lips against sound: measured once for all that share a network, for one variant at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from models.metrics.base import Metric, SpeechCompute, by_computation
from models.records import Clip
from models.storage import FrameStore
from tasks.scores import Scores


@dataclass(frozen=True)
class Picked:
    """Some frames of a store, read one at a time."""

    store: FrameStore
    positions: Sequence[int] | np.ndarray

    def __getitem__(self, k: int) -> np.ndarray:
        return self.store[int(self.positions[k])]

    def __len__(self) -> int:
        return len(self.positions)


def sound_of(clip: Clip, frames: np.ndarray) -> np.ndarray:
    """Return the samples of some frames of a clip, one frame's after the other's; silence beyond the end."""
    each = round(clip.sample_rate / clip.fps)
    padded = np.pad(clip.sound, (0, each))
    starts = np.minimum(each * frames.astype(int), len(padded) - each)
    return np.concatenate([padded[start : start + each] for start in starts]) if len(frames) else padded[:0]


def breaks_of(clip: Clip, frames: np.ndarray) -> list[int]:
    """Return the positions in `frames` at which a new shot begins, or that do not follow the frame before."""
    cut = np.isin(frames, clip.cuts)
    return [k for k in range(1, len(frames)) if cut[k] or frames[k] != frames[k - 1] + 1]


def compare_speech(
    scores: Scores,
    metrics: Iterable[Metric],
    variant: str,
    frames: Picked,
    points: np.ndarray,
    sound: np.ndarray,
    breaks: Sequence[int] = (),
) -> None:
    """Add the metrics that compare lips with sound.

    Args:
        scores: to add to.
        metrics: those that compare speech, ready to compute.
        variant: what the frames are.
        frames: `n` of them.
        points: `[n, 478, 2]` the judge's landmarks of them.
        sound: int16 samples that begin with the first frame.
        breaks: see `breaks_of`.
    """
    for family in by_computation(metrics):
        compute: SpeechCompute = family[0].compute
        found = compute(frames, points, sound, breaks)
        for metric in family:
            scores.add_columns(metric, "face", variant, found.windows, found.why)
