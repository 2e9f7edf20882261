"""The head as a signed distance field (millimetres, negative inside), mirrored in x.

A few dozen ellipsoids and round cones are blended by smooth minima, then "brush strokes" (Gaussians added to the
distance) model folds and ridges. Two carvings come last: the lid aperture, whose walls end inside the eyeball, and
the mouth, a lens-shaped slit that opens into a cavity. The head at rest therefore has its lips apart; the displacement
of `expression.close_lips` brings them together.

Every primitive starts smaller than life because a smooth union swells by about an eighth of its width.
"""

import math

import numpy as np

from models.demo.fields import Array, Value, bell, ellipsoid, round_cone, smooth_max, smooth_min, smoothstep
from models.demo.identity import Identity

EYE_DEPTH = 68.0
EYEBALL_RADIUS = 13.4  # larger than life (12.3), so that the white reaches both corners of the aperture
LID_RADIUS = 14.6
LID_SQUASH = 0.90  # the lid ball is this much flatter sideways
FISSURE_HALF_WIDTH = 15.2
MOUTH_Y = -70.0
LENS_HALF_HEIGHT = 2.4  # of the mouth at rest
CAVITY_REACH = 72.0  # the slit is cut back to this depth, the cavity takes over behind


def upper_lid(t: Value, who: Identity) -> Array:
    """Height of the upper lid's edge at t = -1 (inner corner) .. 1 (outer corner)."""
    u = np.maximum(0.0, 1.0 - t * t)
    return who.eye_opening * 4.6 * u**0.76 * (1.0 - 0.16 * t) + 0.9 * t


def lower_lid(t: Value, who: Identity) -> Array:
    """Height of the lower lid's edge, as `upper_lid`."""
    u = np.maximum(0.0, 1.0 - t * t)
    return -who.eye_opening * 5.0 * u**0.95 * (1.0 + 0.20 * t) + 0.9 * t


def lid_parameter(x: Array, who: Identity) -> Array:
    """t of `upper_lid` for a lateral position; beyond the corners |t| > 1."""
    return (np.abs(x) - who.eye_offset) / (FISSURE_HALF_WIDTH * who.eye_width)


def lip_depth(x: Array) -> Array:
    """z of the line where the lips meet: they follow the arch of the teeth."""
    return 99.6 - 0.0135 * x * x


def lens_half_height(x: Array, who: Identity) -> Array:
    """Half the opening of the mouth at rest; negative beyond the corners."""
    t = np.abs(x) / who.mouth_half_width
    return np.where(t < 1.0, LENS_HALF_HEIGHT * (1.0 - t * t), (1.0 - t) * who.mouth_half_width * 0.5)


def upper_vermilion(x: Value, who: Identity) -> Array:
    """y of the border between the upper lip and the skin at rest, with the notch of the cupid's bow."""
    u = np.maximum(0.0, 1.0 - (x / who.mouth_half_width) ** 2)
    bow = 7.6 * u**0.8 - 1.3 * bell(x, 3.2) + 0.5 * bell(np.abs(x) - 6.0, 3.0)
    return MOUTH_Y + LENS_HALF_HEIGHT * u + who.lip_fullness * bow


def lower_vermilion(x: Value, who: Identity) -> Array:
    """y of the border between the lower lip and the skin at rest."""
    u = np.maximum(0.0, 1.0 - (x / who.mouth_half_width) ** 2)
    return MOUTH_Y - LENS_HALF_HEIGHT * u - who.lip_fullness * 9.6 * u**0.66


def brow_line(s: Value) -> Array:
    """y of the middle of the brow for s = 0 (inner end) .. 1 (outer end)."""
    return 18.2 + 3.8 * np.sin(2.35 * s) - 3.8 * s * s


BROW_START, BROW_LENGTH = 10.0, 46.0  # x of s = 0, and from there to s = 1


