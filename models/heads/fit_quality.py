"""Figures that say how far a fitted head can be trusted."""

from __future__ import annotations

import numpy as np

from models.heads.fit_state import Basis, Observations, State, project
from models.heads.lids import calibrate, lid_gap
from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, LID_PAIRS_LEFT, LID_PAIRS_RIGHT, LIP_PAIRS
from models.heads.model import HeadModel

Array = np.ndarray

_CLOSED = 0.1  # an eye counts as closed when its measured gap is below this share of the open one


def fit_quality(
    model: HeadModel,
    basis: Basis,
    state: State,
    seen: Observations,
    seen_frames: Array,
    scores: Array | None,
    error_px: Array,
    eye_distance_px: float,
    focal: float,
    shots: list[tuple[int, int]],
) -> dict[str, float]:
    """Measure a fit.

    Args:
        model: The head model.
        basis: The model at its landmarks with the fixed corrections.
        state: The fitted state.
        seen: The measured landmarks.
        seen_frames: `[T]` frames with a face.
        scores: `[T, 2]` blink scores, or None.
        error_px: `[T, L]` landmark distances in pixels, NaN where absent or on the jaw line.
        eye_distance_px: Median distance of the outer eye corners.
        focal: Focal length in pixels.
        shots: `(first, one past the last)` of each shot; differences across a cut do not count.

    Returns:
        In pixels: `reprojection_mean_px`, `reprojection_p95_px`, `eye_distance_px`, `lid_gap_error_px` (all frames),
        `lid_closed_gap_px` (mean lid gap of the mesh where the eye is closed), `lip_gap_error_px`;
        and `rms_over_eye_distance`, `expression_outside` (share of coefficients more than 2 % beyond their range),
        `rotation_acceleration_deg` and `depth_acceleration_mm` (root mean square second differences),
        `frames_without_face`. A figure that cannot be measured is left out.
    """
    margin = 0.02 * (basis.high - basis.low)
    outside = (state.expression < basis.low - margin) | (state.expression > basis.high + margin)
    stats = {
        "reprojection_mean_px": float(np.nanmean(error_px)),
        "reprojection_p95_px": float(np.nanpercentile(error_px, 95)),
        "rms_over_eye_distance": float(np.sqrt(np.nanmean(error_px**2)) / eye_distance_px),
        "eye_distance_px": eye_distance_px,
        "expression_outside": float(outside.mean()),
        "frames_without_face": float((~seen_frames).sum()),
    }
    inside = np.concatenate([np.arange(first + 1, end - 1) for first, end in shots])
    if len(inside):
        turn = state.turning()
        turning = turn[inside] - turn[inside - 1]
        depth = np.exp(state.log_depth)
        sinking = depth[inside + 1] + depth[inside - 1] - 2 * depth[inside]
        stats["rotation_acceleration_deg"] = float(np.degrees(np.sqrt((turning**2).sum(1).mean())))
        stats["depth_acceleration_mm"] = float(1e3 * np.sqrt((sinking**2).mean()))
    pairs = model.pair_rows(LIP_PAIRS)
    both = (
        (seen.weight[:, pairs] > 0).all(axis=(1, 2)) & seen_frames if len(pairs) else np.zeros(len(seen_frames), bool)
    )
    if both.any():
        fitted, measured = (
            _pair_gap(points, pairs) for points in (project(state.of(both), basis)[1], seen.points[both])
        )
        stats["lip_gap_error_px"] = float(np.abs(fitted - measured).mean() * focal)
    stats.update(_lid_figures(model, basis, state, seen, seen_frames, scores, eye_distance_px))
    return stats


def _pair_gap(points: Array, pairs: Array) -> Array:
    """Return the mean distance `[T]` of pairs of landmarks."""
    return np.linalg.norm(points[:, pairs[:, 0]] - points[:, pairs[:, 1]], axis=2).mean(1)


def _lid_figures(
    model: HeadModel,
    basis: Basis,
    state: State,
    seen: Observations,
    seen_frames: Array,
    scores: Array | None,
    eye_distance_px: float,
) -> dict[str, float]:
    eyes = model.rows_of((EYE_OUTER_RIGHT, EYE_OUTER_LEFT))
    errors, closed = [], []
    for side, numbers in enumerate((LID_PAIRS_RIGHT, LID_PAIRS_LEFT)):
        pairs = model.pair_rows(numbers)
        needed = np.concatenate([pairs.ravel(), eyes])
        usable = np.flatnonzero(seen_frames & (seen.weight[:, needed] > 0).all(1))
        if len(pairs) == 0 or len(usable) == 0:
            continue
        score = None if scores is None else scores[usable, side]
        target, _ = calibrate(lid_gap(seen.points[usable], pairs, eyes), score)
        gap = lid_gap(project(state.of(usable), basis)[1], pairs, eyes)
        errors.append(np.abs(gap - target))
        closed.append(gap[target < _CLOSED * np.percentile(target, 70)])
    figures = {}
    if errors:
        figures["lid_gap_error_px"] = float(np.concatenate(errors).mean() * eye_distance_px)
    if closed and len(np.concatenate(closed)):
        figures["lid_closed_gap_px"] = float(np.concatenate(closed).mean() * eye_distance_px)
    return figures
