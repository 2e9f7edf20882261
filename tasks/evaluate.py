"""Measure a trained head on the test frames against the truth and against controls that do not hear the sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from models.errors import InputError
from models.records import TEST, TRAIN, Clip, HeadTrack, Judge, Landmarks, Masks, Rendering, Weights
from tasks.comparing import Pairs, compare_images, compare_points
from tasks.constant_lips import constant_lips
from tasks.facial_units import compare_openface, compare_units
from tasks.judging import Reader, known_points, open_judge
from tasks.params import Params
from tasks.people import mark_of
from tasks.regions import REGIONS, Regions, mouth_box
from tasks.scores import Bar, Scores, definitions, device_of
from tasks.second_judge import judge_again
from tasks.stage import Context, Stage, main
from tasks.synchrony import Picked, compare_speech, sound_of
from tasks.weights import TAUGHT, check_words, ready_metrics
from tasks.windows import write_windows

if TYPE_CHECKING:
    from models.metrics.base import Metric
    from models.storage import FrameStore


class EvaluateParams(Params):
    """Section `evaluate`."""

    mouth_margin_px: int = Field(2, ge=0)  # added to half the side of the mouth box
    block_seconds: float = Field(1.0, gt=0)  # frames drawn together for an interval
    draws: int = Field(1000, ge=100)
    openface_minutes: float = Field(60.0, gt=0)  # that OpenFace may take for one variant, where it is on PATH
    worst: int = Field(6, ge=1, le=24)  # frames a metric shown in the gallery of failures
    bars: tuple[Bar, ...] = ()  # what a trained head must reach


KINDS = ("frames", "landmarks", "second", "units", "openface", "speech")
PHASES = ("tg_motion", "tg_face", "tg_mouth", "tg_fuse")
STAGE = Stage(
    name="evaluate",
    per=("speaker", "extractor"),
    params=EvaluateParams,
    reads=("ingest", "landmarks", "parse", "track", "judge", *PHASES, "render", *TAUGHT),
    preview=True,
    metrics=True,
)
SYSTEM_METRICS = {
    "missed_frames": "test frames in which the judge finds the face in the truth but not in the rendering",
    "missed_frames_second": "the same of the second judge, OpenSeeFace's landmarker",
    "render_time": "mean time to render one frame",
    "fps": "frames rendered a second",
    "model_size": "what the trained head takes on a disk",
    "peak_memory": "most memory that a training stage of this head has held at once; with a GPU the GPU's",
    "training_time": "time of all training stages of this head, added up (some can run at once)",
    "gaussians": "Gaussians of the trained head",
    "test_frames": "frames that all other numbers are measured on",
}
GALLERY = (("PSNR", "mouth"), ("PSNR", "head"), ("LMD", "face"))
TILE = 256  # side of an enlarged mouth in a gallery, pixels
CURVE_POINTS = 200  # of a training curve


def run(context: Context[EvaluateParams]) -> None:
    """Write metrics.json, per_frame.parquet, windows.safetensors, curves.json and pictures of the worst frames."""
    from models.metrics import all_metrics
    from tasks.kernels import watch

    watch()
    clip = context.read(Clip, "ingest")
    rendering = context.read(Rendering, "render")
    landmarks = context.read(Landmarks, "landmarks")
    weights = {phase: context.read(Weights, phase) for phase in PHASES}
    stores = rendered_stores(rendering)
    positions = np.flatnonzero(clip.split[rendering.frame_index] == TEST)
    if not len(positions):
        raise InputError("no test frame was rendered", "the clip's split has none, or render left them out")
    frames = rendering.frame_index[positions]

    taught = {name: context.read(Weights, name) for name in TAUGHT}
    metrics, missing = ready_metrics(all_metrics(), context.places, STAGE.name, taught)
    keys = {"speaker": clip.speaker, "method": rendering.method, "extractor": str(context.keys.extractor)}
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
    compare_units(scores, kinds["units"], points, pairs, context.read(HeadTrack, "track"))
    compare_openface(scores, kinds["openface"], stores, pairs, context.params.openface_minutes)
    shown = {"truth": Picked(clip.frames, frames)} | {v: Picked(store, positions) for v, store in stores.items()}
    sound = sound_of(clip, frames)
    for variant, pictures in shown.items():
        compare_speech(scores, kinds["speech"], variant, pictures, points[variant], sound, pairs.breaks)
    for name, why in missing.items():
        scores.add(name, float("nan"), "", "", why=why)
    scores.add_static(metrics)
    add_system_rows(scores, rendering, weights, len(frames))

    from models.metrics.base import blocks_of

    blocks = blocks_of(frames, max(1, round(context.params.block_seconds * clip.fps)))
    bars = [scores.judge_bar(bar, metrics, blocks, context.params.draws) for bar in context.params.bars]
    about = {
        **keys,
        "split": f"test: {len(frames)} of {len(clip)} frames",
        "seconds": round(len(frames) / clip.fps, 2),
        "size": f"{clip.frames.shape[2]} x {clip.frames.shape[1]}",
        "judge": judge.source,
        "basis": clip.basis,
        "preset": presets_in(weights),
        "device": device_of(rendering),
        "block_seconds": context.params.block_seconds,
        "own_language": context.speaker().language,
        "own_gender": context.speaker().gender,
        **{name: check_words(weights, clip.speaker) for name, weights in taught.items()},
    }
    context.write_metrics(
        "metrics",
        {
            "about": about,
            "rows": scores.rows,
            "bars": bars,
            "absent": scores.absent,
            "definitions": definitions(
                {**all_metrics(), **metrics}, {**SYSTEM_METRICS, **{f"region {k}": v for k, v in REGIONS.items()}}
            ),
        },
    )
    context.write_metrics("curves", {"training": training_curves(weights), "gaps": gap_curves(points, frames)})
    write_per_frame(context.metrics / "per_frame.parquet", scores, frames)
    kept = [name for name, metric in metrics.items() if metric.compares == "speech"]
    write_windows(context.metrics, scores, [*kept, "jitter"], ("full", "wrong_audio", "truth"))
    save_worst(context, metrics, scores, clip, landmarks, rendering.full, positions, frames)


def presets_in(weights: dict[str, Weights]) -> str:
    """Return the preset that a head was trained with, in words; its phases' where they differ."""
    named = {phase: str(found.quality.get("preset", "")) for phase, found in weights.items()}
    if len(set(named.values())) == 1:
        return named[PHASES[0]]
    return "; ".join(f"{phase} {preset or 'unknown'}" for phase, preset in named.items())


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


