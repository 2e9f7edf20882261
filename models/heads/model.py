"""The record every head model is turned into: a mesh, linear shape bases and where the face landmarks lie on it.

    vertices = neutral + identity_coefficients @ identity + expression_coefficients @ expression

as in Blanz and Vetter, "A morphable model for the synthesis of 3D faces", SIGGRAPH 1999, and then moved by joints
where the model has any (`models.heads.skinning`). Identity coefficients are in standard deviations of the
population. Expression coefficients of named shapes run from 0 (off) to 1 (full), those of principal components are
in standard deviations as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.errors import UsageError
from models.heads.mediapipe_points import LANDMARK_COUNT
from models.heads.skinning import Hinge, Range, Skeleton

Array = np.ndarray

NAMED_SHAPES = Range(0.0, 1.0, 0.25)  # deviation: of the coefficients that speech has
COMPONENTS = Range(-3.0, 3.0, 1.0)


def triangulate(polygons: Array) -> Array:
    """Turn quads into triangles.

    Args:
        polygons: `[N, 4]` vertex ids; a triangle has -1 as its last id.

    Returns:
        `[F, 3]` int32 triangles with the winding of the polygons, without those of zero area by their ids.
    """
    polygons = np.asarray(polygons)
    first = polygons[:, [0, 1, 2]]
    second = polygons[polygons[:, 3] >= 0][:, [0, 2, 3]]
    triangles = np.concatenate([first, second]).astype(np.int32)
    a, b, c = triangles.T
    return triangles[(a != b) & (b != c) & (a != c)]


def vertex_normals(vertices: Array, triangles: Array) -> Array:
    """Return outward unit normals `[V, 3]` of a mesh; 0 at a vertex without a triangle of any area."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, triangles[:, k], across)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)


