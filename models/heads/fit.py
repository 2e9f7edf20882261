"""Fit a head model to the landmarks of a whole clip: one identity, and a pose and an expression for every frame.

The energy is that of Gauss-Newton trackers such as Thies et al., "Face2Face", CVPR 2016, section 4, on landmarks
alone, with two changes that video needs:

* Smoothness says "the acceleration of the nose is the one optical flow measured", not "it is zero". A zero prior
  calms the numbers and drags the head off its true motion.
* Lids and lips are compared by their opening, under a wide robust scale: a closed lid looks like an outlier to a
  tight one.

The focal length cannot be seen in landmarks (it only trades with depth and face size) and is therefore fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from models.errors import InputError, UsageError
from models.heads.gauss_newton import POSE, Basis, Chain, GaussNewton, Observations, Priors, State, project
from models.heads.lids import blink_scores, snap_lids
from models.heads.mediapipe_points import (
    EYE_OUTER_LEFT,
    EYE_OUTER_RIGHT,
    LANDMARK_COUNT,
    LID_PAIRS_LEFT,
    LID_PAIRS_RIGHT,
    LIP_PAIRS,
    RIGID_PATCH,
    RING_POINTS,
)
from models.heads.model import HeadModel
from models.heads.pose import fill_gaps, weak_perspective

Array = np.ndarray
Progress = Callable[[float, str], None]

_FEWEST_LANDMARKS = 12  # a frame with fewer says too little about a pose and counts as missing


@dataclass(frozen=True)
class Phase:
    """Some Gauss-Newton steps with the same settings.

    Attributes:
        name: For progress and the energy curve.
        steps: At most this many; fewer when the energy has settled.
        all_frames: All frames of the clip with their temporal ties, or some spread ones without.
        expression: Whether expressions move.
        identity: Whether the shared identity moves.
        corrections: Whether fixed landmark corrections are updated after each step.
        robust: Scale of the robust loss in sigmas. The first steps need plain squares: while everything is far
            off, a robust loss would call every point an outlier.
    """

    name: str
    steps: int
    all_frames: bool
    expression: bool = True
    identity: bool = False
    corrections: bool = False
    robust: float = 10.0


SCHEDULE: tuple[Phase, ...] = (
    Phase("align the mean face", 3, all_frames=False, expression=False, robust=math.inf),
    Phase("find the identity", 4, all_frames=False, identity=True, robust=math.inf),
    Phase("refine the identity", 8, all_frames=False, identity=True, corrections=True),
    Phase("place every frame", 2, all_frames=True, expression=False, robust=math.inf),
    Phase("follow every frame", 8, all_frames=True),
)


@dataclass(frozen=True)
class Smoothness:
    """Standard deviations of second differences between frames."""

    rotation_deg: float
    sideways_m: float
    depth_m: float


@dataclass(frozen=True)
class FitParams:
    """Settings of the fit; the strengths are relative to one landmark at one standard deviation.

    Attributes:
        focal_factor: Focal length over the larger image side.
        landmark_sigma: Standard deviation of a landmark as a share of the distance of the outer eye corners.
        gap: Weight of a lid or lip opening.
        identity: Weight of squared identity coefficients.
        expression: Weight of squared expression coefficients.
        box: Weight of squared excess of expressions over 0..1.
        correction_sd_m: Standard deviation of the fixed landmark corrections.
        identity_frames: How many spread frames identity is found from.
        with_flow: Smoothness where optical flow says how the nose accelerates.
        without_flow: Smoothness where it does not.
        expression_sd: Standard deviation of an expression's second difference.
        snap_lids: Whether blinks are closed exactly at the end.
        schedule: The phases of the fit.
    """

    focal_factor: float = 2.3
    landmark_sigma: float = 0.012
    gap: float = 8.0
    identity: float = 1.0
    expression: float = 4.8
    box: float = 3000.0
    correction_sd_m: float = 0.001
    identity_frames: int = 32
    with_flow: Smoothness = Smoothness(rotation_deg=0.05, sideways_m=3e-5, depth_m=3e-4)
    without_flow: Smoothness = Smoothness(rotation_deg=0.15, sideways_m=3e-4, depth_m=1e-3)
    expression_sd: float = 0.15
    snap_lids: bool = True
    schedule: tuple[Phase, ...] = SCHEDULE


@dataclass(frozen=True)
class HeadFit:
    """The fitted head.

    Attributes:
        focal: Focal length in pixels; the principal point is the image centre.
        world_to_camera: `[T, 4, 4]`, also for frames without a face.
        identity: `[K]` in standard deviations.
        expression: `[T, E]`.
        landmark_offsets: `[L, 3]` metres, fixed corrections of the embedding in the head frame.
        residual_px: `[T]` mean distance of the landmarks; NaN for frames without a face.
        stats: Figures of quality (see `_statistics`).
        energies: Energy before each step, by phase name.
    """

    focal: float
    world_to_camera: Array
    identity: Array
    expression: Array
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
    flow: Array | None = None,
    blendshapes: Array | None = None,
    params: FitParams | None = None,
    progress: Progress | None = None,
) -> HeadFit:
    """Fit `model` to the landmarks of a clip.

    Args:
        model: Any head model.
        points: `[T, 478, 2]` landmarks in pixels; NaN where one is absent.
        valid: `[T]` whether the frame shows a face. Other frames get an interpolated pose and expression.
        width: Image width in pixels.
        height: Image height in pixels.
        cuts: First frames of new shots; no temporal term crosses them.
        flow: `[T, 2]` image acceleration of the rigid nose patch in pixels per frame squared, NaN where unknown
            (`models.heads.flow`), or None.
        blendshapes: `[T, 52]` scores of MediaPipe's landmarker, or None; only the blinks are used.
        params: Settings; the defaults suit video at 25 frames a second.
        progress: Called with the share done, 0..1, and the name of the phase.

    Returns:
        The fit, with rows for all `T` frames.

    Raises:
        UsageError: An array has the wrong shape, or the model lacks the eye corners.
        InputError: No frame shows enough landmarks.
    """
    params = params or FitParams()
    _check(points, valid, flow, blendshapes)
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
    observations = Observations(
        points=np.where(present[..., None], (pixels - [width / 2, height / 2]) / focal, 0.0),
        weight=present.astype(np.float64),
        sigma=params.landmark_sigma * eye_distance_px / focal,
    )
    pivot = pivot_of(model)
    fitter = _Fitter(model, pivot, observations, seen_frames, shots, params, progress)
    state, corrections = fitter.run(None if flow is None else flow / focal)
    basis = fitter.basis_with(corrections)

    scores = blink_scores(blendshapes, len(points))
    if params.snap_lids:
        state = snap_lids(model, basis, state, observations, seen_frames, scores)
    world_to_camera = np.tile(np.eye(4), (len(points), 1, 1))
    world_to_camera[:, :3, :3] = state.rotation
    world_to_camera[:, :3, 3] = state.translation() - state.rotation @ pivot

    error = np.linalg.norm(project(state, basis)[1] - observations.points, axis=-1) * focal
    error[~present] = np.nan
    residual = np.full(len(points), np.nan)
    residual[seen_frames] = np.nanmean(error[seen_frames], 1)
    return HeadFit(
        focal=focal,
        world_to_camera=world_to_camera,
        identity=state.identity,
        expression=state.expression,
        landmark_offsets=corrections,
        residual_px=residual,
        stats=_statistics(model, state, basis, observations, error, eye_distance_px, focal, shots, flow),
        energies=fitter.energies,
    )


def _check(points: Array, valid: Array, flow: Array | None, blendshapes: Array | None) -> None:
    frames = len(points)
    expected = {
        "points": (points, (frames, LANDMARK_COUNT, 2)),
        "valid": (valid, (frames,)),
        "flow": (flow, (frames, 2)),
        "blendshapes": (blendshapes, (frames, 52)),
    }
    for name, (value, shape) in expected.items():
        if value is not None and value.shape != shape:
            raise UsageError(f"fit_head: {name} has shape {value.shape}, expected {shape}")


def shot_ranges(frames: int, cuts: Array | tuple[int, ...]) -> list[tuple[int, int]]:
    """Return `(first, one past the last)` frame of each shot.

    Raises:
        UsageError: A cut lies outside the clip.
    """
    inner = sorted({int(cut) for cut in cuts})
    if inner and (inner[0] <= 0 or inner[-1] >= frames):
        raise UsageError(f"cuts {inner} must lie within 1..{frames - 1}")
    edges = [0, *inner, frames]
    return list(zip(edges[:-1], edges[1:], strict=True))


def pivot_of(model: HeadModel) -> Array:
    """Return the middle of the rigid nose patch of the mean head, `[3]` metres: where the flow is measured."""
    rows = model.rows_of(RIGID_PATCH)
    landmarks = model.landmarks()
    return landmarks[rows].mean(0) if len(rows) >= 3 else landmarks.mean(0)


def spread_frames(points: Array, seen: Array, count: int) -> Array:
    """Choose frames that differ as much as possible, since alike ones add nothing about the identity.

    Args:
        points: `[T, L, 2]` normalised landmarks, 0 where absent.
        seen: `[T]` usable frames.
        count: How many.

    Returns:
        Ascending frame numbers.
    """
    usable = np.flatnonzero(seen)
    if len(usable) <= count:
        return usable
    evenly = usable[np.unique(np.linspace(0, len(usable) - 1, count).round().astype(int))]
    return evenly


class _Fitter:
    """Runs the schedule; holds what stays the same during a fit."""

    def __init__(
        self,
        model: HeadModel,
        pivot: Array,
        observations: Observations,
        seen: Array,
        shots: list[tuple[int, int]],
        params: FitParams,
        progress: Progress | None,
    ) -> None:
        self.params, self.progress = params, progress
        self.observations, self.seen, self.shots = observations, seen, shots
        self.energies: dict[str, list[float]] = {}
        self.basis = Basis(
            rest=model.landmarks() - pivot,
            identity=model.at_landmarks(model.identity),
            expression=model.at_landmarks(model.expression),
            pairs=np.concatenate([model.pair_rows(p) for p in (LIP_PAIRS, LID_PAIRS_RIGHT, LID_PAIRS_LEFT)]),
        )
        self.correctable = ~np.isin(model.landmark_index, RING_POINTS)
        self.steps_done, self.steps_total = 0, sum(phase.steps for phase in params.schedule)

    def basis_with(self, corrections: Array) -> Basis:
        """Return the basis whose resting landmarks have the fixed corrections."""
        return replace(self.basis, rest=self.basis.rest + corrections)

    def run(self, flow: Array | None) -> tuple[State, Array]:
        """Return the state of all frames and the landmark corrections `[L, 3]`."""
        corrections = np.zeros_like(self.basis.rest)
        chosen = spread_frames(self.observations.points, self.seen, self.params.identity_frames)
        identity = np.zeros(len(self.basis.identity))
        some: State | None = None
        everything: State | None = None
        chain: Chain | None = None
        for phase in self.params.schedule:
            if phase.all_frames:
                if everything is None:
                    everything = self._initial(identity, corrections)
                    chain = self._chain(everything, flow)
                everything, corrections = self._phase(phase, everything, self.observations, corrections, chain)
                identity = everything.identity
            else:
                if some is None:
                    some = self._initial(identity, corrections).of(chosen)
                some, corrections = self._phase(phase, some, self.observations.of(chosen), corrections, None)
                identity = some.identity
        if everything is None:
            raise UsageError("the schedule of the fit has no phase for all frames")
        return everything, corrections

    def _initial(self, identity: Array, corrections: Array) -> State:
        shape = self.basis.rest + corrections + np.tensordot(identity, self.basis.identity, 1)
        rotation, ray, log_depth = weak_perspective(shape, self.observations.points, self.observations.weight)
        rotation, ray, log_depth = fill_gaps(rotation, ray, log_depth, self.seen, self.shots)
        expression = np.zeros((len(ray), len(self.basis.expression)))
        return State(rotation, ray, log_depth, expression, identity)

    def _phase(
        self, phase: Phase, state: State, seen: Observations, corrections: Array, chain: Chain | None
    ) -> tuple[State, Array]:
        params = self.params
        priors = Priors(phase.robust, params.gap, params.identity, params.expression, params.box)
        energies = self.energies.setdefault(phase.name, [])
        solver = GaussNewton(self.basis_with(corrections), phase.expression, phase.identity)
        damping, safe = 1e-3, state
        for _ in range(phase.steps):
            new, energy = solver.step(state, seen, priors, chain, damping)
            if energies and energy > 1.01 * energies[-1] and not phase.corrections:
                # The last step made it worse: go back and take a shorter one.
                state, damping = safe, damping * 30
                new, energy = solver.step(state, seen, priors, chain, damping)
            settled = len(energies) > 0 and abs(energies[-1] - energy) < 3e-4 * energy
            energies.append(energy)
            safe, state = state, new
            self.steps_done += 1
            if self.progress is not None:
                self.progress(self.steps_done / self.steps_total, phase.name)
            if phase.corrections:
                corrections = self._corrections(state, seen, corrections, phase.robust)
                solver = GaussNewton(self.basis_with(corrections), phase.expression, phase.identity)
            elif settled:
                break
        return state, corrections

    def _chain(self, state: State, flow: Array | None) -> Chain:
        """Turn the settings of smoothness into weights; nothing crosses a cut."""
        frames, size = len(state.ray), POSE + state.expression.shape[1]
        depth = np.exp(np.median(state.log_depth[self.seen]))
        inside = np.zeros(frames)
        joined = np.zeros(frames)
        for first, end in self.shots:
            inside[first + 1 : end - 1] = 1.0
            joined[first : end - 1] = 1.0
        measured = np.zeros(frames, bool) if flow is None else np.isfinite(flow).all(1)
        target = np.zeros((frames, 2)) if flow is None else np.where(measured[:, None], flow, 0.0)
        weight = np.empty((frames, size))
        for chosen, smooth in ((measured, self.params.with_flow), (~measured, self.params.without_flow)):
            weight[chosen, :3] = np.radians(smooth.rotation_deg) ** -2
            weight[chosen, 3:5] = (smooth.sideways_m / depth) ** -2
            weight[chosen, 5] = (smooth.depth_m / depth) ** -2
        weight[:, POSE:] = self.params.expression_sd**-2
        # Second differences alone would let a long gap coast away at the speed with which it was entered.
        gap = np.zeros(frames)
        gap[:-1] = ~(self.seen[:-1] & self.seen[1:])
        hold = np.concatenate([np.full(3, np.radians(2.0)), np.full(3, 0.01 / depth), np.full(size - POSE, 0.3)]) ** -2
        return Chain(weight * inside[:, None], target * inside[:, None], hold * (gap * joined)[:, None])

    def _corrections(self, state: State, seen: Observations, corrections: Array, robust: float) -> Array:
        """Update the fixed landmark corrections in closed form.

        Points on lids and lips move by themselves and get none. What a similarity of the whole face would do is
        taken out, because it belongs to the pose and the identity: left in, the head's size drifts.
        """
        basis = self.basis_with(corrections)
        turned, image = project(state, basis)
        residual = (image - seen.points) / seen.sigma
        depth = turned[..., 2] + np.exp(state.log_depth)[:, None]
        by_camera = np.zeros((*image.shape, 3))
        by_camera[..., 0, 0] = by_camera[..., 1, 1] = 1 / (seen.sigma * depth)
        by_camera[..., 2] = -image / (seen.sigma * depth)[..., None]
        by_head = by_camera @ state.rotation[:, None]
        weight = seen.weight / (1 + (residual**2).sum(-1) / robust**2) ** 2
        matrix = np.einsum("tlij,tlik,tl->ljk", by_head, by_head, weight)
        gradient = np.einsum("tlij,tli,tl->lj", by_head, residual, weight)
        prior = self.params.correction_sd_m**-2
        matrix += prior * np.eye(3)
        gradient += prior * corrections
        new = corrections - np.linalg.solve(matrix, gradient[..., None])[..., 0]
        new[~self.correctable] = 0.0
        return _without_similarity(new, self.basis.rest, self.correctable)


def _without_similarity(corrections: Array, rest: Array, chosen: Array) -> Array:
    """Take the least-squares shift, turn and scale of the chosen landmarks out of their corrections."""
    points = rest[chosen]
    x, y, z = points.T
    zero, one = np.zeros_like(x), np.ones_like(x)
    columns = [
        [one, zero, zero],
        [zero, one, zero],
        [zero, zero, one],
        [zero, -z, y],
        [z, zero, -x],
        [-y, x, zero],
        [x, y, z],
    ]
    design = np.array(columns).transpose(2, 1, 0).reshape(-1, 7)
    flat = corrections[chosen].ravel()
    result = corrections.copy()
    result[chosen] = (flat - design @ np.linalg.lstsq(design, flat, rcond=None)[0]).reshape(-1, 3)
    return result


def _statistics(
    model: HeadModel,
    state: State,
    basis: Basis,
    seen: Observations,
    error: Array,
    eye_distance_px: float,
    focal: float,
    shots: list[tuple[int, int]],
    flow: Array | None,
) -> dict[str, float]:
    return {"mean_px": float(np.nanmean(error))}
