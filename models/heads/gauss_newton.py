"""One Gauss-Newton step on all frames of a clip at once.

Unknowns of a frame, in this order (P = 6 + E):

    rotation   3   left-multiplied rotation vector about the pivot, radians
    ray        2   x/z and y/z of the pivot in the camera
    log depth  1   ln z of the pivot
    expression E   coefficients, the last three of them angles of the jaw where the model has that joint

and K identity coefficients shared by all frames. With the pivot on the bridge of the nose the ray is what optical
flow measures there, so a measured acceleration becomes a linear target. Image coordinates are normalised (pixels
from the principal point, divided by the focal length), which takes the focal length out of every formula.

The normal matrix of the expressions is linear in the 3x3 information matrices M of the landmarks,
sum_l B_l^T M_l B_l, so for all frames it is one matrix product with a table made once (`_ExpressionTable`); no
Jacobian of the size landmarks x expressions is ever stored. With a jaw joint the offsets B_l themselves depend on the
frame; then that Jacobian is made anew for some frames at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded
from scipy.spatial.transform import Rotation

from models.heads.fit_state import Basis, Chain, Observations, Priors, State, project
from models.heads.skinning import skew

Array = np.ndarray

POSE = 6
_CHUNK = 256  # frames linearised together; bounds the memory of long clips
_SYMMETRIC = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


def _robust(squared: Array, scale: float) -> tuple[Array, Array]:
    """Return the Geman-McClure energy and the weight of its Gauss-Newton approximation."""
    if np.isinf(scale):
        return squared, np.ones_like(squared)
    damped = 1 / (1 + squared / scale**2)
    return squared * damped, damped**2


def _through(by_head: Array, columns: Array) -> Array:
    """Return `by_head [t, L, 2, 3] @ columns [t, L, 3, C]`, faster than as that many small products."""
    left, right = by_head[..., None], columns[..., None, :, :]
    return left[..., 0, :] * right[..., 0, :] + left[..., 1, :] * right[..., 1, :] + left[..., 2, :] * right[..., 2, :]


class _ExpressionTable:
    """Products of expression offsets for the normal matrix: `[6 L, E (E + 1) / 2]`."""

    def __init__(self, expression: Array) -> None:
        count = len(expression)
        self.row, self.column = np.tril_indices(count)
        left, right = expression[self.row], expression[self.column]  # [pairs, L, 3]
        products = []
        for a, b in _SYMMETRIC:
            product = left[..., a] * right[..., b]
            products.append((product if a == b else product + left[..., b] * right[..., a]).T)
        self.table = np.ascontiguousarray(np.stack(products).reshape(-1, len(self.row)).astype(np.float32))
        self.count = count

    def normal_matrix(self, information: Array) -> Array:
        """Return `[T, E, E]` from the information matrices `[T, L, 3, 3]`."""
        entries = np.stack([information[..., a, b] for a, b in _SYMMETRIC], 1).reshape(len(information), -1)
        packed = entries @ self.table
        matrix = np.empty((len(information), self.count, self.count), np.float32)
        matrix[:, self.row, self.column] = packed
        matrix[:, self.column, self.row] = packed
        return matrix


@dataclass
class _Normal:
    """The normal equations: `matrix [T, P, P]`, `gradient [T, P]`, and those of the shared identity."""

    matrix: Array
    gradient: Array
    coupling: Array | None
    shared_matrix: Array
    shared_gradient: Array
    energy: float


class GaussNewton:
    """Builds and solves the normal equations for one head model.

    Args:
        basis: The model at its landmarks.
        with_identity: Whether identity coefficients are unknown.
        with_expression: Whether expression coefficients are unknown.
    """

    def __init__(self, basis: Basis, with_expression: bool = True, with_identity: bool = False) -> None:
        self.basis = basis
        self.with_expression, self.with_identity = with_expression, with_identity
        self.expression_count = basis.coefficients if with_expression else 0
        self.size = POSE + self.expression_count
        self.table = _ExpressionTable(basis.expression) if with_expression and basis.hinge is None else None
        flat = basis.expression.reshape(len(basis.expression), -1)
        self.expression_flat = np.ascontiguousarray(flat.T.astype(np.float32))  # [3 L, E]
        self.expression_at = np.ascontiguousarray(basis.expression.transpose(1, 2, 0).astype(np.float32))  # [L, 3, E]
        self.identity_at = np.ascontiguousarray(basis.identity.transpose(1, 2, 0).astype(np.float32))  # [L, 3, K]

    def step(
        self, state: State, seen: Observations, priors: Priors, chain: Chain | None, damping: float
    ) -> tuple[State, float]:
        """Take one step.

        Args:
            state: Where to linearise.
            seen: The measured landmarks.
            priors: Strengths of the energy's terms.
            chain: Temporal ties; None treats the frames as independent.
            damping: Levenberg-Marquardt factor on the diagonal.

        Returns:
            The new state, and the energy of the old one.
        """
        normal = self._linearise(state, seen, priors)
        # Damped before the ties are added: damping these would slow the slow motions that only they determine.
        diagonal = np.arange(self.size)
        normal.matrix[:, diagonal, diagonal] *= 1 + damping
        normal.matrix[:, diagonal, diagonal] += 1e-6
        acceleration = hold = None
        if chain is not None:
            acceleration, hold = self._add_chain(normal, state, chain)
        right = normal.gradient[..., None]
        if normal.coupling is not None:
            right = np.concatenate([right, normal.coupling], 2)
        solved = _solve(normal.matrix, right, acceleration, hold)
        update = -solved[..., 0]
        identity = state.identity
        if normal.coupling is not None:
            # Schur complement: the identity sees what the frames cannot explain on their own.
            schur = normal.shared_matrix - np.einsum("tpk,tpj->kj", normal.coupling, solved[..., 1:])
            rest = normal.shared_gradient - np.einsum("tpk,tp->k", normal.coupling, solved[..., 0])
            change = -np.linalg.solve(schur + np.eye(len(schur)) * 1e-9, rest)
            identity = identity + change
            update -= solved[..., 1:] @ change
        return self._apply(state, update, identity), normal.energy

    def _apply(self, state: State, update: Array, identity: Array) -> State:
        turn = Rotation.from_rotvec(np.clip(update[:, :3], -0.5, 0.5)).as_matrix()
        left, _, right = np.linalg.svd(turn @ state.rotation)  # back onto the rotations
        expression = state.expression
        if self.with_expression:
            # A little beyond the box, so that its edge is reached from both sides.
            low, high = self.basis.low, self.basis.high
            span = high - low
            expression = np.clip(expression + update[:, POSE:], low - 0.1 * span, high + 0.2 * span)
        return State(
            rotation=left @ right,
            ray=state.ray + update[:, 3:5],
            log_depth=state.log_depth + np.clip(update[:, 5], -0.3, 0.3),
            expression=expression,
            identity=identity,
        )

    def _linearise(self, state: State, seen: Observations, priors: Priors) -> _Normal:
        frames, size = len(state.ray), self.size
        shared = len(self.basis.identity) if self.with_identity else 0
        normal = _Normal(
            matrix=np.zeros((frames, size, size)),
            gradient=np.zeros((frames, size)),
            coupling=np.zeros((frames, size, shared)) if shared else None,
            shared_matrix=np.zeros((shared, shared)),
            shared_gradient=np.zeros(shared),
            energy=0.0,
        )
        for start in range(0, frames, _CHUNK):
            self._add_landmarks(normal, state, seen, priors, slice(start, min(start + _CHUNK, frames)))
        self._add_priors(normal, state, priors)
        return normal

    def _add_landmarks(self, normal: _Normal, state: State, seen: Observations, priors: Priors, part: slice) -> None:
        local, target = state.of(part), seen.of(part)
        turned, image = project(local, self.basis)
        depth = np.exp(local.log_depth).astype(np.float32)
        translation = local.translation().astype(np.float32)
        residual = ((image - target.points) / seen.sigma).astype(np.float32)  # [t, L, 2]
        inverse_depth = 1 / (seen.sigma * (turned[..., 2] + translation[:, None, 2]))
        # Derivative of the image point by the camera point, in sigmas: (1, 0, -u; 0, 1, -v) / z.
        by_camera = np.zeros((*image.shape, 3), np.float32)
        by_camera[..., 0, 0] = by_camera[..., 1, 1] = inverse_depth
        by_camera[..., 2] = -image * inverse_depth[..., None]
        target.across(residual)
        target.across(by_camera)
        by_head = by_camera @ local.rotation[:, None].astype(np.float32)  # [t, L, 2, 3]
        by_pose = np.empty((*image.shape, POSE), np.float32)
        by_pose[..., :3] = by_camera @ skew(-turned.astype(np.float32))
        by_pose[..., 3:5] = by_camera[..., :2] * depth[:, None, None, None]
        by_pose[..., 5] = (by_camera @ translation[:, None, :, None])[..., 0]

        energy, weight = _robust((residual**2).sum(-1), priors.robust)
        weight = weight * target.weight
        normal.energy += float((energy * target.weight).sum())
        columns = self._columns_of(local)
        if self.basis.hinge is None:
            self._accumulate(normal, part, residual, by_pose, by_head, weight.astype(np.float32))
        else:
            jacobian = np.concatenate([by_pose, *(_through(by_head, at) for at in columns)], -1)
            self._add_rows(normal, part, jacobian, residual, weight.astype(np.float32))
        if priors.gap > 0 and len(self.basis.pairs):
            self._add_gaps(normal, part, residual, by_pose, by_head, columns, target.weight, priors)

    def _columns_of(self, state: State) -> list[Array]:
        """Return the derivatives of the landmarks in the head frame by expression and identity, as far as unknown.

        Each is `[L, 3, columns]`, or `[t, L, 3, columns]` where a turned jaw makes it differ between frames.
        """
        hinge, columns = self.basis.hinge, [self.expression_at] * self.with_expression
        if hinge is None:
            return columns + [self.identity_at] * self.with_identity
        by_coefficient, change = hinge.derivatives(state.identity, *self.basis.split(state.expression))
        by_coefficient[..., : len(self.basis.expression)] += self.expression_at
        columns = [by_coefficient] * self.with_expression
        return columns + ([self.identity_at + hinge.by_identity(change)] if self.with_identity else [])

    def _accumulate(
        self, normal: _Normal, part: slice, residual: Array, by_pose: Array, by_head: Array, weight: Array
    ) -> None:
        frames = len(residual)
        root = np.sqrt(weight)[..., None]
        residual, by_pose, by_head = residual * root, by_pose * root[..., None], by_head * root[..., None]
        flat_pose = by_pose.reshape(frames, -1, POSE)
        transposed = flat_pose.transpose(0, 2, 1)
        normal.matrix[part, :POSE, :POSE] += transposed @ flat_pose
        normal.gradient[part, :POSE] += (transposed @ residual.reshape(frames, -1, 1))[..., 0]
        if not (self.with_expression or self.with_identity):
            return
        information = by_head.swapaxes(-1, -2) @ by_head  # [t, L, 3, 3]
        pull = (by_head * residual[..., None]).sum(2)  # [t, L, 3]
        pose_to_head = (by_pose.swapaxes(-1, -2) @ by_head).transpose(0, 2, 1, 3)  # [t, 6, L, 3]
        if self.table is not None:
            cross = pose_to_head.reshape(frames * POSE, -1) @ self.expression_flat
            cross = cross.reshape(frames, POSE, -1)
            normal.matrix[part, :POSE, POSE:] += cross
            normal.matrix[part, POSE:, :POSE] += cross.transpose(0, 2, 1)
            normal.matrix[part, POSE:, POSE:] += self.table.normal_matrix(information)
            normal.gradient[part, POSE:] += pull.reshape(frames, -1) @ self.expression_flat
        if normal.coupling is not None:
            shared = self.identity_at.reshape(-1, self.identity_at.shape[-1])  # [3 L, K]
            pushed = (information @ self.identity_at).reshape(frames, len(shared), -1)  # [t, 3 L, K]
            normal.coupling[part, :POSE] += pose_to_head.reshape(frames, POSE, -1) @ shared
            normal.coupling[part, POSE:] += self.expression_flat.T[: self.expression_count] @ pushed
            normal.shared_matrix += shared.T @ pushed.sum(0)
            normal.shared_gradient += shared.T @ pull.sum(0).ravel()

    def _add_gaps(
        self,
        normal: _Normal,
        part: slice,
        residual: Array,
        by_pose: Array,
        by_head: Array,
        columns: list[Array],
        seen: Array,
        priors: Priors,
    ) -> None:
        """Compare the differences of lid and lip pairs: an opening matters more than where it is."""
        first, second = self.basis.pairs.T
        difference = residual[:, first] - residual[:, second]
        energy, weight = _robust((difference**2).sum(-1), priors.robust)
        both = priors.gap * seen[:, first] * seen[:, second]
        normal.energy += float((energy * both).sum())
        blocks = [by_pose[:, first] - by_pose[:, second]]
        for at in columns:
            blocks.append(by_head[:, first] @ at[..., first, :, :] - by_head[:, second] @ at[..., second, :, :])
        self._add_rows(normal, part, np.concatenate(blocks, -1), difference, (weight * both).astype(np.float32))

    def _add_rows(self, normal: _Normal, part: slice, jacobian: Array, residual: Array, weight: Array) -> None:
        """Add residuals `[t, N, 2]` with their derivatives `[t, N, 2, P + K]` and weights `[t, N]`."""
        root = np.sqrt(weight)[..., None]
        jacobian = (jacobian * root[..., None]).reshape(len(residual), -1, jacobian.shape[-1])
        transposed = jacobian.transpose(0, 2, 1)
        matrix = transposed @ jacobian
        gradient = (transposed @ (residual * root).reshape(len(residual), -1, 1))[..., 0]
        normal.matrix[part] += matrix[:, : self.size, : self.size]
        normal.gradient[part] += gradient[:, : self.size]
        if normal.coupling is not None:
            normal.coupling[part] += matrix[:, : self.size, self.size :]
            normal.shared_matrix += matrix[:, self.size :, self.size :].sum(0)
            normal.shared_gradient += gradient[:, self.size :].sum(0)

    def _add_priors(self, normal: _Normal, state: State, priors: Priors) -> None:
        expression, identity = state.expression, state.identity
        low, high = self.basis.low, self.basis.high
        excess = np.minimum(expression - low, 0) + np.maximum(expression - high, 0)
        strength, box = priors.expression / self.basis.deviation**2, priors.box / (high - low) ** 2
        normal.energy += float((strength * expression**2).sum() + (box * excess**2).sum())
        normal.energy += float(priors.identity * (identity**2).sum())
        if self.with_expression:
            diagonal = np.arange(POSE, self.size)
            normal.matrix[:, diagonal, diagonal] += strength + box * (excess != 0)
            normal.gradient[:, POSE:] += strength * expression + box * excess
        if self.with_identity:
            normal.shared_matrix += priors.identity * np.eye(len(identity))
            normal.shared_gradient += priors.identity * identity

    def _add_chain(self, normal: _Normal, state: State, chain: Chain) -> tuple[Array, Array]:
        """Add the temporal terms; return the weights `[T, P]` that the solver needs for the off-diagonal blocks."""
        acceleration, hold = chain.acceleration[:, : self.size].copy(), chain.hold[:, : self.size].copy()
        turn = np.zeros((len(state.ray), 3))
        turn[:-1] = state.turning()
        rest = np.concatenate([state.ray, state.log_depth[:, None], state.expression], 1)[:, : self.size - 3]
        first = np.zeros((len(rest), self.size))
        first[:-1] = np.concatenate([turn[:-1], np.diff(rest, axis=0)], 1)
        second = np.zeros_like(first)
        second[1:-1] = first[1:-1] - first[:-2]
        second[:, :5] -= chain.target
        pull, hold_pull = acceleration * second, hold * first
        normal.energy += float((pull * second).sum() + (hold_pull * first).sum())

        gradient, diagonal = normal.gradient, np.zeros_like(first)
        gradient[2:] += pull[1:-1]
        gradient[1:-1] -= 2 * pull[1:-1]
        gradient[:-2] += pull[1:-1]
        gradient[1:] += hold_pull[:-1]
        gradient[:-1] -= hold_pull[:-1]
        diagonal[2:] += acceleration[1:-1]
        diagonal[1:-1] += 4 * acceleration[1:-1]
        diagonal[:-2] += acceleration[1:-1]
        diagonal[1:] += hold[:-1]
        diagonal[:-1] += hold[:-1]
        index = np.arange(self.size)
        normal.matrix[:, index, index] += diagonal
        return acceleration, hold


def _solve(matrix: Array, right: Array, acceleration: Array | None, hold: Array | None) -> Array:
    """Solve the block system for `right [T, P, R]`; second differences make it banded with half-width 2 P."""
    if acceleration is None or hold is None:
        return np.linalg.solve(matrix, right)
    frames, size = matrix.shape[:2]
    band = np.zeros((2 * size + 1, frames, size))
    for offset in range(size):
        band[offset, :, : size - offset] = np.diagonal(matrix, -offset, 1, 2)
    band[size, :-1] = -hold[:-1]
    band[size, 1:-1] -= 2 * acceleration[1:-1]  # between t and t + 1, from the difference centred on t
    band[size, :-2] -= 2 * acceleration[1:-1]  # and from the one centred on t + 1
    band[2 * size, :-2] = acceleration[1:-1]
    solved = solveh_banded(
        band.reshape(2 * size + 1, -1),
        right.reshape(frames * size, -1),
        overwrite_ab=True,
        lower=True,
        check_finite=False,
    )
    return solved.reshape(frames, size, -1)
