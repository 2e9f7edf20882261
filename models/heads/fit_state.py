"""What a head fit works on: the model at its landmarks, the measurements, the unknowns and the terms between them.

Image coordinates are normalised: pixels from the principal point, divided by the focal length. Poses turn about a
pivot on the bridge of the nose.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.spatial.transform import Rotation

from models.heads.model import NAMED_SHAPES, HeadModel
from models.heads.skinning import Hinge, Range

Array = np.ndarray


@dataclass(frozen=True)
class Basis:
    """A head model at its landmarks, relative to the pivot, metres.

    Attributes:
        rest: `[L, 3]` neutral landmarks with their corrections.
        identity: `[K, L, 3]`.
        expression: `[E, L, 3]`.
        pairs: `[G, 2]` landmark rows whose distance matters (lids, lips).
        hinge: What the jaw joint does to the landmarks; its angles then follow the expression coefficients.
        ranges: What those coefficients usually are, one for all or one for each.
    """

    rest: Array
    identity: Array
    expression: Array
    pairs: Array
    hinge: Hinge | None = None
    ranges: tuple[Range, ...] = (NAMED_SHAPES,)

    @classmethod
    def of(cls, model: HeadModel, pivot: Array, pairs: Array) -> Basis:
        """Return a head model at its landmarks."""
        ranges = (model.expression_range,) * len(model.expression)
        return cls(
            rest=model.landmarks() - pivot,
            identity=model.at_landmarks(model.identity),
            expression=model.at_landmarks(model.expression),
            pairs=pairs,
            hinge=model.hinge(),
            ranges=ranges if model.skeleton is None else ranges + model.skeleton.jaw_range,
        )

    @property
    def coefficients(self) -> int:
        """How many numbers say what the face does in a frame: expressions, and angles of the jaw."""
        return len(self.expression) + (0 if self.hinge is None else 3)

    @property
    def low(self) -> Array:
        """The lower end of each coefficient's range."""
        return np.array([each.low for each in self.ranges])

    @property
    def high(self) -> Array:
        """The upper end of each coefficient's range."""
        return np.array([each.high for each in self.ranges])

    @property
    def deviation(self) -> Array:
        """The standard deviation of each coefficient."""
        return np.array([each.deviation for each in self.ranges])

    def split(self, coefficients: Array) -> tuple[Array, Array]:
        """Return expressions `[..., E]` and angles of the jaw `[..., 3]`, or `[..., 0]` without a joint."""
        count = len(self.expression)
        return coefficients[..., :count], coefficients[..., count:]


@dataclass(frozen=True)
class Observations:
    """Measured landmarks.

    Attributes:
        points: `[T, L, 2]` in normalised coordinates, 0 where absent.
        weight: `[T, L]`.
        sigma: Standard deviation of a landmark, normalised coordinates.
        sliding: `[J]` rows of landmarks of which only the distance across a contour counts.
        along: `[T, J, 2]` direction of the contour there; its length, 0 to 1, is the share that is disregarded.
    """

    points: Array
    weight: Array
    sigma: float
    sliding: Array = field(default_factory=lambda: np.empty(0, np.int64))
    along: Array = field(default_factory=lambda: np.empty((0, 0, 2)))

    def of(self, frames: Array | slice) -> Observations:
        """Return the observations of some frames."""
        along = self.along[frames] if len(self.sliding) else self.along
        return replace(self, points=self.points[frames], weight=self.weight[frames], along=along)

    def across(self, vectors: Array) -> None:
        """Take what lies along the contour out of the sliding landmarks' image vectors `[T, L, 2, ...]`, in place."""
        if len(self.sliding):
            along = self.along.reshape(*self.along.shape, *(1,) * (vectors.ndim - 3)).astype(vectors.dtype)
            chosen = vectors[:, self.sliding]
            vectors[:, self.sliding] = chosen - along * (along * chosen).sum(2, keepdims=True)


@dataclass(frozen=True)
class State:
    """The unknowns: `rotation [T, 3, 3]`, `ray [T, 2]`, `log_depth [T]`, `expression [T, E]`, `identity [K]`.

    The last three of the expressions are angles of the jaw in radians where the model has that joint.
    """

    rotation: Array
    ray: Array
    log_depth: Array
    expression: Array
    identity: Array

    def of(self, frames: Array | slice) -> State:
        """Return the state of some frames."""
        return replace(
            self,
            rotation=self.rotation[frames],
            ray=self.ray[frames],
            log_depth=self.log_depth[frames],
            expression=self.expression[frames],
        )

    @classmethod
    def joined(cls, parts: list[State]) -> State:
        """Put the states of successive stretches of a clip together; they share the identity."""
        names = ("rotation", "ray", "log_depth", "expression")
        stacked = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(**stacked, identity=parts[0].identity)

    def turning(self) -> Array:
        """Return how the head turns from each frame to the next, `[T - 1, 3]` rotation vectors in the camera's axes."""
        return Rotation.from_matrix(self.rotation[1:] @ self.rotation[:-1].transpose(0, 2, 1)).as_rotvec()

    def translation(self) -> Array:
        """Return the pivot in the camera, `[T, 3]` metres."""
        depth = np.exp(self.log_depth)[:, None]
        return np.concatenate([self.ray * depth, depth], 1)

    def shape(self, basis: Basis) -> Array:
        """Return the landmarks in the head frame about the pivot, `[T, L, 3]`."""
        expression, angles = basis.split(self.expression)
        shape = (
            basis.rest + np.tensordot(self.identity, basis.identity, 1) + np.tensordot(expression, basis.expression, 1)
        )
        if basis.hinge is None:
            return shape
        return shape + basis.hinge.offsets(self.identity, expression, angles)


@dataclass(frozen=True)
class Priors:
    """Strengths relative to one landmark at one sigma.

    Attributes:
        robust: Scale in sigmas of the Geman-McClure loss; infinite is least squares.
        gap: Weight of a lid or lip pair's difference.
        identity: Weight of the squared identity coefficients.
        expression: Weight of the squared expression coefficients, each in its standard deviations.
        box: Weight of the squared excess over a coefficient's range, as a share of that range.
    """

    robust: float
    gap: float
    identity: float
    expression: float
    box: float


@dataclass(frozen=True)
class Chain:
    """Ties between neighbouring frames, all zero across a cut.

    Attributes:
        acceleration: `[T, P]` weight of the second difference centred on each frame.
        target: `[T, 5]` the second differences that rotation and ray should have.
        hold: `[T, P]` weight of the difference between frames t and t + 1, which keeps gaps from running away.
    """

    acceleration: Array
    target: Array
    hold: Array

    def of(self, frames: slice) -> Chain:
        """Return the ties within a stretch of frames."""
        return Chain(self.acceleration[frames], self.target[frames], self.hold[frames])


def project(state: State, basis: Basis) -> tuple[Array, Array]:
    """Return the rotated landmarks `[T, L, 3]` about the pivot and their normalised image points `[T, L, 2]`."""
    turned = state.shape(basis) @ state.rotation.transpose(0, 2, 1)
    camera = turned + state.translation()[:, None]
    return turned, camera[..., :2] / camera[..., 2:]