def add_system_rows(scores: Scores, rendering: Rendering, weights: dict[str, Weights], test_frames: int) -> None:
    """Add what the head costs, as far as its stages have told it."""
    why = "its stage does not tell it"
    seconds = sum(float(record.quality.get("seconds", "nan")) for record in weights.values())
    fuse = weights["tg_fuse"].quality
    gaussians = sum(float(fuse.get(f"{branch}_gaussians", "nan")) for branch in ("face", "mouth"))
    milliseconds = float(rendering.quality.get("milliseconds_a_frame", "nan"))
    memory = [float(record.quality.get("peak_memory_gb", "nan")) for record in weights.values()]
    size = sum(tensor.nbytes for tensor in weights["tg_fuse"].tensors.values()) / 1e6
    scores.add("render_time", milliseconds, "ms", "lower", why=why)
    scores.add("fps", 1000 / milliseconds if milliseconds else float("nan"), "1/s", "higher", why=why)
    scores.add("model_size", size, "MB", "lower")
    scores.add("peak_memory", float(np.max(memory)), "GB", "lower", why=why)
    scores.add("training_time", seconds, "s", "lower", why=why)
    scores.add("gaussians", gaussians, "count", "", why=why)
    scores.add("test_frames", test_frames, "frames", "")


def training_curves(weights: dict[str, Weights]) -> list[dict[str, Any]]:
    """Return the curves of every phase, in order, with at most `CURVE_POINTS` points each."""
    phases: list[dict[str, Any]] = []
    for phase, record in weights.items():
        lengths = [len(values) for values in record.curves.values()]
        if not lengths or not min(lengths):
            continue
        kept = np.unique(np.linspace(0, min(lengths) - 1, min(CURVE_POINTS, min(lengths))).round().astype(int))
        curves = {name: [round(float(values[k]), 6) for k in kept] for name, values in record.curves.items()}
        phases.append({"phase": phase, "curves": curves})
    return phases


