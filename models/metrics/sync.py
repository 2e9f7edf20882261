"""How well lips and sound go together, as SyncNet sees it, and as the house's own small one does."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from models.metrics.base import Better, Metric, SpeechCompute, not_ready
from models.records import Weights
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


@cache
def taught(weights: Weights) -> SpeechCompute:
    """Return what computes the distances of lips and sound over lags, with the house's own network."""
    from models.sync.house import measure, network_of

    network = network_of(weights.tensors)

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


_HOUSE = (
    "the project's own small network, trained on its speakers' training frames: windows of 5 frames (upright grey "
    "mouths at 48x48, less their mean) and 0.2 s of sound (40 bands), distances of their 64 numbers of length 1 over "
    "lags of -15 to 15 frames, mean over the windows; only to be compared within one project"
)
_HOUSE_SOURCE = (
    "Chung and Zisserman, Out of time, ACCV workshops 2016, for the definitions; the network is the project's"
)


def _three(suffix: str, **more: Any) -> tuple[Metric, ...]:
    """Return confidence, error and lag, as one network gives them."""
    how = more.pop("how")
    told: tuple[tuple[str, str, Better, str, str, Any], ...] = (
        ("Sync-C", "1", "higher", "median over lags less the smallest (LSE-C)", "from 0", lags.confidence),
        ("Sync-E", "1", "lower", "distance at the best lag (Sync-D, LSE-D)", "from 0", lags.error),
        ("sync_lag", "frames", "", "the best lag; positive: the lips are late", "-15 to 15", lags.lag),
    )
    return tuple(
        Metric(f"{name}{suffix}", unit, better, f"{words}: {how}", "speech", not_ready, summary, range=values, **more)
        for name, unit, better, words, values, summary in told
    )


METRICS = (
    *_three("", how=_HOW, source=_SOURCE, needs=("syncnet",), opens=opened),
    *_three("_house", how=_HOUSE, source=_HOUSE_SOURCE, taught="sync_house", opens=taught),
)
