"""A second judge of the lips, who has not tracked: OpenSeeFace's landmarker, where its weights are at hand.

It reads the truth and every variant in the crops of the true frames, so that only the face is compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.metrics.base import Metric
from models.records import TRAIN
from models.storage import FrameStore
from tasks.assets import find_asset
from tasks.comparing import Pairs
from tasks.constant_lips import constant_lips
from tasks.places import Places
from tasks.progress import track
from tasks.scores import Scores

CHUNK = 32  # frames in memory at a time
SHAPES = 200  # of training, for the lips that never move
SHIFT = np.ones(2)  # pixels by which the crop is moved to tell the judge's own error


def judge_again(
    scores: Scores,
    metrics: Sequence[Metric],
    stores: dict[str, FrameStore],
    pairs: Pairs,
    known: np.ndarray,
    places: Places,
) -> None:
    """Add what the second judge says of every variant, of the lips that never move, and of itself.

    Args:
        scores: to add to.
        metrics: those of the second judge that can be measured; nothing is read without any.
        stores: frames of every variant.
        pairs: which of them go with which true ones.
        known: `[T, 478, 2]` points of the whole clip, which tell where to look.
        places: of the project.
    """
    if not metrics:
        return
    from models.landmarks.openseeface import OpenSeeFace, crops_of
    from models.landmarks.placing import chain

    clip, frames = pairs.clip, pairs.frames
    judge, crops = OpenSeeFace(find_asset(places, metrics[0].needs[0])), crops_of(known)

    def read(store: FrameStore, where: np.ndarray, crops: np.ndarray, label: str) -> np.ndarray:
        starts = range(0, len(where), CHUNK)
        parts = [
            slice(start, start + CHUNK) for start in track(starts, f"judging {label} again", len(starts), "blocks")
        ]
        return np.concatenate([judge.read(store.take(where[part]), crops[part]) for part in parts])

    own = crops[frames]
    aside = np.array([chain(crop, np.column_stack([np.eye(2), -SHIFT])) for crop in own])
    training = clip.indices(TRAIN)
    training = training[np.linspace(0, len(training) - 1, min(SHAPES, len(training))).round().astype(int)]
    true = read(clip.frames, frames, own, "the truth")
    points = {variant: read(store, pairs.positions, own, variant) for variant, store in stores.items()}
    points["constant_lips"] = constant_lips(read(clip.frames, training, crops[training], "the training"), true)
    points["reread"] = read(clip.frames, frames, aside, "the truth")
    compare(scores, metrics, true, points, known[frames])


def compare(
    scores: Scores, metrics: Sequence[Metric], true: np.ndarray, points: dict[str, np.ndarray], known: np.ndarray
) -> None:
    """Add the rows of points `[n, 478, 2]` of every variant against those of the truth, and of those against known."""
    shapes = [metric for metric in metrics if metric.name.startswith("LMD")]
    found = ~np.isnan(true[:, 33, 0])

    def add(metric: Metric, variant: str, measured: np.ndarray, other: np.ndarray) -> None:
        both = np.isfinite(measured[:, 33, 0] + other[:, 33, 0]).any()
        why = "" if both else "the second judge finds no face"
        scores.add_columns(metric, "face", variant, metric.per_frame(measured, other), why)

    for variant, measured in points.items():
        for metric in shapes if variant == "constant_lips" else metrics:  # lips that never move have no correlation
            add(metric, variant, measured, true)
        if variant not in ("constant_lips", "reread"):
            missed = int(np.count_nonzero(found & np.isnan(measured[:, 33, 0])))
            scores.add("missed_frames_second", missed, "frames", "lower", "face", variant)
    for metric in metrics:
        if metric not in shapes:  # two landmarkers do not mean the same points
            add(metric, "judge", true, known)