def skull_distance(x: Array, y: Array, z: Array) -> Array:
    """Cranium and forehead, which the hair grows from; x must not be negative."""
    cranium = ellipsoid(x, y - 40.0, z + 3.0, 74.0, 76.0, 97.0)
    return smooth_min(cranium, ellipsoid(x, y - 34.0, z - 50.0, 58.0, 46.0, 49.0), 16.0)


def _bones_and_neck(x: Array, y: Array, z: Array, who: Identity) -> Array:
    jaw, chin, length = who.jaw_width, who.chin, who.face_length
    d = skull_distance(x, y, z)
    d = smooth_min(d, ellipsoid(x, y + 28, z - 36, 60, 74, 57), 22)  # middle of the face
    d = smooth_min(d, ellipsoid(x - 43, y + 21, z - 55, 20 + who.cheek, 14 + who.cheek, 23), 22)  # cheek bone
    d = smooth_min(d, ellipsoid(x, y + 60, z - 64, 34, 34, 31.5), 18)  # muzzle
    ramus = round_cone(x, y, z, (50 + jaw, -20, 8), (43 + jaw, -64 - 0.5 * length, 14), 11, 11)
    d = smooth_min(d, ramus, 22)
    body = round_cone(x, y, z, (42 + jaw, -67 - 0.5 * length, 18), (13 + 0.3 * jaw, -100 - length, 76), 12, 15)
    d = smooth_min(d, body, 24)
    tip = ellipsoid(x, y + 100 + length, z - 81, 18 + 0.4 * jaw, 14 + 0.4 * chin, 16.5 + 0.6 * chin)
    d = smooth_min(d, tip, 15)
    d = smooth_min(d, ellipsoid(x - 33, y + 52, z - 60, 22, 27, 25), 26)  # cheek pad
    radius = who.neck_radius
    d = smooth_min(d, round_cone(x, y, z, (0, -70, -20), (0, -215, -40), radius, radius + 9), 22)
    # Without this cone under the tongue the profile shows a hook below the chin.
    d = smooth_min(d, round_cone(x, y, z, (0, -92 - length, 66), (0, -104 - 0.5 * length, 14), 19, 24), 26)
    d = smooth_min(d, round_cone(x, y, z, (50, -60, -24), (16, -205, 2), 8, 8), 34)  # sternomastoid
    d = smooth_min(d, ellipsoid(x, y + 134, z - 16 - who.larynx, 11, 12, 9), 22)
    return smooth_min(d, ellipsoid(x, y + 258, z + 34, 120, 72, 58), 40)  # chest


def _orbit(d: Array, x: Array, y: Array, z: Array, who: Identity) -> Array:
    """Brow ridge, eye socket and the lid ball with its creases."""
    ridge = bell(x - 26, 15) * bell(y - 19 + 0.006 * (x - 26) ** 2, 6) * bell(z - 90, 18)
    d = d - 2.2 * who.brow_ridge * ridge - 1.2 * bell(x, 12) * bell(y - 20, 8) * bell(z - 96, 20)
    lateral = x - who.eye_offset
    d = smooth_max(d, -ellipsoid(lateral - 0.5, y - 3, z - 95.5, 21, 12.5, 16), 15)
    inner_corner = ellipsoid(x - (who.eye_offset - 16), y - 1.5, z - 94, 7, 10, 11)
    d = smooth_max(d, -inner_corner, 10)
    depth = z - EYE_DEPTH
    ball = np.sqrt(LID_SQUASH * lateral**2 + y * y + depth * depth)
    d = smooth_min(d, ball - LID_RADIUS, 7)
    elevation = np.arctan2(y, np.maximum(depth, 1e-3))
    # The creases must end before the socket does, or raising the brow shows a vertical seam.
    fade = bell(lateral, 9.5) * smoothstep(22, 14, np.abs(lateral)) * (depth > 0)
    arch = 0.0006 * lateral**2
    d = d + 1.05 * bell(elevation - 0.66 + arch, 0.075) * fade * bell(ball - LID_RADIUS, 4)
    d = d - 0.9 * bell(elevation - 0.83, 0.13) * fade * bell(ball - LID_RADIUS, 6)
    d = d + 0.5 * bell(elevation + 0.66 - arch, 0.10) * fade * bell(ball - LID_RADIUS, 4)
    return d + 0.8 * bell(x - 24 + 0.35 * (y + 14), 5) * bell(y + 16, 6) * bell(z - 84, 14)  # tear trough


