"""How far the preparation of a speaker can be trusted: figures of every stage, errors against truth where it is known.

Rows are dict(speaker, stage, metric, value, unit, better, bar, ok, definition); a row without a bar only tells. What
fails is said once more in words under "verdicts".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.errors import InputError
from models.records import ActionUnits, Clip, DemoTruth, HeadTrack, Landmarks, Masks, RefinedPoses
from tasks.head_models import load_head_model, posed_landmarks, project
from tasks.stage import Context, NoParams, Stage, main

STAGE = Stage(
    name="quality",
    per=("speaker",),
    params=NoParams,
    reads=("ingest", "landmarks", "parse", "track", "pose_refine", "action_units"),
    preview=True,
    metrics=True,
)

EVERY = 5  # frames of a clip whose labels and shapes are compared with truth
LAG_FRAMES = 10
BRIDGE = 168  # of the nose: the point whose place is compared
MIN_AREA = 20  # pixels a frame below which a label's overlap says nothing


@dataclass
class Rows:
    """Collects rows and words."""

    speaker: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)

    def add(
        self,
        stage: str,
        metric: str,
        value: float,
        unit: str,
        better: str,
        bar: float | None = None,
        definition: str = "",
    ) -> None:
        """Add a row; with a bar it passes or fails. A value that is not finite is not measured."""
        measured = bool(np.isfinite(value))
        ok: bool | None = None
        if bar is not None and measured:
            ok = bool(value >= bar if better == "higher" else value <= bar)
        row: dict[str, Any] = {
            "speaker": self.speaker,
            "stage": stage,
            "metric": metric,
            "value": round(float(value), 5) if measured else None,
            "unit": unit,
            "better": better,
            "bar": bar if measured else None,
            "ok": ok,
            "definition": definition,
        }
        if not measured:
            row["why"] = "nothing moves or shows on these frames that it could be measured on"
        self.rows.append(row)
        if ok is False:
            sign = "at least" if better == "higher" else "at most"
            self.verdicts.append(f"{stage}: {metric} is {value:.4g} {unit}, should be {sign} {bar:.4g}. {definition}")


def run(context: Context[NoParams]) -> None:
    """Gather what every stage measured of itself, and compare with truth if the speaker has any."""
    clip = context.read(Clip, "ingest")
    landmarks = context.read(Landmarks, "landmarks")
    masks = context.read(Masks, "parse")
    head = context.read(HeadTrack, "track")
    refined = context.read(RefinedPoses, "pose_refine")
    units = context.read(ActionUnits, "action_units")
    rows = Rows(clip.speaker)
    _footage(rows, clip, landmarks)
    _tracking(rows, landmarks, head, refined)
    _parsing(rows, masks, units, len(clip))
    truth_folder = context.places.raw_speaker(clip.speaker) / "truth"
    if truth_folder.is_dir():
        truth = DemoTruth.load(truth_folder)
        if len(truth.world_to_camera) != len(clip):
            raise InputError(
                f"{clip.speaker}: {len(clip)} frames, {len(truth.world_to_camera)} frames of truth",
                "video and truth are not of one run",
                "run the stages that make them again: dvc repro",
            )
        crop = _Crop(clip)
        _true_poses(rows, context, crop, truth, head, refined)
        _true_labels(rows, crop, truth, masks)
        _true_units(rows, truth, units)
    fit = _fitness(context, clip, landmarks, units)
    content = {
        "rows": rows.rows,
        "verdicts": [*(finding["what"] for finding in fit["findings"]), *rows.verdicts],
        "truth": truth_folder.is_dir(),
        "fitness": fit,
        "action_units": {"source": units.source, "units": units.origins},
    }
    context.write_metrics("quality", content)


def _fitness(context: Context[NoParams], clip: Clip, landmarks: Landmarks, units: ActionUnits) -> dict[str, Any]:
    """Judge the footage as `gausstalk check` does, and draw it over time."""
    from tasks.fitness import face_figures, findings_of, told, verdict_of
    from tasks.pictures import mark_of_clip, save_strip
    from tasks.timeline import timeline

    closed = units.columns(("AU45",))[:, 0] / 5
    if landmarks.blendshape_names:
        blink = [name.startswith("eyeBlink") for name in landmarks.blendshape_names]
        closed = landmarks.blendshapes[:, blink].mean(axis=1)
    points = np.where(landmarks.valid[:, None, None], landmarks.points, np.nan)
    every, size = np.ones(len(clip), bool), clip.frames.shape[1]
    enlarged = float(np.median([size / source["crop"][2] for source in clip.sources]))
    seconds = len(clip) / clip.fps
    second = len(landmarks.quality.get("second_face_frames", [])) / len(clip)
    figures = {
        "seconds": round(seconds, 2),
        **{key: value for key, value in clip.fitness.items() if key != "verdicts"},
        "size": clip.sources[0].get("size"),
        "frame_rate": clip.sources[0].get("frame_rate"),
        "codec": clip.sources[0].get("codec", ""),
        "sound": clip.sources[0].get("sound", ""),
        "crop": clip.sources[0]["crop"],
        "cuts": len(landmarks.cuts),
        "cuts_s": [round(cut / clip.fps, 2) for cut in landmarks.cuts],
        "second_face_share": round(second, 3),
        "damaged_pictures": int((~clip.intact).sum()),
        **face_figures(points, every, closed, clip.sound, landmarks.cuts, clip.fps, enlarged),
    }
    sources = [{"frame_rate": clip.fps, **source} for source in clip.sources]
    findings = findings_of(figures, sources, clip.fps, size)
    picture = timeline(clip.frames, points, every, closed, clip.sound, landmarks.cuts, clip.fps)
    save_strip(context.preview / "strip.jpg", [picture], mark_of_clip(clip))
    return {
        "verdict": verdict_of(findings),
        "findings": [vars(finding) for finding in findings],
        "figures": [list(row) for row in told(figures)],
    }


def _footage(rows: Rows, clip: Clip, landmarks: Landmarks) -> None:
    from models.truth import best_lag
    from tasks.pictures import pair_gap

    valid = landmarks.valid
    rows.add("ingest", "seconds", len(clip) / clip.fps, "s", "")
    if "silence_share" in clip.fitness:
        rows.add("ingest", "silence_share", float(clip.fitness["silence_share"]), "1", "lower", 0.6)
    rows.add("ingest", "cuts", len(landmarks.cuts), "count", "", None, "shots joined; no temporal term crosses one")
    rows.add("landmarks", "found_share", float(valid.mean()), "1", "higher", 0.95, "frames that show a face")
    rows.add("landmarks", "longest_gap", _longest(~valid), "frames", "lower", 12, "frames without a face in a row")
    from models.heads.mediapipe_points import LIP_PAIRS

    lips = np.nan_to_num(pair_gap(landmarks.points, LIP_PAIRS))
    lag, r = best_lag(_loudness(clip), lips, LAG_FRAMES)
    words = "lag of the lip gap behind the loudness at which both correlate best; speech has -2 to 4"
    rows.add("landmarks", "lips_after_sound", lag, "frames", "", None, words)
    rows.add("landmarks", "lips_with_sound", r, "1", "higher", None, "correlation of lip gap and loudness at that lag")


def _loudness(clip: Clip) -> np.ndarray:
    """Return the level of the sound in dB around the instant of every frame, `[T]`, silence cut off at -60."""
    half = round(clip.sample_rate / clip.fps / 2)
    sound = np.pad(clip.sound.astype(np.float64) / 32768, half)
    centre = np.round(np.arange(len(clip)) / clip.fps * clip.sample_rate).astype(int) + half
    power = np.concatenate([[0.0], np.cumsum(sound**2)])
    first, end = (np.clip(centre + shift, 0, len(sound)) for shift in (-half, half))
    mean = (power[end] - power[first]) / np.maximum(end - first, 1)
    return 10 * np.log10(mean + 1e-6)


def _longest(flags: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0


def _tracking(rows: Rows, landmarks: Landmarks, head: HeadTrack, refined: RefinedPoses) -> None:
    found = head.quality
    # A trembling put into the landmarks on purpose is no fault of the fit; two coordinates of it make up a distance.
    eye_distance = float(found.get("eye_distance_px", float("nan")))
    noise = float(landmarks.quality.get("noise_px", 0.0)) * np.sqrt(2)
    bar = round(float(np.hypot(0.010, noise / eye_distance)), 5)
    words = "landmarks off the jaw line against the fitted head" + (
        ", their own trembling allowed for" if noise else ""
    )
    rows.add("track", "reprojection", float(found["reprojection_mean_px"]), "px", "lower", None, words)
    rows.add("track", "rms_over_eye_distance", float(found["rms_over_eye_distance"]), "1", "lower", bar, words)
    if "held_out_flow_error_px" in found:
        floor = float(found.get("held_out_flow_floor_px", 0.0))
        bar = round(max(0.3 * head.width / 512, 2 * floor), 4)
        words = "acceleration of the nose against corners that the fit has not seen"
        rows.add("track", "held_out_flow_error", float(found["held_out_flow_error_px"]), "px", "lower", bar, words)
    if "held_out_rotation_error_deg" in found:
        words = "acceleration of the rotation against unseen corners, whose own noise is most of it"
        value = float(found["held_out_rotation_error_deg"])
        rows.add("track", "held_out_rotation_error", value, "deg", "lower", None, words)
    if "lid_closed_gap_px" in found:
        bar = round(1 + noise, 3)
        words = "gap that the fitted head leaves where an eye is closed"
        rows.add("track", "lid_closed_gap", float(found["lid_closed_gap_px"]), "px", "lower", bar, words)
    if "lip_gap_error_px" in found:
        bar = round(0.3 * head.width / 512 + noise, 4)
        words = "opening of the inner lips on the fitted head against the landmarks"
        rows.add("track", "lip_gap_error", float(found["lip_gap_error_px"]), "px", "lower", bar, words)
    words = "share of expression coefficients more than 2 % beyond their range"
    rows.add("track", "expression_outside", float(found["expression_outside"]), "1", "lower", 0.01, words)
    if "rotation_acceleration_deg" in found:
        words = "second difference of the rotation, rms"
        rows.add(
            "track", "rotation_acceleration", float(found["rotation_acceleration_deg"]), "deg", "lower", None, words
        )
    seen = head.valid if head.valid.any() else np.ones_like(head.valid)
    shift = np.sqrt((refined.correction[seen, :2].astype(np.float64) ** 2).sum(axis=1).mean())
    words = "how far refinement moved the head in the picture, rms"
    rows.add("pose_refine", "correction", float(shift), "px", "lower", round(0.03 * eye_distance, 3), words)


def _parsing(rows: Rows, masks: Masks, units: ActionUnits, frames: int) -> None:
    quality = masks.quality
    rows.add("parse", "head_share", float(quality["head_share"]), "1", "higher", 0.04, "of the picture")
    words = "head pixels that change from one frame to the next: motion and flicker"
    rows.add("parse", "head_change", float(quality["head_change"]), "1", "lower", 0.06, words)
    words = "widest openings of the mouth in this clip"
    rows.add("parse", "inside_mouth_p95", float(quality["inside_mouth_px_p95"]), "px", "", None, words)
    share = float(units.quality["interpolated_frames"]) / frames
    rows.add("action_units", "interpolated_share", share, "1", "lower", 0.1, "frames bridged because no face was seen")
    blinks = float(units.quality["blinks_per_minute"])
    rows.add("action_units", "blinks", blinks, "1/min", "", None, "people have 5 to 40")


class _Crop:
    """Where the square of the clip lies in the source that the truth is about."""

    def __init__(self, clip: Clip) -> None:
        left, top, side = clip.sources[0]["crop"]
        self.left, self.top, self.side, self.size = float(left), float(top), float(side), clip.frames.shape[1]
        self.scale = self.size / self.side

    def points(self, points: np.ndarray) -> np.ndarray:
        return (points - (self.left, self.top)) * self.scale

    def intrinsics(self, matrix: np.ndarray) -> np.ndarray:
        moved = matrix.astype(np.float64).copy()
        moved[:2, 2] -= (self.left, self.top)
        moved[:2] *= self.scale
        return moved

    def labels(self, labels: np.ndarray) -> np.ndarray:
        import cv2

        left, top, side = round(self.left), round(self.top), round(self.side)
        cut = labels[top : top + side, left : left + side]
        if cut.shape == (self.size, self.size):
            return cut
        return cv2.resize(cut, (self.size, self.size), interpolation=cv2.INTER_NEAREST)


def _true_poses(
    rows: Rows,
    context: Context[NoParams],
    crop: _Crop,
    truth: DemoTruth,
    head: HeadTrack,
    refined: RefinedPoses,
) -> None:
    from models.truth import pose_errors, shape_error_mm

    valid = head.valid
    index = head.landmark_index.tolist()
    point = head.rest_landmarks[index.index(BRIDGE)] if BRIDGE in index else head.rest_landmarks.mean(axis=0)
    camera = crop.intrinsics(truth.intrinsics)
    removed = "after removing a constant"
    for stage, poses in (("track", head.world_to_camera), ("pose_refine", refined.world_to_camera)):
        errors = pose_errors(poses[valid], truth.world_to_camera[valid], head.intrinsics, camera, point)
        words = (
            f"mean angle to the true rotation {removed} {errors.constant_rotation_deg:.1f} deg between the head frames"
        )
        rows.add(stage, "true_rotation_error", float(errors.rotation_deg.mean()), "deg", "lower", 1.0, words)
        words = "rms distance of the nose's bridge from where it truly is, across the line of sight"
        rows.add(stage, "true_sideways_error", _rms(errors.sideways_mm), "mm", "lower", 1.0, words)
        words = f"the same along it, {removed} factor {errors.depth_factor:.3f} (focal length is unknown)"
        rows.add(stage, "true_depth_error", _rms(errors.depth_mm), "mm", "lower", None, words)
    used = len(head.identity), head.expression.shape[1]
    model = load_head_model(context.places, context.speaker().head_model, *used)
    frames = np.flatnonzero(valid)[::EVERY]
    posed = np.stack([posed_landmarks(model, head, t) for t in frames])
    pixels = np.stack([project(p, head, t) for p, t in zip(posed, frames, strict=True)])
    away = np.linalg.norm(pixels - crop.points(truth.landmarks_px[frames][:, head.landmark_index]), axis=2)
    words = "fitted landmarks against the true ones, before any trembling was added"
    rows.add("track", "true_landmark_error", float(np.nanmean(away)), "px", "lower", 1.5, words)
    shape = shape_error_mm(posed, truth.landmarks_m[frames][:, head.landmark_index].astype(np.float64))
    words = "the same in space, after one similarity for the whole clip"
    rows.add("track", "true_shape_error", float(np.nanmean(shape)), "mm", "lower", 3.0, words)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _true_labels(rows: Rows, crop: _Crop, truth: DemoTruth, masks: Masks) -> None:
    from models.parsing import labels as parser

    frames = np.flatnonzero(masks.valid)[::EVERY]
    found = np.stack([masks.labels[t] for t in frames])
    true = np.stack([crop.labels(truth.labels[t]) for t in frames])
    person = tuple(range(1, parser.COUNT))
    groups: list[tuple[str, tuple[int, ...], float | None]] = [
        ("person", person, 0.95),
        ("head", parser.HEAD, 0.95),
        ("torso", parser.TORSO, 0.9),
        ("inside mouth", parser.INSIDE_MOUTH, 0.5),
    ]
    groups += [(parser.NAMES[label], (label,), None) for label in person]
    for name, group, bar in groups:
        a, b = parser.select(found, group), parser.select(true, group)
        if np.count_nonzero(b) < MIN_AREA * len(frames) and bar is None:
            continue
        value = parser.intersection_over_union(a, b)
        rows.add("parse", f"iou {name}", value, "1", "higher", bar, "overlap with the true labels over their union")


def _true_units(rows: Rows, truth: DemoTruth, units: ActionUnits) -> None:
    from models.truth import correlation

    for name in units.names:
        if name not in truth.action_unit_names:
            continue
        true = truth.action_units[:, truth.action_unit_names.index(name)]
        r = correlation(units.intensity[:, units.names.index(name)], true)
        bar = 0.95 if name == "AU45" else None
        rows.add("action_units", f"r {name}", r, "1", "higher", bar, "correlation with the true intensity")
    for label, positive, negative in (("gaze left-right", 3, 2), ("gaze up-down", 1, 0)):
        found = units.gaze[:, positive] - units.gaze[:, negative]
        true = truth.gaze[:, positive] - truth.gaze[:, negative]
        rows.add("action_units", f"r {label}", correlation(found, true), "1", "higher", None, "correlation with truth")


if __name__ == "__main__":
    main(STAGE, run)
