"""Run the phases of a head fit: find the identity on some spread frames, then follow all frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from models.errors import UsageError
from models.heads.fit_params import FitParams, Phase
from models.heads.fit_state import Basis, Chain, Observations, Priors, State, project
from models.heads.flow import Flow
from models.heads.gauss_newton import POSE, GaussNewton
from models.heads.mediapipe_points import LID_PAIRS_LEFT, LID_PAIRS_RIGHT, LIP_PAIRS, RIGID_PATCH, RING_POINTS
from models.heads.model import HeadModel
from models.heads.pose import fill_gaps, weak_perspective
from models.heads.rigid_motion import Surface, rotation_accelerations

Array = np.ndarray
Progress = Callable[[float, str], None]

_WINDOW = 3000  # frames solved together: about half a gigabyte
_FEWEST_FRAMES = 8  # in which a landmark must be seen for its correction to be judged
_COASTING = 4.0  # frames for which a motion goes on into a gap
_LIVELY = 12.0  # frames, a standard deviation, over which it is judged how lively a head is
_OVERLAP = 50  # frames that a window looks at on either side of those it keeps


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


def spread_frames(seen: Array, count: int) -> Array:
    """Return at most `count` of the frames with a face, evenly spread over the clip, ascending."""
    usable = np.flatnonzero(seen)
    if len(usable) <= count:
        return usable
    return usable[np.linspace(0, len(usable) - 1, count).round().astype(int)]


def windows(frames: int) -> list[tuple[slice, slice]]:
    """Cut a long clip into overlapping windows, so that the memory of a fit does not grow with the clip.

    Ties reach over a few frames only; in the overlap each frame is taken from the window in which it lies deeper.

    Returns:
        The frames of each window, and which of them (counted within the window) are kept.
    """
    count = max(1, math.ceil(frames / _WINDOW))
    edges = np.linspace(0, frames, count + 1).round().astype(int)
    result = []
    for first, end in zip(edges[:-1], edges[1:], strict=True):
        low, high = max(0, first - _OVERLAP), min(frames, end + _OVERLAP)
        result.append((slice(low, high), slice(first - low, end - low)))
    return result


class ClipFitter:
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
        self.told = np.full((len(seen), 3), np.nan)  # accelerations of the rotation, as flow has them
        pairs = [model.pair_rows(pairs) for pairs in (LIP_PAIRS, LID_PAIRS_RIGHT, LID_PAIRS_LEFT)]
        self.basis = Basis.of(model, pivot, np.concatenate(pairs))
        self.model, self.pivot = model, pivot
        self.correctable = ~np.isin(model.landmark_index, RING_POINTS)
        self.steps_done = 0
        self.steps_total = sum(phase.steps for phase in params.identity_schedule)
        self.steps_total += sum(phase.steps for phase in params.clip_schedule) * len(windows(len(seen)))

    def basis_with(self, corrections: Array) -> Basis:
        """Return the basis whose resting landmarks have the fixed corrections."""
        return replace(self.basis, rest=self.basis.rest + corrections)

    def surface(self, corrections: Array) -> Surface:
        """Return what the flow's corners lie on."""
        return Surface.of(self.model, self.pivot, self.basis_with(corrections))

    def run(self, flow: Flow | None) -> tuple[State, Array]:
        """Return the state of all frames and the landmark corrections `[L, 3]`."""
        corrections = np.zeros_like(self.basis.rest)
        chosen = spread_frames(self.seen, self.params.identity_frames)
        some = self._initial(np.zeros(len(self.basis.identity)), corrections).of(chosen)
        seen = self.observations.of(chosen)
        for phase in self.params.identity_schedule:
            some, corrections = self._phase(phase, some, seen, corrections, None)

        state = self._initial(some.identity, corrections)
        for phase in self.params.clip_schedule:
            chain = self._chain(state, corrections, flow, phase)
            parts = []
            for window, core in windows(len(self.seen)):
                part, seen, ties = state.of(window), self.observations.of(window), chain.of(window)
                parts.append(self._phase(phase, part, seen, corrections, ties)[0].of(core))
            state = State.joined(parts)
        return self._without_faceless_shots(state), corrections

    def _without_faceless_shots(self, state: State) -> State:
        """Give a shot in which no face was seen the fitted state of the nearest face in time."""
        source = np.arange(len(self.seen))
        known = np.flatnonzero(self.seen)
        for first, end in self.shots:
            if not self.seen[first:end].any():
                source[first:end] = known[np.abs(known - (first + end) / 2).argmin()]
        return state.of(source)

    def _initial(self, identity: Array, corrections: Array) -> State:
        shape = self.basis.rest + corrections + np.tensordot(identity, self.basis.identity, 1)
        rotation, ray, log_depth = weak_perspective(shape, self.observations.points, self.observations.weight)
        rotation, ray, log_depth = fill_gaps(rotation, ray, log_depth, self.seen, self.shots)
        expression = np.zeros((len(ray), self.basis.coefficients))
        return State(rotation, ray, log_depth, expression, identity)

    def _phase(
        self, phase: Phase, state: State, seen: Observations, corrections: Array, chain: Chain | None
    ) -> tuple[State, Array]:
        params = self.params
        priors = Priors(phase.robust, params.gap, params.identity, params.expression, params.box)
        energies: list[float] = []
        solver = GaussNewton(self.basis_with(corrections), phase.expression, phase.identity)
        deviation = self._correction_sd(state, seen, corrections) if phase.corrections else math.inf
        damping, before = 1e-3, state
        for k in range(phase.steps):
            new, energy = solver.step(state, seen, priors, chain, damping)
            worse = len(energies) > 0 and energy > 1.01 * energies[-1] and not phase.corrections
            if worse:
                # Go back to where the last step started and take a shorter one.
                state, damping = before, damping * 30
                new, energy = solver.step(state, seen, priors, chain, damping)
            settled = len(energies) > 0 and not worse and abs(energies[-1] - energy) < 3e-4 * energy
            energies.append(energy)
            before, state = state, new
            self._report(phase, k + 1)
            if phase.corrections:
                corrections = self._corrections(state, seen, corrections, phase.robust, deviation)
                solver = GaussNewton(self.basis_with(corrections), phase.expression, phase.identity)
            elif settled:
                break
        self._report(phase, phase.steps)
        self.steps_done += phase.steps
        self.energies[phase.name] = self.energies.get(phase.name, []) + energies
        return state, corrections

    def _report(self, phase: Phase, steps: int) -> None:
        if self.progress is not None:
            self.progress((self.steps_done + steps) / self.steps_total, phase.name)

    def _chain(self, state: State, corrections: Array, flow: Flow | None, phase: Phase) -> Chain:
        """Turn the settings of smoothness and what flow tells into weights and targets; nothing crosses a cut."""
        frames, size = len(state.ray), POSE + state.expression.shape[1]
        depth = np.exp(np.median(state.log_depth[self.seen]))
        inside = np.zeros(frames)
        joined = np.zeros(frames)
        for first, end in self.shots:
            inside[first + 1 : end - 1] = 1.0
            joined[first : end - 1] = 1.0
        measured, target = np.zeros(frames, bool), np.zeros((frames, 5))
        if flow is not None:
            measured = np.isfinite(flow.nose).all(axis=1)
            target[measured, 3:] = flow.nose[measured]
        weight = np.empty((frames, size))
        for chosen, smooth in ((measured, self.params.with_flow), (~measured, self.params.without_flow)):
            weight[chosen, :3] = np.radians(smooth.rotation_deg) ** -2
            weight[chosen, 3:5] = (smooth.sideways_m / depth) ** -2
            weight[chosen, 5] = (smooth.depth_m / depth) ** -2
        if flow is not None and phase.turning:
            self.told, deviation = rotation_accelerations(state, self.surface(corrections), flow.corners)
            turn, certain, usual = self._turning(self.told, deviation)
            weight[:, :3] = np.minimum(weight[:, :3], usual**-2) + certain
            target[:, :3] = turn * certain / weight[:, :3]
        expression_sd = self.params.expression_sd * np.broadcast_to(self.basis.deviation, size - POSE)
        weight[:, POSE:] = expression_sd**-2
        # Second differences alone would let a long gap coast away at the speed with which it was entered.
        gap = np.zeros(frames)
        gap[:-1] = np.logical_not(self.seen[:-1] & self.seen[1:])
        plain = self.params.without_flow
        deviation = [np.radians(plain.rotation_deg)] * 3 + [plain.sideways_m / depth] * 2 + [plain.depth_m / depth]
        deviation += expression_sd.tolist()
        # Against accelerations of deviation s, velocities of deviation k s die down within k frames.
        hold = (_COASTING * np.array(deviation)) ** -2.0
        return Chain(weight * inside[:, None], target * inside[:, None], hold * (gap * joined)[:, None])

    def _turning(self, value: Array, deviation: Array) -> tuple[Array, Array, Array]:
        """Return accelerations of the rotation, their weights (0 where unknown) and what is usual, each `[T, 3]`.

        The same noise is much for a still head and little for a lively one. How lively this one is at a time, about
        each axis, is what the accelerations measured around it have beyond their noise.
        """
        known = np.isfinite(value).all(axis=1).astype(float)
        value, noise = np.nan_to_num(value), np.where(known[:, None] > 0, deviation, 0.0)
        beyond = gaussian_filter1d(value**2 - noise**2, _LIVELY, axis=0, mode="nearest")
        beyond /= np.maximum(gaussian_filter1d(known, _LIVELY, mode="nearest"), 1e-9)[:, None]
        least = np.radians(self.params.with_flow.rotation_deg) ** 2
        return value, deviation**-2, np.sqrt(np.maximum(beyond, least))

    def _correction_sd(self, state: State, seen: Observations, corrections: Array) -> float:
        """Return how large fixed corrections are, metres: what frames agree on beyond what noise leaves in a mean.

        Where landmarks lie on the mesh just where the model says, corrections would only take from the identity.
        """
        turned, image = project(state, self.basis_with(corrections))
        residual = image - seen.points
        seen.across(residual)
        residual *= (turned[..., 2] + np.exp(state.log_depth)[:, None])[..., None]
        usable = self.correctable & ((seen.weight > 0).sum(0) >= _FEWEST_FRAMES)
        usable[seen.sliding] = False
        if not usable.any():
            return self.params.correction_sd_m[1]
        present = np.where((seen.weight > 0)[:, usable, None], 1.0, np.nan)
        residual = residual[:, usable] * present
        count = np.nansum(present, axis=0)
        common = np.nanmean(residual, axis=0) ** 2 - np.nanvar(residual, axis=0) / (count - 1)
        estimate = math.sqrt(max(float(common.mean()), 0.0))
        smallest, largest = self.params.correction_sd_m
        return float(np.clip(estimate, max(smallest, 1e-6), largest))

    def _corrections(
        self, state: State, seen: Observations, corrections: Array, robust: float, deviation: float
    ) -> Array:
        """Update the fixed landmark corrections in closed form.

        Points on lids and lips move by themselves and get none. What a similarity of the whole face would do is
        taken out, because it belongs to the pose and the identity: left in, the head's size drifts. What slides for
        the fit is corrected all the same: the corrected landmarks shall lie where they are seen.
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
        prior = deviation**-2
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
