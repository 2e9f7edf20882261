"""Metrics that compare facial action units of renderings and footage: by the judge's landmarks, and by OpenFace."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from models.action_units import UNIT_NAMES, from_geometry
from models.errors import InputError
from models.face_curves import face_on
from models.metrics.base import Metric
from models.openface import at, of_face, read_rows
from models.records import HeadTrack
from models.storage import FrameStore
from tasks.comparing import NO_FACE, Pairs
from tasks.media import SAMPLE_RATE, write_video
from tasks.openface import PROGRAM, run_program
from tasks.scores import Scores

NO_OPENFACE = f"no {PROGRAM} is on PATH; the licence of OpenFace, for academic use only, forbids shipping it"


def compare_units(
    scores: Scores, metrics: Sequence[Metric], points: dict[str, np.ndarray], pairs: Pairs, head: HeadTrack
) -> None:
    """Add the metrics that compare units measured on the judge's landmarks, `[n, 478, 2]` by variant and "truth"."""
    true = points["truth"]
    for variant, measured in points.items():
        if variant in ("truth", "constant_lips", "judge"):
            continue
        units = units_of(true, measured, pairs, head)
        for metric in metrics:
            scores.add_columns(metric, "face", variant, metric.per_frame(units[1], units[0]), NO_FACE)


def units_of(true: np.ndarray, measured: np.ndarray, pairs: Pairs, head: HeadTrack) -> tuple[np.ndarray, np.ndarray]:
    """Return intensities `[n, 17]` of the truth and of a rendering on one scale, the truth's; NaN where absent."""
    both = np.concatenate([true, measured])
    poses = np.tile(head.world_to_camera[pairs.frames], (2, 1, 1))
    faces = face_on(both, poses, head.intrinsics, head.landmark_index, head.rest_landmarks)
    seen, of_truth = ~np.isnan(both[:, 33, 0]), np.arange(len(both)) < len(true)
    result = np.full((len(both), len(UNIT_NAMES)), np.nan)
    if (seen & of_truth).any():
        cuts = [*pairs.breaks, len(true), *(len(true) + k for k in pairs.breaks)]
        units = from_geometry(faces, seen, of_truth, cuts)
        told = [name for name in units.names if units.origins[name].level != "absent"]
        values = units.intensity[:, [units.names.index(name) for name in told]]
        result[:, [UNIT_NAMES.index(name) for name in told]] = values
        result[~seen] = np.nan
    return result[: len(true)], result[len(true) :]


def compare_openface(
    scores: Scores, metrics: Sequence[Metric], stores: Mapping[str, FrameStore], pairs: Pairs, minutes: float
) -> None:
    """Add the metrics that compare units measured by OpenFace, where its program is on PATH.

    Raises:
        InputError: the program fails on the footage.
        MachineError: it takes more than `minutes` for one variant.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        for metric in metrics:
            scores.add(metric.name, float("nan"), metric.unit, metric.better, why=NO_OPENFACE)
        return
    clip = pairs.clip
    true = openface_units(Path(program), (clip.frames[t] for t in pairs.frames), len(pairs), clip.fps, minutes)
    for variant, store in stores.items():
        why = ""
        try:
            frames = (store[k] for k in pairs.positions)
            found = openface_units(Path(program), frames, len(pairs), clip.fps, minutes)
        except InputError as error:  # of a rendering that shows no face
            found, why = np.full_like(true, np.nan), error.what
        for metric in metrics:
            scores.add_columns(metric, "face", variant, metric.per_frame(found, true), why)


def openface_units(program: Path, frames: Iterable[np.ndarray], count: int, fps: float, minutes: float) -> np.ndarray:
    """Return the intensities `[count, 17]` that OpenFace gives, NaN where it saw no face or does not give a unit.

    Raises:
        InputError: it fails or sees no face at all.
        MachineError: it takes more than `minutes`.
    """
    with tempfile.TemporaryDirectory(prefix="gausstalk-units-") as name:
        video = Path(name) / "frames.mp4"
        write_video(video, frames, fps, None, SAMPLE_RATE, "", {}, crf=0)
        text, _ = run_program(program, video, minutes)
    rows = of_face(read_rows(text, video.name, fps), np.empty(0), np.empty((0, 2)), np.empty(0))
    units, _, _ = at(rows, np.arange(count) / fps)
    return np.stack([units.get(unit, np.full(count, np.nan)) for unit in UNIT_NAMES], 1)
