"""How the face moves: displacements as functions of the rest position, so that any point of the head can be moved.

Order of application: rest -> lips closed -> linear fields -> jaw -> lids. All fields are evaluated once per point set.
"""

import numpy as np

from models.demo.fields import Array, Value, bell, smoothstep
from models.demo.identity import Identity
from models.demo.shape import (
    EYE_DEPTH,
    LENS_HALF_HEIGHT,
    LID_RADIUS,
    LID_SQUASH,
    MOUTH_Y,
    lid_parameter,
    lower_lid,
    upper_lid,
)

LINEAR: tuple[str, ...] = (
    "round",
    "spread",
    "press",
    "smile",
    "upper_lip",
    "lower_lip",
    "tuck",
    "brow_up",
    "brow_in",
    "brow_down",
    "squint",
)
NAMES: tuple[str, ...] = ("jaw", "seal", *LINEAR, "blink_left", "blink_right")
INDEX = {name: i for i, name in enumerate(NAMES)}

JAW_HINGE = (-14.0, 6.0)  # y, z of the axis that the jaw turns about
JAW_ANGLE = np.radians(17.0)  # at coefficient 1
JAW_GLIDE = 1.5  # mm forward at coefficient 1
UPPER_LID_SHARE, LOWER_LID_SHARE = 0.86, 0.15  # of the aperture that each lid travels; together they just overlap


class Expression:
    """The motion of a set of rest points of one head."""

    def __init__(self, points: Array, who: Identity) -> None:
        """`points` [N, 3]: rest positions in mm."""
        points = points.astype(np.float32)
        self.left = points[:, 0] > 0
        self.neutral = points + close_lips(points, who)
        self.jaw_open, self.jaw_sealed = jaw_weights(points, who)
        self.linear = linear_fields(points, who).reshape(len(LINEAR), -1).astype(np.float32)
        self.upper, self.lower, self.aperture = lid_fields(points, who)

    def move(self, coefficients: Array, gaze_pitch: float = 0.0) -> Array:
        """Positions [N, 3] (mm) for coefficients in the order of `NAMES`.

        gaze_pitch: radians, positive up; the upper lids follow it by half.
        """
        c = np.asarray(coefficients, np.float32)
        jaw, seal = float(c[0]), float(c[1])
        moved = self.neutral + (c[2 : 2 + len(LINEAR)] @ self.linear).reshape(-1, 3)
        moved = rotate_jaw(moved, (1 - seal) * self.jaw_open + seal * self.jaw_sealed, jaw)
        squint = float(c[INDEX["squint"]])
        blink = np.where(self.left, c[-2], c[-1])
        follow = 0.5 * float(np.clip(-gaze_pitch, -0.1, 0.3))
        angle = self.lower * (LOWER_LID_SHARE * blink + 0.18 * squint) * self.aperture
        angle -= self.upper * (UPPER_LID_SHARE * blink * self.aperture + (1 - blink) * follow)
        cos, sin = np.cos(angle), np.sin(angle)
        y, z = moved[:, 1], moved[:, 2] - EYE_DEPTH
        moved[:, 1], moved[:, 2] = cos * y + sin * z, EYE_DEPTH + cos * z - sin * y
        return moved


def rotate_jaw(points: Array, weight: Array | float, jaw: float) -> Array:
    """Turn points about the jaw's hinge by `weight * jaw` and glide them forward. `points` [N, 3], `weight` [N]."""
    angle = np.float32(JAW_ANGLE * jaw) * weight
    cos, sin = np.cos(angle), np.sin(angle)
    y, z = points[:, 1] - JAW_HINGE[0], points[:, 2] - JAW_HINGE[1]
    turned_y = JAW_HINGE[0] + cos * y - sin * z
    turned_z = JAW_HINGE[1] + sin * y + cos * z + JAW_GLIDE * jaw * weight
    return np.stack([points[:, 0], turned_y, turned_z], axis=1).astype(np.float32)


def _lens(side: Value, who: Identity) -> tuple[Array, Array]:
    """Half height of the slit (mm, not negative) and 1 - (x / half width)^2."""
    u = np.clip(1.0 - (side / who.mouth_half_width) ** 2, 0.0, 1.0)
    return LENS_HALF_HEIGHT * u, u


