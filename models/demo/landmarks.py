"""Landmarks in MediaPipe's numbering, placed by formulas on any identity and fixed to its surface."""

import numpy as np
from scipy.spatial import cKDTree

from models.demo.animation import Animation, rotation_matrix
from models.demo.expression import NAMES, Expression
from models.demo.fields import Array, bell
from models.demo.identity import Identity
from models.demo.shape import (
    BROW_LENGTH,
    BROW_START,
    EYE_DEPTH,
    EYEBALL_RADIUS,
    FISSURE_HALF_WIDTH,
    LENS_HALF_HEIGHT,
    MOUTH_Y,
    brow_line,
    head_distance,
    lower_lid,
    lower_vermilion,
    upper_lid,
    upper_vermilion,
)

COUNT = 478

# Rings from the outer corner along the upper lid to the inner corner and back along the lower lid.
RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
LEFT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
# Rings from the right corner along the upper lip to the left corner and back along the lower lip.
OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
# Upper border from the outer to the inner end, then the lower border likewise.
RIGHT_BROW = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)
LEFT_BROW = (300, 293, 334, 296, 336, 276, 283, 282, 295, 285)
# From the top of the forehead by the subject's left side to the chin and back by the right side.
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
RIGHT_IRIS = (468, 469, 470, 471, 472)  # centre, then image right, top, left, bottom
LEFT_IRIS = (473, 474, 475, 476, 477)

# How far along the half width of mouth or lid aperture the ring points lie, from the corner to the middle (lips) or
# from the outer to the inner corner (lids).
_OUTER_LIP_SHARE = (1.0, 0.84, 0.64, 0.42, 0.20, 0.0)
_INNER_LIP_SHARE = (0.93, 0.80, 0.66, 0.46, 0.24, 0.0)
_LID_SHARE = (0.97, 0.84, 0.62, 0.36, 0.06, -0.26, -0.55, -0.80, -0.97)
_BROW_SHARE = (0.92, 0.68, 0.44, 0.22, 0.02)

# x and y (mm) on the base head of points without a curve to lie on: (right, left) pairs, then those of the middle.
_PAIRS: dict[tuple[int, int], tuple[float, float]] = {
    (98, 327): (9.5, -46.0),
    (48, 278): (15.0, -40.0),
    (64, 294): (14.0, -43.0),
    (115, 344): (12.5, -33.0),
    (122, 351): (10.0, -4.0),
    (193, 417): (8.0, 4.0),
    (50, 280): (38.0, -30.0),
    (117, 346): (40.0, -17.0),
    (36, 266): (25.0, -36.0),
    (205, 425): (33.0, -42.0),
    (187, 411): (43.0, -50.0),
    (207, 427): (36.0, -58.0),
    (212, 432): (34.0, -74.0),
    (202, 422): (26.0, -78.0),
    (204, 424): (19.0, -86.0),
    (108, 337): (12.0, 42.0),
    (69, 299): (27.0, 44.0),
    (104, 333): (38.0, 44.0),
    (68, 298): (46.0, 40.0),
    (151, 151): (0.0, 42.0),
    (9, 9): (0.0, 22.0),
    (8, 8): (0.0, 14.0),
    (168, 168): (0.0, 5.0),
    (6, 6): (0.0, -3.0),
    (197, 197): (0.0, -13.0),
    (195, 195): (0.0, -22.0),
    (5, 5): (0.0, -29.0),
    (4, 4): (0.0, -35.0),
    (1, 1): (0.0, -40.0),
    (2, 2): (0.0, -48.0),
    (164, 164): (0.0, -54.0),
    (18, 18): (0.0, -84.0),
    (200, 200): (0.0, -92.0),
    (199, 199): (0.0, -104.0),
}


def _oval(who: Identity) -> dict[int, tuple[Array, Array]]:
    """Rays of the face oval: outwards from an axis inside the head, in the plane of the face's outline."""
    rays = {}
    for i, index in enumerate(FACE_OVAL):
        angle = 2 * np.pi * i / len(FACE_OVAL)
        x, y = np.sin(angle), np.cos(angle)
        # The outline leans back at the temples and ears and comes forward at the forehead and the chin.
        z = 20.0 + 52.0 * y * y * (1.0 if y > 0 else 1.25)
        reach = 150.0
        centre = np.array([0.0, -28.0 - 0.5 * who.face_length, 0.0])
        origin = centre + np.array([reach * x, reach * y, 0.0])
        aim = np.array([0.0, -28.0, z])
        start = np.array([origin[0], origin[1], z])
        direction = aim - start
        rays[index] = start, direction / np.linalg.norm(direction)
    return rays


def _follow(x: float, y: float, who: Identity) -> tuple[float, float]:
    """Move a point of the base head to where the same feature is on another identity."""
    nose = float(bell(np.float64(x), 14.0) * bell(np.float64(y + 40.0), 14.0))
    x = x * (1 + nose * who.nose_width / 16.0)
    y = y - nose * who.nose_length
    if y < -78.0:
        y -= who.face_length * min(1.0, (-78.0 - y) / 22.0)
    return x, y