def gap_curves(points: dict[str, np.ndarray], frames: np.ndarray) -> dict[str, list[float | None]]:
    """Return the lip gap over the eye distance of the truth and the variants, frame by frame."""
    from models.metrics.lips import lip_gap

    curves: dict[str, list[float | None]] = {"frame": [int(t) for t in frames]}
    for variant in ("truth", "full", "wrong_audio", "mean_motion"):
        if variant in points:
            curves[variant] = [None if np.isnan(v) else round(float(v), 5) for v in lip_gap(points[variant])]
    return curves


def write_per_frame(path: Path, scores: Scores, frames: np.ndarray) -> None:
    """Write one row for every frame and variant; a column is named metric.region, with .true for the truth's series."""
    import pandas

    tables = []
    for variant in dict.fromkeys(variant for _, _, variant in scores.columns):
        table: dict[str, Any] = {"frame": frames, "variant": [variant] * len(frames)}
        for (name, region, other), columns in scores.columns.items():
            if other == variant and columns.shape[1] <= 2:
                table[f"{name}.{region}"] = columns[:, 0]
                if columns.shape[1] > 1:
                    table[f"{name}.{region}.true"] = columns[:, 1]
        tables.append(pandas.DataFrame(table))
    pandas.concat(tables, ignore_index=True).to_parquet(path, index=False)


def save_worst(
    context: Context[EvaluateParams],
    metrics: dict[str, Metric],
    scores: Scores,
    clip: Clip,
    landmarks: Landmarks,
    full: FrameStore,
    positions: np.ndarray,
    frames: np.ndarray,
) -> None:
    """Save the worst frames of some metrics, the truth above the rendering; what concerns the mouth is enlarged."""
    from tasks.pictures import save_strip

    mark = mark_of(context.speaker().basis)
    for name, region in GALLERY:
        columns = scores.columns.get((name, region, "full"))
        if columns is None or np.isnan(columns[:, 0]).all():
            continue
        worst = worst_positions(columns[:, 0], metrics[name].merit, context.params.worst, round(clip.fps / 4))
        tiles = []
        for k in worst:
            pair = [clip.frames[frames[k]], full[positions[k]]]
            if region != "head":
                pair = [_mouth_of(picture, landmarks.points[frames[k]]) for picture in pair]
            tiles.append(np.concatenate(pair, 0))
        captions = [f"frame {frames[k]}: {columns[k, 0]:.2f} {metrics[name].unit}" for k in worst]
        save_strip(context.preview / f"worst_{name}_{region}.jpg", tiles, mark, captions, columns=6)


def _mouth_of(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the lower face of a frame, enlarged to `TILE` pixels a side; the whole frame where no lips are known."""
    import cv2

    rows, columns = mouth_box(points, picture.shape[:2], 0)
    rows, columns = mouth_box(points, picture.shape[:2], round(0.45 * (columns.stop - columns.start)))
    crop = picture[rows, columns] if rows.stop > rows.start else picture
    return cv2.resize(crop, (TILE, TILE), interpolation=cv2.INTER_CUBIC)


def worst_positions(values: np.ndarray, merit: Callable[[float], float], count: int, apart: int) -> list[int]:
    """Return the positions of the worst values, at least `apart` frames from each other, worst first."""
    chosen: list[int] = []
    for k in sorted((k for k in range(len(values)) if not np.isnan(values[k])), key=lambda k: (merit(values[k]), k)):
        if len(chosen) < count and all(abs(k - other) >= apart for other in chosen):
            chosen.append(int(k))
    return chosen


if __name__ == "__main__":
    main(STAGE, run)
