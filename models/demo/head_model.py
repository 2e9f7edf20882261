"""A generic head that a tracker can fit: linear identity and expression bases with landmarks, from the same formulas.

It is the mean head, not one of the speakers. Topology is the same for every identity: the vertices are the landmarks
and a cloud of surface points of the mean head, triangulated once; a change of identity moves the landmarks by their
formulas, carries the other points along (thin-plate spline) and puts them back on the new surface.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.spatial import Delaunay, cKDTree

from models.demo.expression import INDEX, NAMES, Expression, close_lips
from models.demo.fields import Array
from models.demo.identity import GENERIC, Identity
from models.demo.landmarks import hit, rays
from models.demo.shape import head_distance
from models.heads.mediapipe_points import EYE_RINGS, LIP_RING_INNER, POINTS_68
from models.heads.model import HeadModel

# What one standard deviation of each identity number is.
_DEVIATIONS: dict[str, float] = {
    "jaw_width": 4.0,
    "chin": 3.0,
    "nose_width": 1.5,
    "nose_length": 2.5,
    "lip_fullness": 0.15,
    "brow_ridge": 0.6,
    "cheek": 1.5,
    "eye_opening": 0.12,
    "eye_width": 0.05,
    "face_length": 5.0,
    "eye_offset": 1.5,
    "mouth_half_width": 2.0,
}
# Plain proportions, which no number of the formulas covers: 4 % along one axis about the middle of the head.
_PROPORTIONS = ("width", "height", "depth")
_MIDDLE = np.array([0.0, -10.0, 30.0])

# Amplitudes at which the curved motions are made linear: where speech spends its time.
_TYPICAL = {"jaw": 0.35, "blink_left": 1.0, "blink_right": 1.0}
_SEAL_JAW = 0.15  # the jaw opening at which sealing the lips is measured; sealed lips on a shut jaw do not move

_AXIS_Z = 20.0  # of the cylinder that the face is unrolled on for triangulation
_SPACING = 4.5  # mm between surface points


IDENTITY_NAMES = (*_DEVIATIONS, *_PROPORTIONS)


def _landmarks(who: Identity) -> tuple[Array, Array]:
    found = rays(who)
    origins, directions = (np.stack([ray[i] for ray in found.values()]) for i in (0, 1))
    return np.array(list(found)), hit(origins, directions, who)


def _unroll(points: Array) -> Array:
    """Cylinder coordinates [N, 2] in mm: arc length at radius 80, and height."""
    return np.stack([80.0 * np.arctan2(points[:, 0], points[:, 2] - _AXIS_Z), points[:, 1]], axis=1)


def _inside(flat: Array, ring: Array) -> Array:
    """Which points [N, 2] lie inside a closed polygon [M, 2] (even-odd rule)."""
    x, y = flat[:, :1], flat[:, 1:]
    a, b = ring, np.roll(ring, -1, axis=0)
    crosses = (a[:, 1] > y) != (b[:, 1] > y)
    at = a[:, 0] + (y - a[:, 1]) / (b[:, 1] - a[:, 1] + 1e-12) * (b[:, 0] - a[:, 0])
    return (crosses & (x < at)).sum(axis=1) % 2 == 1


def _surface(who: Identity, index: Array, marks: Array) -> tuple[Array, Array]:
    """Rest points [V, 3], the landmarks first, and triangles [F, 3] with the eyes and the mouth left open."""
    reach = 80.0 * np.radians(88.0)
    # An even number of columns about the middle keeps the cloud symmetric.
    arc = np.arange(_SPACING / 2, reach, _SPACING)
    arc = np.concatenate([-arc[::-1], arc])
    heights = np.arange(-112.0, 96.0, _SPACING)
    u, y = (v.ravel() for v in np.meshgrid(arc, heights))
    angle = u / 80.0
    outwards = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], axis=1)
    axis = np.stack([np.zeros_like(y), y, np.full_like(y, _AXIS_Z)], axis=1)
    points = hit(axis + 170.0 * outwards, -outwards, who)
    below_jaw = points[:, 1] < -80.0 - 0.5 * np.maximum(points[:, 2] - 10.0, 0.0)
    points = points[~below_jaw]
    slot = {int(i): n for n, i in enumerate(index)}
    flat_marks = _unroll(marks)
    holes = [flat_marks[[slot[i] for i in ring]] for ring in (*EYE_RINGS, LIP_RING_INNER)]
    flat = _unroll(points)
    near, _ = cKDTree(marks).query(points)
    free = (near > 0.55 * _SPACING) & ~np.any([_inside(flat, ring) for ring in holes], axis=0)
    points = np.concatenate([marks, points[free]])
    flat = _unroll(points)
    triangles = Delaunay(flat).simplices
    centre = flat[triangles].mean(axis=1)
    open_ = np.any([_inside(centre, ring) for ring in holes], axis=0)
    edges = points[triangles] - np.roll(points[triangles], 1, axis=1)
    stretched = np.linalg.norm(edges, axis=2).max(axis=1) > 5.0 * _SPACING  # slivers along the hull
    triangles = triangles[~(open_ | stretched)]
    a, b, c = (flat[triangles[:, i]] for i in range(3))
    turn = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    triangles[turn < 0] = triangles[turn < 0][:, ::-1]
    return points, triangles.astype(np.int32)


def _project(points: Array, who: Identity) -> Array:
    """Nearest points of the resting head, by a few Newton steps along the gradient."""
    step = 0.25
    for _ in range(4):
        slopes = [head_distance(points + step * e, who) - head_distance(points - step * e, who) for e in np.eye(3)]
        gradient = np.stack(slopes, axis=1) / (2 * step)
        length = (gradient**2).sum(axis=1, keepdims=True) + 1e-6
        points = points - np.clip(head_distance(points, who)[:, None] / length, -2.0, 2.0) * gradient
    return points


@lru_cache(maxsize=1)
def build() -> HeadModel:
    """Compute the generic head; a second call returns the same arrays, which must not be written to.

    Its landmarks are all of the speakers' but the irises; the identity directions are `IDENTITY_NAMES`.
    """
    index, marks = _landmarks(GENERIC)
    rest, triangles = _surface(GENERIC, index, marks)
    neutral = rest + close_lips(rest, GENERIC)
    identity = []
    for name, deviation in _DEVIATIONS.items():
        other = replace(GENERIC, **{name: getattr(GENERIC, name) + deviation})
        _, moved_marks = _landmarks(other)
        carry = RBFInterpolator(marks, moved_marks - marks, kernel="thin_plate_spline", smoothing=1.0)
        moved = rest + carry(rest)
        moved[len(marks) :] = _project(moved[len(marks) :], other)
        moved[: len(marks)] = moved_marks
        identity.append(moved + close_lips(moved, other) - neutral)
    for axis in range(3):
        stretch = np.zeros_like(neutral)
        stretch[:, axis] = 0.04 * (neutral - _MIDDLE)[:, axis]
        identity.append(stretch)
    # Every landmark is a vertex: its weights single out one corner of some triangle around it.
    slots = np.arange(len(marks))
    corner = np.argmax(triangles.ravel()[None] == slots[:, None], axis=1)
    return HeadModel(
        name="synthetic",
        neutral=(neutral / 1000).astype(np.float32),
        triangles=triangles,
        identity=(np.stack(identity) / 1000).astype(np.float32),
        expression=(_expressions(Expression(rest, GENERIC)) / 1000).astype(np.float32),
        expression_names=NAMES,
        landmark_index=index.astype(np.int32),
        landmark_triangle=triangles[corner // 3],
        landmark_barycentric=np.eye(3, dtype=np.float32)[corner % 3],
        landmarks68=np.array([index.tolist().index(number) for number in POINTS_68]),
    )


def _expressions(face: Expression) -> Array:
    """Secants of the motions at their typical amplitude [E, V, 3], mm at coefficient 1."""
    out = []
    for name in NAMES:
        base, high = np.zeros(len(NAMES)), np.zeros(len(NAMES))
        amount = _TYPICAL.get(name, 1.0)
        if name == "seal":
            base[INDEX["jaw"]] = high[INDEX["jaw"]] = _SEAL_JAW
        high[INDEX[name]] = amount
        out.append((face.move(high) - face.move(base)) / amount)
    return np.stack(out)