def _nose(d: Array, x: Array, y: Array, z: Array, who: Identity) -> Array:
    wide = who.nose_width
    tip = -36.0 - who.nose_length
    d = smooth_min(d, round_cone(x, y, z, (0, 6, 88), (0, tip + 4, 107), 4.6, 6.4), 11)
    d = smooth_min(d, ellipsoid(x, y - tip - 8, z - 94, 10.4 + wide, 21, 12), 9)
    d = smooth_min(d, ellipsoid(x, y - tip, z - 110.8, 7.9 + 0.5 * wide, 7.4, 8.2), 6)
    d = smooth_min(d, ellipsoid(x - 11.6 - wide, y - tip + 4.4, z - 100.5, 5.0, 6.0, 8.4), 8.5)  # wing
    d = smooth_min(d, ellipsoid(x, y - tip + 8.5, z - 104, 3.6, 4.4, 8.5), 4.5)  # between the nostrils
    nostril = ellipsoid(x - 6.6 - 0.7 * wide, y - tip + 9.6 - 0.15 * (z - 104), z - 104.4, 2.7, 5.0, 5.0)
    d = smooth_max(d, -nostril, 2.6)
    return d + 0.9 * bell(x - 18 - wide, 2.4) * bell(y - tip + 4, 6) * bell(z - 97, 10)


def _folds(d: Array, x: Array, y: Array, z: Array, who: Identity) -> Array:
    """Philtrum, the fold from nose to mouth, the groove above the chin, the hollow of the temple."""
    d = d + 1.0 * bell(x, 2.6) * bell(y + 57, 6.5) * bell(z - 100, 14)
    d = d - 0.55 * bell(x - 5.2, 2.0) * bell(y + 57, 7) * bell(z - 100, 14)
    t = np.clip(((x - 19) * 13 + (y + 44) * -26) / (13 * 13 + 26 * 26), 0.0, 1.0)
    from_fold = np.sqrt((x - 19 - 13 * t) ** 2 + (y + 44 + 26 * t) ** 2)
    d = d + 0.75 * bell(from_fold, 3.6) * (1 - 0.6 * t) * bell(z - 88, 18)
    groove = bell(y + 85.5 + 0.3 * who.face_length - 0.006 * x * x, 4.2) * bell(x, 15) * bell(z - 98, 16)
    return d + 2.3 * groove


def _lips(d: Array, x: Array, y: Array, z: Array, who: Identity) -> Array:
    """Two tubes along the lip line, pinched at the corners."""
    end = who.mouth_half_width + 1.5
    u = np.maximum(0.0, 1.0 - (x / end) ** 2)
    thick, line = u**0.5, lip_depth(x)
    full = who.lip_fullness
    beyond = np.maximum(x - end, 0.0)
    for side, raise_, radius, depth in (
        (1.0, (3.3 - 0.6 * bell(x, 3)) * full, 0.6 + 4.5 * full * thick, line + 0.2),
        (-1.0, 4.4 * full, 0.6 + 5.3 * full * thick, line - 0.7),
    ):
        centre = MOUTH_Y + side * (LENS_HALF_HEIGHT * u + raise_ * u**0.6)
        tube = np.sqrt((y - centre) ** 2 + (z - depth) ** 2) - radius
        tube = np.where(beyond > 0, np.sqrt(np.maximum(tube, 0.0) ** 2 + beyond**2), tube)
        d = smooth_min(d, 0.92 * tube, 4.2)
    corner = who.mouth_half_width + 2.5
    return d + 0.9 * bell(x - corner, 3.0) * bell(y - MOUTH_Y + 0.5, 3.5) * bell(z - 90, 10)


