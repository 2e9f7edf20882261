"""Measures heads that say a drive's sound: no truth is known, so lips are held against sound, talker and speaker."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from models.errors import InputError
from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT
from models.metrics.base import Metric, by_computation
from models.records import Clip, Judge, Landmarks, Rendering, Weights
from tasks.comparing import Pairs
from tasks.judging import open_judge
from tasks.per_frame import write_per_frame
from tasks.scores import VARIANTS, Scores, device_of
from tasks.stage import Context, NoParams
from tasks.synchrony import Picked, compare_speech, sound_of
from tasks.weights import TAUGHT, check_words, digests_of, ready_metrics
from tasks.windows import write_windows

READS = ("ingest", "judge", "audio_drive", "drive_landmarks", *TAUGHT)
"""Stages that whoever measures a drive has to read, besides the one that renders it."""
CLOSED, BLINK = 0.1, 0.5  # of the speaker's wide open lips, of the speaker's open eyes
UNITS = {
    "closed_share": ("%", ""),
    "opening": ("1", "1"),
    "blink_rate": ("1/min", ""),
    "head_motion": ("%", ""),
    "found_share": ("%", "higher"),
    "length_error": ("s", "lower"),
    "render_time": ("ms", "lower"),
}
DEFINITIONS = {
    "closed_share": "frames whose lip gap is below a tenth of the speaker's 95th percentile",
    "opening": "standard deviation of the lip gap over that of the speaker's own footage",
    "blink_rate": "times a minute that the lid gap falls below half of the speaker's median",
    "head_motion": "mean shift of the point between the eyes from frame to frame, over the eye distance",
    "found_share": "frames in which the judge finds the face",
    "length_error": "frames at 25 a second against the length of the sound",
    "render_time": "mean time to render one frame",
    "jitter": "rms second difference over frames of the corners of the eyes and the nose, over that of the speaker's "
    "own footage; 1: it trembles as that does",
}


def measure_drive(context: Context[NoParams], rendering: Rendering) -> None:
    """Write metrics.json, per_frame.parquet and windows.safetensors of one drive.

    Args:
        context: of a stage that reads `READS`.
        rendering: what the drive makes the head say.

    Raises:
        InputError: the clip has no training frames to compare with.
    """
    from models.metrics import all_metrics
    from models.metrics.base import mean_of
    from models.metrics.eyes import lid_gap
    from models.metrics.lips import lip_gap
    from tasks.media import read_sound

    clip, judge = context.read(Clip, "ingest"), context.read(Judge, "judge")
    drive = context.drive()
    path = context.places.raw_drive(str(context.keys.drive)) / drive.source
    sound = read_sound(path, clip.sample_rate)
    count = len(rendering.full)
    if not len(judge.own):
        raise InputError("the clip has no training frames to compare the drive with")
    with open_judge(judge, context.places) as reader:
        points = reader.measure(rendering.full, count, "the drive")

    scores = Scores(
        {
            "speaker": clip.speaker,
            "method": rendering.method,
            "extractor": str(context.keys.extractor),
            "split": "drive",
            "drive": str(context.keys.drive),
        }
    )

    def add(metric: str, value: float, variant: str = "full", why: str = "") -> None:
        scores.add(metric, value, *UNITS[metric], "face", variant, why)

    lips, own_lips = lip_gap(points), lip_gap(judge.own_points)
    lids, own_lids = lid_gap(points), lid_gap(judge.own_points)
    speech = {name: metric for name, metric in all_metrics().items() if metric.compares == "speech"}
    followed = {name: metric for name, metric in all_metrics().items() if metric.compares == "talker"}
    taught = {name: context.read(Weights, name) for name in TAUGHT}
    metrics, missing = ready_metrics(speech, context.places, context.stage.name, taught)
    for name, reason in missing.items():
        scores.add(name, float("nan"), "", "", why=reason)
    pictures, own = Picked(rendering.full, range(count)), Pairs(clip, judge.own, judge.own)
    for variant, heard in (("full", sound), ("wrong_sound", np.roll(sound, len(sound) // 2))):
        compare_speech(scores, metrics.values(), variant, pictures, points, heard)
    knowing = {name: metric for name, metric in metrics.items() if metric.taught}  # training frames, by heart
    compare_own(scores, [m for m in metrics.values() if not m.taught], clip, own, judge.own_points)
    compare_own(scores, knowing.values(), clip, Pairs(clip, judge.unseen, judge.unseen), judge.unseen_points)
    compare_talker(scores, followed.values(), points, context.read(Landmarks, "drive_landmarks"))
    steadiness = all_metrics()["jitter"]
    shaken = trembling(points, judge.own_points, own.inner(steadiness.reach))
    scores.add_columns(steadiness, "face", "full", shaken, "the judge finds no face")
    wide, open_eye, spread = np.nanpercentile(own_lips, 95), np.nanmedian(own_lids), np.nanstd(own_lips)
    for variant, gap, lid, where, breaks in (
        ("full", lips, lids, points, []),
        ("speaker", own_lips, own_lids, judge.own_points, own.breaks),
    ):
        seen = ~np.isnan(gap)
        unseen = "no face was found"
        series = {
            "closed_share": np.where(seen, 100.0 * (gap < CLOSED * wide), np.nan),
            "opening": gap,
            "blink_rate": lid,
            "head_motion": head_steps(where, breaks),
            "found_share": 100.0 * seen,
        }
        scores.series |= {(name, "face", variant): values[:, None] for name, values in series.items()}
        add("closed_share", mean_of(series["closed_share"][:, None]), variant, unseen)
        add("opening", float(np.nanstd(gap) / spread) if seen.any() and spread > 0 else np.nan, variant, unseen)
        add("blink_rate", blinks(lid, BLINK * open_eye) * 60 * clip.fps / len(lid), variant, unseen)
        add("head_motion", mean_of(series["head_motion"][:, None]), variant, unseen)
        add("found_share", 100 * float(seen.mean()), variant)
    add("length_error", abs(count / clip.fps - len(sound) / clip.sample_rate))
    add("render_time", float(rendering.quality.get("milliseconds_a_frame", "nan")), why="its stage does not tell it")

    about = {key: scores.keys[key] for key in ("speaker", "method", "extractor", "drive")}
    about |= {
        "split": f"drive: {count} frames",
        "seconds": round(count / clip.fps, 2),
        "sound": hashlib.sha256(sound.tobytes()).hexdigest(),
        "language": drive.language,
        "gender": drive.gender,
        "basis": drive.basis,
        "judge": judge.source,
        "size": f"{clip.frames.shape[2]} x {clip.frames.shape[1]}",
        "device": device_of(rendering),
        "kind": drive.kind,
        "source": drive.note,
        "name": drive.name,
        "own_language": context.speaker().language,
        "own_gender": context.speaker().gender,
        **{name: check_words(weights, clip.speaker) for name, weights in taught.items()},
        "taught": digests_of(taught),
    }
    words = (
        {metric.name: metric.words for metric in {**speech, **metrics, **followed}.values()}
        | DEFINITIONS
        | {f"variant {name}": VARIANTS[name] for name in ("full", "wrong_sound", "speaker")}
    )
    content = {"about": about, "rows": scores.rows, "absent": scores.absent, "definitions": words, "bars": []}
    context.write_metrics("metrics", content)
    others = {(name, "speaker"): judge.unseen if name in knowing else judge.own for name, *_ in scores.series}
    write_per_frame(context.metrics, scores, np.arange(count), clip.fps, others)
    write_windows(context.metrics, scores, [*metrics, *followed, "jitter"], ("full", "wrong_sound", "speaker"))


def compare_own(scores: Scores, metrics: Iterable[Metric], clip: Clip, own: Pairs, points: np.ndarray) -> None:
    """Add the metrics that compare lips with sound, of the speaker's own frames with `points` `[n, 478, 2]`."""
    shown, sound = Picked(clip.frames, own.frames), sound_of(clip, own.frames)
    compare_speech(scores, metrics, "speaker", shown, points, sound, own.breaks)