def close_lips(points: Array, who: Identity) -> Array:
    """The displacement [N, 3] that brings the slit of the rest shape together."""
    x, y, z = points.T
    gap, _ = _lens(np.abs(x), who)
    above = y > MOUTH_Y
    beyond = np.where(above, y - MOUTH_Y - gap, MOUTH_Y - gap - y)
    out = np.zeros_like(points)
    fade = bell(np.maximum(beyond, 0.0), 9.0) * smoothstep(38, 80, z)
    out[:, 1] = np.where(above, -1.0, 1.0) * closing_reach(x, who) * fade
    return out


def closing_reach(x: Value, who: Identity) -> Array:
    """How far (mm) each lip travels to close; what lies this far from the middle of the slit forms the line of contact.

    It is a little more than the slit, so that no line of teeth stays between the lips; thin lips curl less and need
    more of it.
    """
    gap, u = _lens(np.abs(x), who)
    extra = 0.60 + 0.30 * float(smoothstep(1.0, 0.9, who.lip_fullness))
    return gap + extra * np.sqrt(u)


def jaw_weights(points: Array, who: Identity) -> tuple[Array, Array]:
    """How much each point turns with the jaw, lips apart and lips sealed. Two arrays [N].

    Apart: a step between the lips whose height shrinks as an ellipse towards the corners, which gives a round, almond
    mouth; a step over the whole width would give a letter box. Sealed: smooth across the lips, so both follow the jaw
    at weight one half and stay shut at any jaw angle: p, b and m close by construction.
    """
    x, y, z = points.T
    side, above = np.abs(x), y > MOUTH_Y
    u = np.clip(1.0 - (side / (who.mouth_half_width + 1.0)) ** 2, 0.0, 1.0)
    step = np.maximum(u**0.62 * smoothstep(40, 66, z), np.tanh(np.abs(y - MOUTH_Y) / 16.0))
    apart = 0.5 - 0.5 * np.where(above, step, -step)
    width = 9.0 + 8.0 * smoothstep(who.mouth_half_width - 5, who.mouth_half_width + 20, side)
    # Measured from the rims of the slit, so that both of them get exactly one half.
    gap, _ = _lens(side, who)
    sealed = 0.5 - 0.5 * np.where(above, 1.0, -1.0) * np.tanh(np.maximum(np.abs(y - MOUTH_Y) - gap, 0.0) / width)
    fade = smoothstep(-5, 30, z) * smoothstep(-135, -108, y + 0.12 * (z - 60))
    fade = np.maximum(fade, smoothstep(8, 40, z) * smoothstep(-130, -112, y))
    fade = fade * np.maximum(smoothstep(-8, -48, y), smoothstep(-40, -55, y))
    return (apart * fade).astype(np.float32), (sealed * fade).astype(np.float32)


def linear_fields(points: Array, who: Identity) -> Array:
    """Displacements [len(LINEAR), N, 3] in mm at coefficient 1."""
    x, y, z = points.T
    fields = {name: np.zeros_like(points) for name in LINEAR}
    _mouth_fields(fields, x, y, z, who)
    _upper_face_fields(fields, x, y, z)
    return np.stack([fields[name] for name in LINEAR])


