"""Landmarks in MediaPipe's numbering, placed by formulas on any identity and fixed to its surface."""

import numpy as np

from models.demo.animation import Animation, rotation_matrix
from models.demo.expression import NAMES, Expression, closing_reach
from models.demo.fields import Array, bell
from models.demo.identity import Identity
from models.demo.shape import (
    BROW_LENGTH,
    BROW_START,
    EYE_DEPTH,
    EYEBALL_RADIUS,
    FISSURE_HALF_WIDTH,
    MOUTH_Y,
    brow_line,
    head_distance,
    lower_lid,
    lower_vermilion,
    upper_lid,
    upper_vermilion,
)
from models.heads.mediapipe_points import (
    BROW_RINGS,
    EYE_RINGS,
    IRISES,
    LANDMARK_COUNT,
    LIP_RING_INNER,
    LIP_RING_OUTER,
    OVAL,
)

# Where MediaPipe's points lie on curves, as parts of the mouth's half width, the aperture's and the brow's length.
# These and the tables below were measured once with MediaPipe on frontal frames of these heads and made symmetric.
_OUTER_LIP_SHARE = (1.0, 0.91, 0.76, 0.57, 0.29, 0.0)
_INNER_LIP_SHARE = (0.93, 0.77, 0.63, 0.45, 0.24, 0.0)
_UPPER_LID_SHARE = (0.93, 0.80, 0.64, 0.42, 0.07, -0.29, -0.63, -0.88, -0.98)
_LOWER_LID_SHARE = (0.93, 0.74, 0.56, 0.33, 0.00, -0.36, -0.68, -0.90, -0.98)
# Share of the brow's length and height (mm) over its middle line, along the ring of its border.
_BROW = ((1.0, 0.4), (0.87, 3.5), (0.67, 4.0), (0.41, 2.5), (0.09, 2.3),
         (0.05, -5.4), (0.39, -2.6), (0.64, -1.5), (0.82, -1.5), (0.93, -3.7))  # fmt: skip

# x and y (mm) on the base head of (right, left) pairs without a curve to lie on, and y of those in the middle.
_PAIRS: dict[tuple[int, int], tuple[float, float]] = {
    (3, 248): (4.8, -22.9), (25, 255): (44.2, -3.9), (31, 261): (48.2, -8.2), (36, 266): (28.6, -36.2),
    (45, 275): (5.5, -37.5), (48, 278): (17.8, -41.3), (50, 280): (45.6, -34.7), (51, 281): (5.1, -29.6),
    (64, 294): (17.9, -43.9), (68, 298): (52.1, 28.6), (69, 299): (30.0, 35.0), (71, 301): (58.5, 21.0),
    (92, 322): (24.2, -59.5), (97, 326): (7.9, -49.4), (98, 327): (15.8, -47.5), (101, 330): (32.4, -27.6),
    (104, 333): (43.1, 33.3), (106, 335): (21.6, -81.0), (108, 337): (15.7, 34.6), (111, 340): (53.5, -12.8),
    (113, 342): (50.6, 5.2), (115, 344): (14.5, -39.1), (116, 345): (58.8, -17.2), (117, 346): (50.0, -17.8),
    (118, 347): (42.9, -20.7), (122, 351): (5.2, -9.3), (123, 352): (57.7, -31.3), (135, 364): (45.4, -83.3),
    (139, 368): (62.3, 10.7), (140, 369): (22.1, -105.3), (147, 376): (56.4, -44.6), (165, 391): (18.3, -56.4),
    (167, 393): (7.9, -55.0), (169, 394): (37.7, -92.3), (170, 395): (30.2, -98.9), (171, 396): (12.0, -109.7),
    (182, 406): (15.4, -85.3), (187, 411): (49.3, -48.6), (188, 412): (8.8, -12.3), (189, 413): (11.9, 1.9),
    (193, 417): (6.4, 0.0), (194, 418): (18.4, -91.7), (196, 419): (5.0, -16.5), (202, 422): (31.8, -79.3),
    (203, 423): (24.3, -45.1), (204, 424): (25.6, -86.6), (205, 425): (37.6, -43.6), (206, 426): (29.9, -51.2),
    (207, 427): (42.2, -53.7), (208, 428): (11.4, -103.1), (209, 429): (16.1, -32.2), (210, 430): (36.2, -84.6),
    (211, 431): (28.7, -92.2), (212, 432): (36.5, -70.9), (214, 434): (43.0, -71.8), (216, 436): (34.4, -59.2),
    (220, 440): (10.3, -38.0), (221, 441): (17.1, 8.5), (222, 442): (27.7, 12.9), (223, 443): (37.0, 14.0),
    (224, 444): (44.3, 12.9), (225, 445): (49.0, 10.2), (226, 446): (50.3, -1.3), (228, 448): (45.2, -11.3),
    (229, 449): (39.1, -13.7), (230, 450): (31.4, -13.9), (231, 451): (23.8, -12.5), (232, 452): (18.0, -10.5),
    (233, 453): (13.9, -8.7),
}  # fmt: skip
_MIDDLE: dict[int, float] = {
    151: 34.1, 9: 18.4, 8: 9.7, 168: 0.4, 6: -8.1, 197: -15.6, 195: -22.1, 5: -29.2, 4: -37.6, 1: -44.1, 19: -47.4,
    94: -49.2, 2: -50.0, 164: -55.2, 18: -88.5, 200: -95.9, 199: -104.2, 175: -111.0,
}  # fmt: skip
# The left half of the oval from forehead to chin: x, y and z (mm), to be projected to the surface.
_OVAL_LEFT = (
    (0, 50, 99), (18, 50, 96), (32, 48, 91), (46, 43.5, 80), (55.5, 36, 68), (62.5, 26, 47), (66.5, 15, 25),
    (69, -1, 22), (67, -17, 22), (66, -33, 22), (63, -49, 22), (58, -66.5, 28), (52, -80.5, 35), (46, -94, 45),
    (37, -100.5, 58), (28, -105.5, 80), (20.5, -110, 88), (11, -113.5, 90), (0, -115.5, 90),
)  # fmt: skip


