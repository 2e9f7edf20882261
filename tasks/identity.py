"""Metrics that ask whether a rendering still shows the same person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models.metrics.base import Metric, SpeechCompute
from models.metrics.identity import similarity
from models.storage import FrameStore
from tasks.comparing import Pairs
from tasks.progress import track
from tasks.scores import OTHER_MOMENT, Scores

CHUNK = 16  # frames in memory at a time
WHY = "no landmarks say where the face is"


def compare_identity(
    scores: Scores, metrics: Sequence[Metric], stores: Mapping[str, FrameStore], pairs: Pairs, known: np.ndarray
) -> None:
    """Add how alike the person is in every variant, and in true frames of another moment: what can be expected.

    Args:
        scores: to add to.
        metrics: those that compare persons, ready to compute.
        stores: frames of every variant.
        pairs: which of them go with which true ones.
        known: `[T, 478, 2]` points of the whole clip, which tell where the face is.
    """
    where = known[pairs.frames]

    def read(metric: Metric, store: FrameStore, positions: np.ndarray, label: str) -> np.ndarray:
        compute: SpeechCompute = metric.compute
        starts = range(0, len(positions), CHUNK)
        parts = [slice(k, k + CHUNK) for k in track(starts, f"recognising {label}", len(starts), "blocks")]
        return np.concatenate([compute(store.take(positions[part]), where[part]) for part in parts])

    for metric in metrics:
        true = read(metric, pairs.clip.frames, pairs.frames, "the truth")
        faces = {variant: read(metric, store, pairs.positions, variant) for variant, store in stores.items()}
        for variant, face in (*faces.items(), (OTHER_MOMENT, np.roll(true, len(true) // 2, 0))):
            scores.add_columns(metric, "face", variant, similarity(face, true)[:, None], WHY)