def _mouth_fields(fields: dict[str, Array], x: Array, y: Array, z: Array, who: Identity) -> None:
    side, sign, half = np.abs(x), np.sign(x), who.mouth_half_width
    gap, _ = _lens(side, who)
    above, v = y > MOUTH_Y, y - MOUTH_Y
    up = np.where(above, 1.0, -1.0)
    front = smoothstep(45, 82, z)
    inside = np.clip(1.0 - (side / (half + 6)) ** 2, 0.0, 1.0)
    corner = bell(side - half, 13) * bell(v, 13) * front
    upper = np.where(above, bell(v - gap - 2, 5.5), 0.0) * bell(side, 15) * front
    lower = np.where(above, 0.0, bell(v + gap + 3, 6.5)) * bell(side, 15) * front

    def middle(width: float, height: float) -> Array:
        return bell(side, width) * bell(v, height) * front

    near = bell(v, 13) * smoothstep(44, 20, side) * front
    fields["round"][:, 0] = -0.36 * x * near
    fields["round"][:, 1] = np.where(above, 1.6, -2.4) * middle(8, 9) - up * bell(side - 17, 6) * bell(v, 8) * front
    fields["round"][:, 2] = 5.5 * middle(15, 12) - near * side / 25

    fields["spread"][:, 0] = sign * 5.2 * corner + 0.10 * x * bell(v, 10) * smoothstep(40, 20, side) * front
    fields["spread"][:, 1] = 0.6 * corner + np.where(above, -0.7, 0.9) * middle(16, 7) * inside
    fields["spread"][:, 2] = -2.6 * corner - 1.6 * middle(14, 8)

    rolled = np.where(above, -2.2 * bell(v - gap - 5, 4), 2.6 * bell(v + gap + 6, 4.5))
    fields["press"][:, 1] = rolled * inside * front
    fields["press"][:, 2] = -2.6 * (upper + lower) * inside

    cheek = bell(side - 40, 14) * bell(y + 38, 14) * smoothstep(20, 70, z)
    fields["smile"][:, 0] = sign * (6.0 * corner + 1.0 * cheek)
    fields["smile"][:, 1] = 5.2 * corner + 3.2 * cheek
    fields["smile"][:, 2] = -3.0 * corner + 2.6 * cheek - 1.2 * middle(14, 8)

    raised = np.where(above, bell(np.maximum(v - 6, 0), 11), 0.0) * bell(side, 16) * front * inside
    fields["upper_lip"][:, 1] = 4.0 * raised
    fields["upper_lip"][:, 2] = 0.8 * upper

    lowered = np.where(above, 0.0, bell(np.maximum(-8 - v, 0), 9)) * bell(side, 15) * front * inside
    fields["lower_lip"][:, 1] = -4.5 * lowered
    fields["lower_lip"][:, 2] = 1.0 * lower

    # f and v: the lower lip goes up and back to the edge of the upper teeth.
    lifted = np.where(above, bell(np.maximum(v - 6, 0), 9), 0.0) * bell(side, 15) * front * inside
    fields["tuck"][:, 1] = 4.4 * lower * inside + 2.0 * lifted
    fields["tuck"][:, 2] = -5.5 * lower * inside


def _upper_face_fields(fields: dict[str, Array], x: Array, y: Array, z: Array) -> None:
    side, sign = np.abs(x), np.sign(x)
    front = smoothstep(50, 80, z)
    # Below y = 14 the brow fields fade quickly, so that the lids do not follow the brows.
    brow = np.where(y > 14, bell(y - 20, 14), bell(y - 14, 5.5)) * front
    for name, amount, centre, width in (("brow_up", 7.0, 33.0, 18.0), ("brow_in", 5.5, 14.0, 10.0)):
        lift = bell(side - centre, width) * brow
        fields[name][:, 1] = amount * lift
        fields[name][:, 2] = 0.7 * lift
    frown = bell(side - 16, 11) * brow
    fields["brow_down"][:, 0] = -4.0 * sign * frown * smoothstep(0, 8, side)
    fields["brow_down"][:, 1] = -7.5 * frown
    fields["brow_down"][:, 2] = 0.8 * frown
    pouch = bell(side - 36, 14) * bell(y + 20, 7) * front
    fields["squint"][:, 1] = 2.5 * pouch
    fields["squint"][:, 2] = 1.0 * pouch


def lid_fields(points: Array, who: Identity) -> tuple[Array, Array, Array]:
    """Weights of the upper and of the lower lid, and the angle (rad) that the aperture spans at this x. Each [N].

    Lids turn about the lateral axis through the eyeball's centre by a share of the local aperture, so their rims meet
    everywhere along the almond.
    """
    x, y, z = points.T
    lateral, depth = np.abs(x) - who.eye_offset, z - EYE_DEPTH
    t = np.clip(lid_parameter(x, who), -1.0, 1.0)
    ring = np.sqrt(np.maximum(LID_RADIUS**2 - LID_SQUASH * lateral**2, 30.0))
    top = np.arcsin(np.clip(upper_lid(t, who) / ring, -0.95, 0.95))
    bottom = np.arcsin(np.clip(lower_lid(t, who) / ring, -0.95, 0.95))
    elevation = np.arctan2(y, np.maximum(depth, 0.01))
    radius = np.sqrt(LID_SQUASH * lateral**2 + y * y + depth * depth)
    near = smoothstep(23, 16.5, radius) * (depth > 0) * smoothstep(21, 14.5, np.abs(lateral))
    is_upper = elevation > 0.5 * (top + bottom)
    upper = np.where(is_upper, 1 - smoothstep(0.06, 0.68, elevation - top), 0.0) * near
    lower = np.where(is_upper, 0.0, 1 - smoothstep(0.06, 0.56, bottom - elevation)) * near
    return upper.astype(np.float32), lower.astype(np.float32), (top - bottom).astype(np.float32)