def _oval(who: Identity) -> dict[int, tuple[Array, Array]]:
    """Rays of the face oval, from outside towards the middle at the same height, which meet steep sides squarely."""
    found = {}
    for i, index in enumerate(OVAL):
        half = min(i, len(OVAL) - i)
        x, y, z = _OVAL_LEFT[half]
        _, y = _follow(x, y, who)
        target = np.array([x if i <= 18 else -x, y, z], np.float64)
        direction = np.array([0.0, y, 20.0]) - target
        direction /= np.linalg.norm(direction)
        found[index] = target - 120.0 * direction, direction
    return found


def _follow(x: float, y: float, who: Identity) -> tuple[float, float]:
    """Move a point of the base head to where the same feature is on another identity."""
    nose = float(bell(x, 14.0) * bell(y + 40.0, 14.0))
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
    for index, y in _MIDDLE.items():
        flat[index] = _follow(0.0, y, who)
    half = who.mouth_half_width
    for ring, shares, outer in ((LIP_RING_OUTER, _OUTER_LIP_SHARE, True), (LIP_RING_INNER, _INNER_LIP_SHARE, False)):
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
                # On the line of contact: the upper and the lower ring meet when the lips do.
                reach = float(closing_reach(x, who))
                y = MOUTH_Y + (reach if upper else -reach)
            flat[index] = x, y
    for ring, side in zip(EYE_RINGS, (-1.0, 1.0), strict=True):
        for i, index in enumerate(ring):
            t = (_UPPER_LID_SHARE if i <= 8 else _LOWER_LID_SHARE)[min(i, 16 - i)]
            x = side * (who.eye_offset + t * FISSURE_HALF_WIDTH * who.eye_width)
            y = float(upper_lid(t, who) + 0.6 if i <= 8 else lower_lid(t, who) - 0.5)
            if i in (0, 8):
                y = 0.9 * t
            flat[index] = x, y
    for ring, side in zip(BROW_RINGS, (-1.0, 1.0), strict=True):
        for i, index in enumerate(ring):
            s, offset = _BROW[i]
            flat[index] = side * (BROW_START + BROW_LENGTH * s), float(brow_line(s)) + offset
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


class LandmarkRig:
    """The landmarks of one speaker: material points that move with the face, and the irises that move with the gaze."""

    def __init__(self, who: Identity) -> None:
        """Place the landmarks on the resting head; from then on they are points of its material."""
        self.who = who
        found = rays(who)
        self.index = np.array(list(found))
        self.rest = hit(np.stack([o for o, _ in found.values()]), np.stack([d for _, d in found.values()]), who)
        self.expression = Expression(self.rest, who)

    @property
    def present(self) -> Array:
        """Which of the 478 landmarks exist, [478] bool."""
        mask = np.zeros(LANDMARK_COUNT, bool)
        mask[self.index] = True
        mask[list(sum(IRISES, ()))] = True
        return mask

    def positions(self, animation: Animation, t: int) -> Array:
        """Landmarks of frame t in the head frame [478, 3], mm; NaN where there is none."""
        gaze_yaw, gaze_pitch = animation.gaze[t]
        moved = self.expression.move(animation.coefficients[t, : len(NAMES)], -float(gaze_pitch))
        out = np.full((LANDMARK_COUNT, 3), np.nan)
        out[self.index] = moved
        # Pressed lips overlap by a fraction of a millimetre; what is seen of both rims then is the line between them.
        upper, lower = out[list(_INNER_UPPER)], out[list(_INNER_LOWER)]
        overlap = 0.5 * np.maximum(lower[:, 1] - upper[:, 1], 0.0)
        out[list(_INNER_UPPER), 1] += overlap
        out[list(_INNER_LOWER), 1] -= overlap
        turn = rotation_matrix(gaze_yaw, gaze_pitch, 0.0)
        for ring, side in zip(IRISES, (-1.0, 1.0), strict=True):
            centre = np.array([side * self.who.eye_offset, 0.0, EYE_DEPTH])
            out[list(ring)] = _IRIS @ turn.T + centre
        return out


_INNER_UPPER, _INNER_LOWER = LIP_RING_INNER[1:10], LIP_RING_INNER[:10:-1]  # opposite each other
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