@dataclass(frozen=True)
class HeadModel:
    """A head model in the head frame (x subject's left, y up, z out of the face), metres.

    Attributes:
        name: Short name for reports.
        neutral: `[V, 3]` vertices of the mean head at rest, metres.
        triangles: `[F, 3]` vertex ids, counter-clockwise seen from outside.
        identity: `[K, V, 3]` offsets for one standard deviation of each identity direction, metres.
        expression: `[E, V, 3]` offsets of each expression at coefficient 1, metres.
        expression_names: `E` names.
        landmark_index: `[L]` numbers in MediaPipe's 478 of the landmarks this mesh carries.
        landmark_triangle: `[L, 3]` the vertex ids of the triangle each landmark lies in.
        landmark_barycentric: `[L, 3]` its barycentric weights there.
        regions: Optional named vertex ranges `(first, one past the last)`.
        expression_range: What an expression coefficient usually is.
        landmarks68: Vertex ids `[68]` of the 68-point markup, or None for a model that does not know them.
        skeleton: The joints, or None for a model that is linear only.
    """

    name: str
    neutral: Array
    triangles: Array
    identity: Array
    expression: Array
    expression_names: tuple[str, ...]
    landmark_index: Array
    landmark_triangle: Array
    landmark_barycentric: Array
    regions: dict[str, tuple[int, int]] = field(default_factory=dict)
    expression_range: Range = NAMED_SHAPES
    landmarks68: Array | None = None
    skeleton: Skeleton | None = None

    def __post_init__(self) -> None:
        """Check shapes and ranges, because a wrong index would only show as a strange face.

        Raises:
            UsageError: Naming the field that does not fit.
        """
        count = len(self.neutral)
        landmarks = len(self.landmark_index)
        expected = {
            "neutral": (count, 3),
            "triangles": (len(self.triangles), 3),
            "identity": (len(self.identity), count, 3),
            "expression": (len(self.expression_names), count, 3),
            "landmark_index": (landmarks,),
            "landmark_triangle": (landmarks, 3),
            "landmark_barycentric": (landmarks, 3),
        }
        if self.landmarks68 is not None:
            expected["landmarks68"] = (68,)
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise UsageError(f"HeadModel.{name} has shape {getattr(self, name).shape}, expected {shape}")
        for name, limit in (
            ("triangles", count),
            ("landmark_triangle", count),
            ("landmark_index", LANDMARK_COUNT),
            ("landmarks68", count),
        ):
            ids = getattr(self, name)
            if ids is not None and ids.size and (ids.min() < 0 or ids.max() >= limit):
                raise UsageError(f"HeadModel.{name} has ids outside 0..{limit - 1}")
        if len(np.unique(self.landmark_index)) != landmarks:
            raise UsageError("HeadModel.landmark_index names a landmark twice")
        if not np.allclose(self.landmark_barycentric.sum(1), 1.0, atol=1e-4):
            raise UsageError("HeadModel.landmark_barycentric has rows that do not add up to 1")
        if self.skeleton is not None and len(self.skeleton.weights) != count:
            raise UsageError(f"HeadModel.skeleton carries {len(self.skeleton.weights)} vertices, expected {count}")

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the joints; none for a model that is linear only."""
        return () if self.skeleton is None else self.skeleton.names

    def at_landmarks(self, field_values: Array) -> Array:
        """Interpolate a per-vertex field `[..., V, 3]` at the landmarks.

        Returns:
            `[..., L, 3]` values.
        """
        corners = field_values[..., self.landmark_triangle, :].astype(np.float64)
        return np.einsum("lk,...lkc->...lc", self.landmark_barycentric.astype(np.float64), corners)

    def vertices(
        self, identity: Array | None = None, expression: Array | None = None, turns: Array | None = None
    ) -> Array:
        """Return the deformed mesh.

        Args:
            identity: `[K]` coefficients; None is the mean head.
            expression: `[..., E]` coefficients; None is the neutral expression.
            turns: `[..., J, 3]` rotation vectors of the joints; None leaves them at rest, as having no joints does.

        Returns:
            `[..., V, 3]` vertices in metres.
        """
        offsets = np.zeros_like(self.neutral)
        if identity is not None:
            offsets = offsets + np.tensordot(identity, self.identity, 1)
        if expression is not None:
            offsets = offsets + np.tensordot(expression, self.expression, 1)
        shape = self.neutral + offsets
        if turns is None or self.skeleton is None:
            return shape
        return self.skeleton.pose(shape, offsets, turns)

    def landmarks(
        self, identity: Array | None = None, expression: Array | None = None, turns: Array | None = None
    ) -> Array:
        """Return the landmarks of the deformed mesh, `[..., L, 3]` metres, in the order of `landmark_index`."""
        if turns is not None and self.skeleton is not None:
            return self.at_landmarks(self.vertices(identity, expression, turns))
        shape = self.at_landmarks(self.neutral)
        if identity is not None:
            shape = shape + np.tensordot(identity, self.at_landmarks(self.identity), 1)
        if expression is not None:
            shape = shape + np.tensordot(expression, self.at_landmarks(self.expression), 1)
        return shape

    def hinge(self) -> Hinge | None:
        """Return what the jaw does to the landmarks, or None for a model without joints."""
        if self.skeleton is None:
            return None
        skeleton, jaw = self.skeleton, self.skeleton.jaw
        weight = skeleton.weights[:, jaw, None]
        correctives = skeleton.correctives[9 * (jaw - 1) : 9 * jaw]

        def carried(offsets: Array) -> Array:
            return self.at_landmarks(weight * (offsets - (skeleton.regressor[jaw] @ offsets)[..., None, :]))

        return Hinge(
            carried=self.at_landmarks(weight * (self.neutral - skeleton.joints[jaw])),
            identity=carried(self.identity),
            expression=carried(self.expression),
            correctives=self.at_landmarks(correctives),
            carried_correctives=self.at_landmarks(weight * correctives),
        )

    def rows_of(self, numbers: tuple[int, ...]) -> Array:
        """Return the rows of `landmark_index` that hold these MediaPipe numbers; those it lacks are left out."""
        row = {int(number): i for i, number in enumerate(self.landmark_index)}
        return np.array([row[number] for number in numbers if number in row], dtype=np.int64)

    def pair_rows(self, pairs: tuple[tuple[int, int], ...]) -> Array:
        """Return `[N, 2]` rows of those pairs of MediaPipe numbers of which the model has both."""
        row = {int(number): i for i, number in enumerate(self.landmark_index)}
        rows = [(row[a], row[b]) for a, b in pairs if a in row and b in row]
        return np.array(rows, dtype=np.int64).reshape(-1, 2)

    def expression_rows(self, word: str, side: str) -> Array:
        """Return the expressions whose name holds `word` and belongs to `side`.

        Args:
            word: For example `blink`; case does not matter.
            side: `left` or `right`. Both `eyeBlink_L` and `blink_left` and `eyeBlinkLeft` are understood.
        """
        endings = (side, "_" + side[0])
        names = [name.lower() for name in self.expression_names]
        return np.array([i for i, n in enumerate(names) if word in n and n.endswith(endings)], dtype=np.int64)