def compare_talker(scores: Scores, metrics: Iterable[Metric], points: np.ndarray, talker: Landmarks) -> None:
    """Add the metrics that hold lips against those of the drive's talker, and against another moment of theirs.

    Args:
        scores: to add to.
        metrics: those that compare a talker.
        points: `[n, 478, 2]` the judge's landmarks of the head.
        talker: of the drive; its quality says why there may be none.
    """
    true = np.full(points.shape, np.nan)
    shown = min(len(true), len(talker.points))
    true[:shown] = talker.points[:shown]
    unseen = ", ".join(filter(None, ("too few frames show both faces", talker.quality.get("note"))))
    why = talker.quality.get("why") or unseen
    families = by_computation(metrics)
    for variant, theirs in (("full", true), ("wrong_sound", np.roll(true, len(true) // 2, axis=0))):
        for family in families:
            columns = family[0].per_frame(points, theirs)
            for metric in family:
                scores.add_columns(metric, "face", variant, columns, why)


def trembling(points: np.ndarray, own_points: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Return `[n, 2]`: how the head trembles in each frame, and in the mean of the speaker's own frames.

    Args:
        points: `[n, 478, 2]` of the head.
        own_points: `[m, 478, 2]` of the speaker's own frames.
        inner: bool `[m]`, own frames whose neighbours are of the same shot: a cut is no motion.
    """
    from models.metrics.temporal import jitter

    own = jitter(own_points, own_points, None)[inner, 0]
    own = own[~np.isnan(own)]
    columns = jitter(points, points, None)
    columns[:, 1] = np.sqrt((own**2).mean()) if len(own) else np.nan
    return columns


def blinks(lids: np.ndarray, threshold: float) -> int:
    """Return how often the lid gap falls below `threshold`; frames without a face count as open."""
    closed = np.nan_to_num(lids, nan=np.inf) < threshold
    return int(np.count_nonzero(closed[1:] & ~closed[:-1]) + (len(closed) > 0 and bool(closed[0])))


def head_steps(points: np.ndarray, breaks: Sequence[int]) -> np.ndarray:
    """Return the shift of the point between the outer eye corners since the frame before, `[n]`.

    In percent of their mean distance; NaN in the first frame of a shot (`breaks_of`) and beside one without a face.
    """
    right, left = points[:, EYE_OUTER_RIGHT].astype(np.float64), points[:, EYE_OUTER_LEFT].astype(np.float64)
    distance = np.linalg.norm(right - left, axis=-1)
    step = np.full(len(points), np.nan)
    if np.isfinite(distance).any():
        step[1:] = 100 * np.linalg.norm(np.diff((right + left) / 2, axis=0), axis=-1) / np.nanmean(distance)
        step[list(breaks)] = np.nan
    return step
