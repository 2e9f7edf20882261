"""Joints of a head model: linear blend skinning, and what one joint does to the landmarks.

    posed = sum over joints j of  weight_j (R_j (v - joint_j) + moved_joint_j)
    v     = shaped vertices + correctives @ (entries of R_j - 1 of all joints but the root)

as in Loper et al., "SMPL", SIGGRAPH Asia 2015, equations 2 to 9, which FLAME (Li et al., "Learning a model of facial
shape and expression from 4D scans", SIGGRAPH Asia 2017, section 3) takes over. Joints sit where a linear regressor
of the shaped vertices puts them. Rotations are rotation vectors in radians about the axes of the head frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from models.errors import UsageError

Array = np.ndarray


@dataclass(frozen=True)
class Range:
    """What a coefficient usually is: within `low..high`, with a standard `deviation`."""

    low: float
    high: float
    deviation: float


@dataclass(frozen=True)
class Skeleton:
    """The joints of a head model.

    Attributes:
        names: `J` names; the first joint is the root.
        parents: `[J]` of each joint, always an earlier one; -1 for the root.
        joints: `[J, 3]` places in the neutral mean head, metres.
        regressor: `[J, V]` takes offsets of the vertices from the neutral mean head to offsets of the joints.
        weights: `[V, J]` how much each joint carries a vertex; rows add up to 1.
        correctives: `[9 (J - 1), V, 3]` metres for each entry (row by row) of R - 1 of the joints after the root.
        jaw: The joint that a fit turns; the others stay at rest, because the head's pose says what they would.
        jaw_range: What its three angles usually are, radians.
    """

    names: tuple[str, ...]
    parents: Array
    joints: Array
    regressor: Array
    weights: Array
    correctives: Array
    jaw: int
    jaw_range: tuple[Range, Range, Range]

    def __post_init__(self) -> None:
        """Check shapes, the order of the joints and the weights.

        Raises:
            UsageError: naming what does not fit.
        """
        count, vertices = len(self.names), len(self.weights)
        expected = {
            "parents": (count,),
            "joints": (count, 3),
            "regressor": (count, vertices),
            "weights": (vertices, count),
            "correctives": (9 * (count - 1), vertices, 3),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise UsageError(f"Skeleton.{name} has shape {getattr(self, name).shape}, expected {shape}")
        if self.parents[0] != -1 or any(not 0 <= parent < j for j, parent in enumerate(self.parents) if j):
            raise UsageError(f"Skeleton.parents {self.parents.tolist()}: each joint must come after its parent")
        if not np.allclose(self.weights.sum(1), 1.0, atol=1e-3):
            raise UsageError("Skeleton.weights has rows that do not add up to 1")

    def pose(self, shaped: Array, offsets: Array, turns: Array) -> Array:
        """Move shaped vertices with the joints.

        Args:
            shaped: `[..., V, 3]` vertices at rest, metres.
            offsets: `[..., V, 3]` how far they are from the neutral mean head.
            turns: `[..., J, 3]` rotation vectors.

        Returns:
            `[..., V, 3]`.
        """
        rotation = Rotation.from_rotvec(turns.reshape(-1, 3)).as_matrix().reshape(*turns.shape, 3)
        features = (rotation[..., 1:, :, :] - np.eye(3)).reshape(*turns.shape[:-2], -1)
        vertices = shaped + np.tensordot(features, self.correctives, 1)
        joints = self.joints + self.regressor @ offsets
        turned, place = [rotation[..., 0, :, :]], [joints[..., 0, :]]
        for j in range(1, len(self.names)):
            parent = int(self.parents[j])
            bone = joints[..., j, :] - joints[..., parent, :]
            place.append(place[parent] + (turned[parent] @ bone[..., None])[..., 0])
            turned.append(turned[parent] @ rotation[..., j, :, :])
        result = np.zeros(np.broadcast_shapes(vertices.shape, (*turns.shape[:-2], 1, 1)))
        for j in range(len(self.names)):
            moved = (vertices - joints[..., None, j, :]) @ np.swapaxes(turned[j], -1, -2) + place[j][..., None, :]
            result += self.weights[:, j, None] * moved
        return result

    def turns(self, angles: Array) -> Array:
        """Return the rotation vectors `[..., J, 3]` in which only the jaw is turned, by `angles [..., 3]`."""
        result = np.zeros((*angles.shape[:-1], len(self.names), 3), angles.dtype)
        result[..., self.jaw, :] = angles
        return result


@dataclass(frozen=True)
class Hinge:
    """What the jaw alone does to the landmarks, all other joints being at rest.

    A landmark at x goes to x + c + (R - 1) (y + k), with f the nine entries of R - 1 and

        c = f @ correctives,  y = carried + identity, expression offsets,  k = f @ carried_correctives

    where `carried` things are weighted by how much the jaw carries the landmark.

    Attributes:
        carried: `[L, 3]` resting landmarks from the joint, metres.
        identity: `[K, L, 3]`.
        expression: `[E, L, 3]`.
        correctives: `[9, L, 3]`.
        carried_correctives: `[9, L, 3]`.
    """

    carried: Array
    identity: Array
    expression: Array
    correctives: Array
    carried_correctives: Array

    def offsets(self, identity: Array, expression: Array, angles: Array) -> Array:
        """Return what the jaw adds to the landmarks `[T, L, 3]`, from `[K]`, `[T, E]` and `[T, 3]` coefficients."""
        change = Rotation.from_rotvec(angles).as_matrix() - np.eye(3)
        features = change.reshape(-1, 9)
        at_rest = self._carried(identity, expression, features)
        return np.tensordot(features, self.correctives, 1) + at_rest @ change.transpose(0, 2, 1)

    def _carried(self, identity: Array, expression: Array, features: Array) -> Array:
        shape = self.carried + np.tensordot(identity, self.identity, 1)
        return (
            shape + np.tensordot(expression, self.expression, 1) + np.tensordot(features, self.carried_correctives, 1)
        )

    def derivatives(self, identity: Array, expression: Array, angles: Array) -> tuple[Array, Array]:
        """Return the derivatives of `offsets`, float32.

        Returns:
            By the expression and then the angles `[T, L, 3, E + 3]`; and the change R - 1 `[T, 3, 3]`, which
            `by_identity` wants.
        """
        change = Rotation.from_rotvec(angles).as_matrix() - np.eye(3)
        features = change.reshape(-1, 9)
        by_angle = rotation_derivatives(angles)  # [T, 3, 3, 3]: angle, row, column
        by_features = by_angle.reshape(len(angles), 3, 9)
        turned = np.einsum("taij,tlj->tlia", by_angle, self._carried(identity, expression, features), optimize=True)
        corrected = np.einsum("taf,flj->tlja", by_features, self.correctives, optimize=True)
        carried = np.einsum("taf,flj->tlja", by_features, self.carried_correctives, optimize=True)
        angular = turned + corrected + change[:, None] @ carried
        return np.concatenate([_turned(change, self.expression), angular.astype(np.float32)], -1), change

    def by_identity(self, change: Array) -> Array:
        """Return the derivative of `offsets` by the identity `[T, L, 3, K]`, float32; `change` is as above."""
        return _turned(change, self.identity)


def _turned(change: Array, basis: Array) -> Array:
    """Return `change [T, 3, 3]` applied to each offset of a basis `[K, L, 3]`, as `[T, L, 3, K]`."""
    columns = basis.transpose(1, 2, 0).astype(np.float32)  # [L, 3, K]
    factor = change.astype(np.float32)[:, None, :, :, None]  # [T, 1, 3, 3, 1]
    x, y, z = (factor[..., j, :] * columns[:, j, None] for j in range(3))
    return x + y + z


def rotation_derivatives(vectors: Array) -> Array:
    """Return the derivatives of rotation matrices by their rotation vectors.

    With the left Jacobian of SO(3); see Sola et al., "A micro Lie theory for state estimation in robotics", 2018,
    equation 145.

    Args:
        vectors: `[N, 3]` radians.

    Returns:
        `[N, 3, 3, 3]`: for each of the three components, the derivative of the matrix.
    """
    square = (vectors**2).sum(1)[:, None, None]
    angle = np.sqrt(square)
    small = angle < 1e-4
    safe = np.where(small, 1.0, angle)
    first = np.where(small, 0.5 - square / 24, (1 - np.cos(safe)) / safe**2)
    second = np.where(small, 1 / 6 - square / 120, (safe - np.sin(safe)) / safe**3)
    cross = skew(vectors)
    jacobian = np.eye(3) + first * cross + second * (cross @ cross)
    return skew(jacobian.transpose(0, 2, 1)) @ Rotation.from_rotvec(vectors).as_matrix()[:, None]


def skew(vectors: Array) -> Array:
    """Return the matrices `[..., 3, 3]` with `skew(a) @ b = a x b`."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    zero = np.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return np.stack(rows, -1).reshape(*vectors.shape[:-1], 3, 3)
