"""Fit a head model to the landmarks of a whole clip: one identity, and a pose and an expression for every frame.

The energy is that of Gauss-Newton trackers such as Thies et al., "Face2Face", CVPR 2016, section 4, on landmarks
alone, with three changes that video needs:

* Smoothness says "nose and rotation accelerate as optical flow measured", not "they do not". A zero prior calms the
  numbers and drags the head off its true motion.
* Lids and lips are compared by their opening, under a wide robust scale: a closed lid looks like an outlier to a
  tight one.
* Points on the jaw line may slide along it: where it runs is seen, but nothing on it tells one place from the next.

The focal length cannot be seen in landmarks (it only trades with depth and face size) and is therefore fixed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.errors import InputError, UsageError
from models.heads.fit_params import FitParams
from models.heads.fit_phases import ClipFitter, Progress, pivot_of, shot_ranges
from models.heads.fit_quality import fit_quality
from models.heads.fit_state import Observations, project
from models.heads.flow import Flow
from models.heads.flow_quality import flow_figures
from models.heads.lids import blink_scores, snap_lids
from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, JAW, LANDMARK_COUNT
from models.heads.model import HeadModel

Array = np.ndarray

_FEWEST_LANDMARKS = 12  # a frame with fewer says too little about a pose and counts as missing


@dataclass(frozen=True)
class HeadFit:
    """The fitted head.

    Attributes:
        focal: Focal length in pixels; the principal point is the image centre.
        world_to_camera: `[T, 4, 4]`, also for frames without a face.
        identity: `[K]` in standard deviations.
        expression: `[T, E]`.
        turns: `[T, J, 3]` rotation vectors of the model's joints, all zero but the jaw's; J is 0 without joints.
        landmark_offsets: `[L, 3]` metres, fixed corrections of the embedding in the head frame.
        residual_px: `[T]` mean distance of the landmarks off the jaw line; NaN for frames without a face.
        stats: Figures of quality (see `models.heads.fit_quality`).
        energies: Energy before each step, by phase name.
    """

    focal: float
    world_to_camera: Array
    identity: Array
    expression: Array
    turns: Array
    landmark_offsets: Array
    residual_px: Array
    stats: dict[str, float]
    energies: dict[str, list[float]] = field(default_factory=dict)


def fit_head(
    model: HeadModel,
    points: Array,
    valid: Array,
    width: int,
    height: int,
    cuts: Array | tuple[int, ...] = (),
    flow: Flow | None = None,
    blendshapes: Array | None = None,
    params: FitParams | None = None,
    progress: Progress | None = None,
    judge: Flow | None = None,
) -> HeadFit:
    """Fit `model` to the landmarks of a clip.

    Args:
        model: Any head model.
        points: `[T, 478, 2]` landmarks in pixels; NaN where one is absent.
        valid: `[T]` whether the frame shows a face. Other frames get an interpolated pose and expression.
        width: Image width in pixels.
        height: Image height in pixels.
        cuts: First frames of new shots; no temporal term crosses them.
        flow: What optical flow says of the head's motion (`models.heads.flow`), or None.
        blendshapes: `[T, 52]` scores of MediaPipe's landmarker, or None; only the blinks are used.
        params: Settings; the defaults suit video at 25 frames a second.
        progress: Called with the share done, 0..1, and the name of the phase.
        judge: The same along other corners, which the fit does not use: its figures of quality then compare it to them.

    Returns:
        The fit, with rows for all `T` frames.

    Raises:
        UsageError: An array has the wrong shape, or the model lacks the eye corners.
        InputError: No frame shows enough landmarks.
    """
    params = params or FitParams()
    _check(points, valid, flow, judge, blendshapes)
    shots = shot_ranges(len(points), cuts)
    focal = params.focal_factor * max(width, height)
    rows = model.landmark_index
    eyes = model.rows_of((EYE_OUTER_RIGHT, EYE_OUTER_LEFT))
    if len(eyes) != 2:
        raise UsageError(f"head model {model.name} lacks the outer eye corners {EYE_OUTER_RIGHT}, {EYE_OUTER_LEFT}")
    pixels = points[:, rows].astype(np.float64)
    present = np.isfinite(pixels).all(-1) & valid[:, None]
    present &= (present.sum(1) >= _FEWEST_LANDMARKS)[:, None]
    seen_frames = present.any(1)
    if not seen_frames.any():
        raise InputError("no frame shows a face", f"none of {len(points)} frames has {_FEWEST_LANDMARKS} landmarks")
    eye_distance = np.linalg.norm(pixels[:, eyes[0]] - pixels[:, eyes[1]], axis=1)
    eye_distance_px = float(np.nanmedian(np.where(seen_frames, eye_distance, np.nan)))
    on_jaw, jaw_line = np.isin(rows, JAW), model.rows_of(JAW)
    observations = Observations(
        points=np.where(present[..., None], (pixels - [width / 2, height / 2]) / focal, 0.0),
        weight=np.where(on_jaw, params.jaw, 1.0) * present,
        sigma=params.landmark_sigma * eye_distance_px / focal,
        sliding=jaw_line,
        along=params.jaw_slides**0.5 * _tangents(pixels[:, jaw_line]),
    )
    pivot = pivot_of(model)
    fitter = ClipFitter(model, pivot, observations, seen_frames, shots, params, progress)
    seen_flow, judge = (None if each is None else each.normalised(focal, width, height) for each in (flow, judge))
    state, corrections = fitter.run(seen_flow)
    basis, surface = fitter.basis_with(corrections), fitter.surface(corrections)

    scores = blink_scores(blendshapes, len(points))
    if params.snap_lids:
        state = snap_lids(model, basis, state, observations, seen_frames, scores)
    world_to_camera = np.tile(np.eye(4), (len(points), 1, 1))
    world_to_camera[:, :3, :3] = state.rotation
    world_to_camera[:, :3, 3] = state.translation() - state.rotation @ pivot

    error = np.linalg.norm(project(state, basis)[1] - observations.points, axis=-1) * focal
    error[~present | on_jaw] = np.nan
    residual = np.full(len(points), np.nan)
    residual[seen_frames] = np.nanmean(error[seen_frames], 1)
    expression, angles = basis.split(state.expression)
    turns = np.zeros((len(points), 0, 3)) if model.skeleton is None else model.skeleton.turns(angles)
    return HeadFit(
        focal=focal,
        world_to_camera=world_to_camera,
        identity=state.identity,
        expression=expression,
        turns=turns,
        landmark_offsets=corrections,
        residual_px=residual,
        stats=fit_quality(model, basis, state, observations, seen_frames, scores, error, eye_distance_px, focal, shots)
        | flow_figures(state, surface, seen_flow, fitter.told, judge, focal),
        energies=fitter.energies,
    )


def _tangents(line: Array) -> Array:
    """Return unit directions `[T, J, 2]` of a line of points at each of them, 0 where a neighbour is missing."""
    if line.shape[1] < 2:
        return np.zeros_like(line)
    along = np.gradient(line, axis=1)
    length = np.linalg.norm(along, axis=2, keepdims=True)
    return np.nan_to_num(along / np.where(length > 0, length, np.nan))


def _check(points: Array, valid: Array, flow: Flow | None, judge: Flow | None, blendshapes: Array | None) -> None:
    frames = len(points)
    expected = {
        "points": (points, (frames, LANDMARK_COUNT, 2)),
        "valid": (valid, (frames,)),
        "blendshapes": (blendshapes, (frames, 52)),
    }
    for name, each in (("flow", flow), ("judge", judge)):
        if each is not None:
            expected[f"{name}.nose"] = (each.nose, (frames, 2))
            expected[f"{name}.corners"] = (each.corners, (frames, *each.corners.shape[1:-2], 3, 2))
    for name, (value, shape) in expected.items():
        if value is not None and value.shape != shape:
            raise UsageError(f"fit_head: {name} has shape {value.shape}, expected {shape}")
