"""How well lips and sound go together, as SyncNet sees it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from models.metrics.base import Metric, SpeechCompute, not_ready
from models.sync import lags


@cache
def opened(path: Path) -> SpeechCompute:
    """Return what computes the distances of lips and sound over lags, with the weights of a file.

    Raises:
        InputError: the file is damaged or another one.
    """
    from models.sync.syncnet import load, measure

    network = load(path)

    def compute(*clip: Any) -> Any:
        return measure(network, *clip)

    return compute


_HOW = (
    "SyncNet on windows of 5 frames (BGR, cut out at 224x224 about the face) and 0.2 s of sound (13 MFCC), Euclidean "
    "distances of their 1024 numbers over lags of -15 to 15 frames, mean over the windows of the longest track of the "
    "face (more than 100 frames and pixels); face boxes are those of the judge's landmarks, not S3FD's"
)
_SOURCE = (
    "Chung and Zisserman, Out of time, ACCV workshops 2016; computed as in syncnet_python, which Prajwal et al., A lip "
    "sync expert is all you need, 2020, use"
)


def _metric(name: str, unit: str, better: Any, words: str, values: str, summary: Any) -> Metric:
    return Metric(
        name,
        unit,
        better,
        f"{words}: {_HOW}",
        "speech",
        not_ready,
        summary,
        range=values,
        source=_SOURCE,
        needs=("syncnet",),
        opens=opened,
    )


METRICS = (
    _metric("Sync-C", "1", "higher", "median over lags less the smallest (LSE-C)", "from 0", lags.confidence),
    _metric("Sync-E", "1", "lower", "distance at the best lag (Sync-D, LSE-D)", "from 0", lags.error),
    _metric("sync_lag", "frames", "", "the best lag; positive: the lips are late", "-15 to 15", lags.lag),
)