def rays(who: Identity) -> dict[int, tuple[Array, Array]]:
    """For every landmark but the irises a ray (origin, unit direction; mm) that meets the resting head at it."""
    flat: dict[int, tuple[float, float]] = {}
    for (right, left), (x, y) in _PAIRS.items():
        x, y = _follow(x, y, who)
        flat[left], flat[right] = (x, y), (-x, y)
    half = who.mouth_half_width
    for ring, shares, outer in ((OUTER_LIPS, _OUTER_LIP_SHARE, True), (INNER_LIPS, _INNER_LIP_SHARE, False)):
        count = len(ring)
        for i, index in enumerate(ring):
            around = min(i, count - i)  # steps from the right corner; the upper and the lower run are mirrored
            share = shares[around] if around <= 5 else -shares[10 - around]
            x = -share * half
            upper = i <= count // 2
            if around in (0, 10):
                y = MOUTH_Y
            elif outer:
                y = float(upper_vermilion(x, who) - 0.4 if upper else lower_vermilion(x, who) + 0.4)
            else:
                gap = LENS_HALF_HEIGHT * (1 - share**2) + 0.5
                y = MOUTH_Y + (gap if upper else -gap)
            flat[index] = x, y
    for ring, side in ((RIGHT_EYE, -1.0), (LEFT_EYE, 1.0)):
        for i, index in enumerate(ring):
            t = _LID_SHARE[min(i, 16 - i)]
            x = side * (who.eye_offset + t * FISSURE_HALF_WIDTH * who.eye_width)
            y = float(upper_lid(np.float64(t), who) + 0.6 if i <= 8 else lower_lid(np.float64(t), who) - 0.5)
            if i in (0, 8):
                y = 0.9 * t
            flat[index] = x, y
    for ring, side in ((RIGHT_BROW, -1.0), (LEFT_BROW, 1.0)):
        for i, index in enumerate(ring):
            s = _BROW_SHARE[i % 5]
            half_height = 3.4 * (1 - 0.75 * max(s, 0.0) ** 1.6)
            middle = float(brow_line(np.float64(s)))
            flat[index] = side * (BROW_START + BROW_LENGTH * s), middle + (half_height if i < 5 else -half_height)
    towards = np.array([0.0, 0.0, -1.0])
    out = {index: (np.array([x, y, 150.0]), towards) for index, (x, y) in flat.items()}
    out.update(_oval(who))
    return dict(sorted(out.items()))


def hit(origins: Array, directions: Array, who: Identity) -> Array:
    """Where rays [N, 3] first meet the resting head [N, 3] (mm), by sphere tracing."""
    points = origins.astype(np.float64).copy()
    for _ in range(90):
        # The field overestimates distance near smooth unions: half steps do not jump through thin lips.
        points += 0.5 * np.maximum(head_distance(points, who), -2.0)[:, None] * directions
    return points


def attach(points: Array, vertices: Array, triangles: Array) -> tuple[Array, Array]:
    """Fix points to the nearest place on a mesh: corners [N, 3] (vertex ids) and barycentric weights [N, 3]."""
    tree = cKDTree(vertices[triangles].mean(axis=1))
    _, candidates = tree.query(points, k=24)
    corners = vertices[triangles[candidates]].astype(np.float64)  # [N, 24, 3, 3]
    a = corners[:, :, 0]
    u, v = corners[:, :, 1] - a, corners[:, :, 2] - a
    w = points[:, None] - a
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    wu, wv = (w * u).sum(-1), (w * v).sum(-1)
    area = uu * vv - uv * uv + 1e-12
    s, t = (vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area
    weights = np.clip(np.stack([1 - s - t, s, t], axis=-1), 0.0, None)
    weights /= weights.sum(-1, keepdims=True)
    place = (weights[..., None] * corners).sum(2)
    best = np.argmin(((place - points[:, None]) ** 2).sum(-1), axis=1)
    rows = np.arange(len(points))
    return triangles[candidates[rows, best]], weights[rows, best]


class LandmarkRig:
    """The landmarks of one speaker: material points that move with the face, and the irises that move with the gaze."""

    def __init__(self, vertices: Array, triangles: Array, who: Identity) -> None:
        """`vertices` [V, 3] (mm, at rest) and `triangles` [F, 3] of the head."""
        self.who = who
        found = rays(who)
        self.index = np.array(list(found))
        origins = np.stack([o for o, _ in found.values()])
        directions = np.stack([d for _, d in found.values()])
        corners, self.weights = attach(hit(origins, directions, who), vertices, triangles)
        used, inverse = np.unique(corners, return_inverse=True)
        self.corners = inverse.reshape(corners.shape)
        self.expression = Expression(vertices[used], who)

    @property
    def present(self) -> Array:
        """Which of the 478 landmarks exist, [478] bool."""
        mask = np.zeros(COUNT, bool)
        mask[self.index] = True
        mask[list(RIGHT_IRIS + LEFT_IRIS)] = True
        return mask

    def positions(self, animation: Animation, t: int) -> Array:
        """Landmarks of frame t in the head frame [478, 3], mm; NaN where there is none."""
        gaze_yaw, gaze_pitch = animation.gaze[t]
        moved = self.expression.move(animation.coefficients[t, : len(NAMES)], -float(gaze_pitch))
        out = np.full((COUNT, 3), np.nan)
        out[self.index] = (moved[self.corners] * self.weights[..., None]).sum(axis=1)
        turn = rotation_matrix(gaze_yaw, gaze_pitch, 0.0)
        for ring, side in ((RIGHT_IRIS, -1.0), (LEFT_IRIS, 1.0)):
            centre = np.array([side * self.who.eye_offset, 0.0, EYE_DEPTH])
            out[list(ring)] = _IRIS @ turn.T + centre
        return out


_IRIS_RADIUS = 6.1
_IRIS_DEPTH = float(np.sqrt(EYEBALL_RADIUS**2 - _IRIS_RADIUS**2))
_IRIS = np.array(
    [
        [0.0, 0.0, EYEBALL_RADIUS],
        [_IRIS_RADIUS, 0.0, _IRIS_DEPTH],
        [0.0, _IRIS_RADIUS, _IRIS_DEPTH],
        [-_IRIS_RADIUS, 0.0, _IRIS_DEPTH],
        [0.0, -_IRIS_RADIUS, _IRIS_DEPTH],
    ]
)
