"""Measures rendered test frames against the truth, whoever has rendered them: our own heads or another system."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from models.errors import InputError
from models.records import TEST, TRAIN, Clip, HeadTrack, Judge, Landmarks, Masks, Rendering, Weights
from tasks import galleries
from tasks.comparing import Pairs, compare_images, compare_points
from tasks.constant_lips import constant_lips
from tasks.facial_units import compare_openface, compare_units
from tasks.identity import compare_identity
from tasks.judging import Reader, known_points, open_judge
from tasks.params import Params
from tasks.people import mark_of
from tasks.per_frame import write_per_frame
from tasks.regions import REGIONS, Regions
from tasks.scores import MISSED, Bar, Scores, definitions
from tasks.second_judge import judge_again
from tasks.stage import Context
from tasks.synchrony import Picked, compare_speech, sound_of
from tasks.weights import TAUGHT, check_words, digests_of, ready_metrics
from tasks.windows import write_windows

if TYPE_CHECKING:
    from models.storage import FrameStore


class EvaluateParams(Params):
    """Section `evaluate`."""

    mouth_margin_px: int = Field(2, ge=0)  # added to half the side of the mouth box
    block_seconds: float = Field(1.0, gt=0)  # frames drawn together for an interval
    draws: int = Field(1000, ge=100)
    openface_minutes: float = Field(60.0, gt=0)  # that OpenFace may take for one variant, where it is on PATH
    worst: int = Field(12, ge=1, le=24)  # frames that the gallery of a metric shows, a kind of failure half as many
    bars: tuple[Bar, ...] = ()  # what a trained head must reach


READS = ("ingest", "landmarks", "parse", "track", "judge", *TAUGHT)
"""Stages that whoever measures has to read."""
KINDS = ("frames", "landmarks", "second", "units", "openface", "speech", "identity")
SYSTEM_METRICS = {
    MISSED.name: MISSED.definition,
    "missed_frames_second": "the same of the second judge, OpenSeeFace's landmarker",
    "render_time": "mean time to render one frame from its sound; controls are not timed",
    "fps": "frames rendered a second, from their sound; controls are not timed",
    "model_size": "what the trained head takes on a disk",
    "peak_memory": "most memory that a training stage of this head has held at once; with a GPU the GPU's",
    "training_time": "time of all training stages of this head, added up (some can run at once)",
    "gaussians": "Gaussians of the trained head",
    "test_frames": "frames that all other numbers are measured on",
}


def measure(
    context: Context[EvaluateParams],
    rendering: Rendering,
    extractor: str,
    add_costs: Callable[[Scores], None],
    told: dict[str, Any],
    training: list[dict[str, Any]],
) -> None:
    """Write metrics.json, per_frame.parquet, windows.safetensors, curves.json (of training) and galleries.

    Args:
        context: of a stage that reads `READS`.
        rendering: test frames of the clip, and of the controls that there are.
        extractor: of speech features, "" where that is not known.
        add_costs: adds what training and rendering have cost.
        told: what else is to be said about the conditions.
        training: curves of training, see `training_curves` of the stage evaluate.

    Raises:
        InputError: no test frame was rendered, or see `rendered_stores`.
    """
    from models.metrics import all_metrics
    from models.metrics.base import blocks_of
    from tasks.kernels import watch

    watch()
    clip, landmarks = context.read(Clip, "ingest"), context.read(Landmarks, "landmarks")
    stores = rendered_stores(rendering)
    positions = np.flatnonzero(clip.split[rendering.frame_index] == TEST)
    if not len(positions):
        raise InputError("no test frame was rendered", "the clip's split has none, or render left them out")
    frames = rendering.frame_index[positions]

    taught = {name: context.read(Weights, name) for name in TAUGHT}
    metrics, missing = ready_metrics(all_metrics(), context.places, context.stage.name, taught)
    keys = {"speaker": clip.speaker, "method": rendering.method, "extractor": extractor}
    scores = Scores({**keys, "split": "test", "drive": ""})
    regions = Regions(clip, landmarks, context.read(Masks, "parse"), context.params.mouth_margin_px)
    pairs = Pairs(clip, frames, positions)
    kinds = {kind: [m for m in metrics.values() if m.compares == kind] for kind in KINDS}
    for variant, store in stores.items():
        compare_images(scores, kinds["frames"], variant, store, pairs, regions)
    judge = context.read(Judge, "judge")
    known = known_points(clip, landmarks, context.places)
    with open_judge(judge, context.places) as reader:
        points = measure_points(reader, clip, landmarks, stores, positions, frames, known[frames])
    compare_points(scores, kinds["landmarks"], points, pairs)
    judge_again(scores, kinds["second"], stores, pairs, known, context.places)
    compare_identity(scores, kinds["identity"], stores, pairs, known)
    compare_units(scores, kinds["units"], points, pairs, context.read(HeadTrack, "track"))
    compare_openface(scores, kinds["openface"], stores, pairs, context.params.openface_minutes)
    shown = {"truth": Picked(clip.frames, frames)} | {v: Picked(store, positions) for v, store in stores.items()}
    sound = sound_of(clip, frames)
    for variant, pictures in shown.items():
        compare_speech(scores, kinds["speech"], variant, pictures, points[variant], sound, pairs.breaks)
    if "wrong_audio" not in stores:  # nothing has rendered it: the same lips against another moment's sound, then
        other = np.roll(sound, len(sound) // 2)
        compare_speech(scores, kinds["speech"], "wrong_sound", shown["full"], points["full"], other, pairs.breaks)
    for name, why in missing.items():
        scores.add(name, float("nan"), "", "", why=why)
    scores.add_static(metrics)
    add_costs(scores)
    scores.add("test_frames", len(frames), "frames", "")

    blocks = blocks_of(frames, max(1, round(context.params.block_seconds * clip.fps)))
    every = {**all_metrics(), **metrics}  # a bar whose metric is absent cannot be judged, and says so
    bars = [scores.judge_bar(bar, every, blocks, context.params.draws) for bar in context.params.bars]
    about = {
        **keys,
        "split": f"test: {len(frames)} of {len(clip)} frames",
        "seconds": round(len(frames) / clip.fps, 2),
        "size": f"{clip.frames.shape[2]} x {clip.frames.shape[1]}",
        "data": identity(clip, frames),
        "judge": judge.source,
        "basis": clip.basis,
        "block_seconds": context.params.block_seconds,
        "own_language": context.speaker().language,
        "own_gender": context.speaker().gender,
        **{name: check_words(weights, clip.speaker) for name, weights in taught.items()},
        "taught": digests_of(taught),
        **told,
    }
    context.write_metrics(
        "metrics",
        {
            "about": about,
            "rows": scores.rows,
            "bars": bars,
            "absent": scores.absent,
            "definitions": definitions(every, {**SYSTEM_METRICS, **{f"region {k}": v for k, v in REGIONS.items()}}),
        },
    )
    context.write_metrics("curves", {"training": training})
    write_per_frame(context.metrics, scores, frames, clip.fps)
    kept = [name for name, metric in metrics.items() if metric.compares == "speech"]
    write_windows(context.metrics, scores, [*kept, "jitter"], ("full", "wrong_audio", "truth"))
    beside = galleries.Pairs(clip, landmarks, rendering.full, positions, frames)
    mark = mark_of(context.speaker().basis, *rendering.quality.get("teachers", ()))
    galleries.save_galleries(context.preview, scores, metrics, beside, context.params.worst, mark)


def identity(clip: Clip, frames: np.ndarray) -> dict[str, str]:
    """Return digests by which two evaluations can tell whether they are of the same split and the same true frames."""
    split = hashlib.sha256(clip.split.astype(np.int8).tobytes() + frames.astype(np.int32).tobytes())
    truth = hashlib.sha256()
    for frame in frames:
        truth.update(np.ascontiguousarray(clip.frames[int(frame)]).data)
    return {"split": split.hexdigest(), "truth": truth.hexdigest()}


def rendered_stores(rendering: Rendering) -> dict[str, FrameStore]:
    """Return the frame stores of a rendering by variant, "full" first.

    Raises:
        InputError: one that is named is missing, or has another length than the index of frames.
    """
    stores: dict[str, FrameStore] = {}
    for variant in rendering.variants:
        store = getattr(rendering, variant, None)
        if store is None or len(store) != len(rendering.frame_index):
            found = "missing" if store is None else f"{len(store)} frames"
            raise InputError(
                f"rendering {variant}: {found}, not {len(rendering.frame_index)} frames",
                "the record of render is not whole",
                "run the stage render again",
            )
        stores[variant] = store
    return stores


def measure_points(
    reader: Reader,
    clip: Clip,
    landmarks: Landmarks,
    stores: dict[str, FrameStore],
    positions: np.ndarray,
    frames: np.ndarray,
    known: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return the judge's points `[n, 478, 2]` of the truth and of every variant, and the yardsticks beside them."""
    points = {"truth": reader.measure((clip.frames[t] for t in frames), len(frames), "the truth")}
    for variant, store in stores.items():
        points[variant] = reader.measure((store[k] for k in positions), len(positions), variant)
    training = [k for k in clip.indices(TRAIN) if landmarks.valid[k]]
    points["constant_lips"] = constant_lips(landmarks.points[training], points["truth"])
    points["judge"] = known
    return points