def _ear(d: Array, x: Array, y: Array, z: Array) -> Array:
    """A plate that flares from the skull, with a hollow, a rim, an inner ridge and a tragus."""
    flare, lean = 0.42, 0.2
    px, py, pz = x - 73.5, y + 7.0, z + 12.0
    out = math.cos(flare) * px + math.sin(flare) * pz
    along = -math.sin(flare) * px + math.cos(flare) * pz
    up = math.cos(lean) * py + math.sin(lean) * along
    along = math.cos(lean) * along + math.sin(lean) * py
    widening = 1.0 + 0.010 * up
    ear = ellipsoid(out - 2.0, up, along, 4.6, 29.0, 16.5 * widening)
    outline = np.sqrt((up / 26.5) ** 2 + (along / (14.5 * widening)) ** 2)
    rim = np.sqrt((out - 4.8) ** 2 + ((outline - 0.93) * 15) ** 2) - 2.3
    ear = smooth_max(ear, -ellipsoid(out - 7, up - 2, along - 1, 5.2, 23, 10.5 * widening), 3)
    ear = smooth_min(ear, rim, 2.5)
    ear = smooth_min(ear, ellipsoid(out - 4, up - 1, along + 4.5, 2.3, 15, 2.3), 4)
    ear = smooth_min(ear, ellipsoid(out - 2, up + 8, along - 13, 4, 5, 3.4), 5)
    return smooth_min(d, ear, 5)


def skin_distance(points: Array, who: Identity) -> Array:
    """Distance to the head with eyes and mouth uncarved. `points` [N, 3] in mm; returns [N]."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    d = _bones_and_neck(x, y, z, who)
    d = d + 2.0 * bell(x - 62, 9) * bell(y - 22, 16) * bell(z - 52, 22)
    # The small features are blended only where they can reach; elsewhere they would cost time and change nothing.
    for inside, feature in (
        ((z > 20) & (x < 75) & (np.abs(y - 3) < 60), _orbit),
        ((z > 40) & (x < 40) & (y < 30) & (y > -75), _nose),
        ((z > 30) & (x < 75) & (y < -15) & (y > -125), _folds),
        ((z > 60) & (x < 40) & (np.abs(y - MOUTH_Y) < 32), _lips),
    ):
        if inside.any():
            d[inside] = feature(d[inside], x[inside], y[inside], z[inside], who)
    side = x > 55
    if side.any():
        d[side] = _ear(d[side], x[side], y[side], z[side])
    return d


def head_distance(points: Array, who: Identity) -> Array:
    """Distance to the head with the lid apertures and the mouth carved out. `points` [N, 3] in mm; returns [N]."""
    d = skin_distance(points, who)
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    t = lid_parameter(x, who)
    near = (z > EYE_DEPTH - 3) & (np.abs(t) < 1.6) & (np.abs(y) < 30)
    if near.any():
        d[near] = smooth_max(d[near], -_aperture(t[near], y[near], z[near], who), 1.2)
    near = (z > 20) & (np.abs(y - MOUTH_Y) < 50) & (x < 45)
    if near.any():
        xm, ym, zm = x[near], y[near], z[near]
        slit = np.maximum(0.95 * (np.abs(ym - MOUTH_Y) - lens_half_height(xm, who)), CAVITY_REACH - zm)
        cavity = ellipsoid(xm, ym - MOUTH_Y + 1, zm - 64, 26, 17, 27)
        d[near] = smooth_max(smooth_max(d[near], -slit, 4.0), -cavity, 3.0)
    return d


def _aperture(t: Array, y: Array, z: Array, who: Identity) -> Array:
    inside = np.clip(t, -1.0, 1.0)
    almond = np.maximum(y - upper_lid(inside, who), lower_lid(inside, who) - y)
    almond = np.maximum(almond, (np.abs(t) - 1.0) * FISSURE_HALF_WIDTH)
    return np.maximum(almond, EYE_DEPTH - z)
