"""Colour of every surface as a function of its rest position.

What varies slowly (speckle, redness, beard) is computed per vertex. What needs sharp edges (lips, brows, lashes, iris,
teeth, ribs of the collar) is painted into `Sheet`s, textures that a projection along z lays on one part.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from models.demo.cloth import collar_coordinates
from models.demo.fields import Array, bell, smoothstep, value_noise
from models.demo.hair import hair_line
from models.demo.identity import Identity, Look
from models.demo.shape import (
    BROW_LENGTH,
    BROW_START,
    EYEBALL_RADIUS,
    MOUTH_Y,
    brow_line,
    lid_parameter,
    lower_lid,
    lower_vermilion,
    upper_lid,
    upper_vermilion,
)
from models.parsing.labels import BROWS, CLOTH, EYES, HAIR, LIPS, MOUTH, TEETH

# Channels of a sheet.
RED, GREEN, BLUE, ALPHA, GLOSS, BUMP, REACH, LABEL = range(8)
FINEST = 0.25  # mm per texel

UPPER_TOOTH_EDGES = np.array([0.0, 8.6, 15.2, 22.6, 29.0])
LOWER_TOOTH_EDGES = np.array([0.0, 5.4, 11.2, 17.8, 24.5])
UPPER_TOOTH_TIP, LOWER_TOOTH_TIP = -3.4, -3.0  # mm above the lip line
TOOTH_HEIGHT = 15.0


@dataclass(frozen=True)
class Sheet:
    """A texture laid on a part by its rest x and y.

    values [H, W, 8]: linear RGB, alpha over the vertex colour, gloss, bump, the depth (mm) down to which it
    reaches, and the label. Row 0 is the lowest y.
    """

    values: Array
    low_x: float
    low_y: float
    texel: float


def _canvas(low: tuple[float, float], high: tuple[float, float], texel: float = FINEST) -> tuple[Array, Array, Array]:
    xs = np.arange(low[0], high[0], texel, dtype=np.float32) + texel / 2
    ys = np.arange(low[1], high[1], texel, dtype=np.float32) + texel / 2
    x, y = np.meshgrid(xs, ys)
    values = np.zeros((len(ys), len(xs), 8), np.float32)
    values[..., REACH] = 1e3
    return x, y, values


def _over(values: Array, alpha: Array, colour: Array | tuple[float, ...], gloss: float | None = None) -> None:
    """Composite a layer over the premultiplied canvas, in place."""
    a = np.clip(alpha, 0.0, 1.0)[..., None]
    values[..., :3] = values[..., :3] * (1 - a) + np.asarray(colour, np.float32) * a
    values[..., ALPHA] = values[..., ALPHA] * (1 - a[..., 0]) + a[..., 0]
    if gloss is not None:
        values[..., GLOSS] = values[..., GLOSS] * (1 - a[..., 0]) + gloss * a[..., 0]


def _finish(values: Array, low: tuple[float, float], texel: float, wanted: float) -> Sheet:
    """Coarsen to about the `wanted` texel, so that sampling it once per pixel does not flicker."""
    factor = max(1, round(wanted / texel))
    if factor > 1:
        height, width = values.shape[0] // factor, values.shape[1] // factor
        cut = values[: height * factor, : width * factor]
        small = np.stack([cv2.resize(cut[..., c], (width, height), interpolation=cv2.INTER_AREA) for c in range(8)], -1)
        for channel in (REACH, LABEL):
            small[..., channel] = cut[factor // 2 :: factor, factor // 2 :: factor, channel]
        values, texel = small, texel * factor
    return Sheet(np.ascontiguousarray(values, np.float32), low[0], low[1], texel)


def face_sheet(who: Identity, look: Look, wanted: float) -> Sheet:
    """Brows, lips, lashes and lid lines, over the skin. `wanted`: texel size in mm."""
    low, high = (-66.0, -98.0), (66.0, 36.0)
    x, y, values = _canvas(low, high)
    for rows, painter in (((y[:, 0] > 4), _brows), ((np.abs(y[:, 0]) < 16), _lids), ((y[:, 0] < -48), _lips)):
        part = values[rows]
        painter(part, x[rows], y[rows], who, look)
        values[rows] = part
    return _finish(values, low, FINEST, wanted)


def _brows(values: Array, x: Array, y: Array, who: Identity, look: Look) -> None:
    side = np.abs(x)
    free = (side - BROW_START) / BROW_LENGTH
    s = np.clip(free, 0.0, 1.0)
    half = 3.4 * look.brow_thickness * (1 - 0.75 * s**1.6) * smoothstep(-0.05, 0.10, free) + 0.5
    off = y - brow_line(s)
    q = off / half
    # Hairs lean outwards, more so towards the outer end.
    grain = value_noise((side * 0.9 - off * (1.1 - 1.0 * s)) * 1.15, off * 0.28 + s * 3, 7.0 + 9.0 * (x > 0))
    density = np.exp(-0.9 * q**4) * smoothstep(1.45, 0.6, np.abs(q) + 0.75 * (grain - 0.5))
    density *= (0.62 + 0.55 * grain) * look.brow_density
    density *= smoothstep(1.05, 0.75, free) * smoothstep(-0.05, 0.16, free + 0.12 * (grain - 0.5))
    _over(values, density, look.brows, 0.1)
    values[..., LABEL] = np.where(density > 0.38, BROWS, values[..., LABEL])


def _lids(values: Array, x: Array, y: Array, who: Identity, look: Look) -> None:
    t = lid_parameter(x, who)
    inside = np.clip(t, -1.0, 1.0)
    above, below = y - upper_lid(inside, who), lower_lid(inside, who) - y
    beyond = np.maximum(np.abs(t) - 1, 0) * 15.2
    upper = above > below
    near = smoothstep(1.5, 1.1, np.abs(t))
    crease = bell(above - 3.0 - 0.4 * t, 0.75) * smoothstep(-0.95, -0.5, t) * smoothstep(1.2, 0.7, t) * upper
    _over(values, 0.42 * crease * near, (0.20, 0.085, 0.06), 0.4)
    wet = bell(below - 0.1, 0.45) * (np.abs(t) < 1) * ~upper
    _over(values, 0.30 * wet, (0.55, 0.27, 0.23), 1.0)
    width = 1.0 + 0.65 * (t + 1) * 0.5
    strands = 0.75 + 0.5 * value_noise(x * 1.9 + 0.8 * above * np.sign(x), above * 0.3, 21.0)
    lash = bell(np.maximum(above, 0), width) * bell(beyond, 0.9) * smoothstep(-0.98, -0.6, t) * upper
    lower = bell(np.maximum(below, 0), 0.6) * bell(beyond, 1.0) * smoothstep(-0.7, 0.3, t) * ~upper
    _over(values, look.lashes * (lash * strands + 0.36 * lower), (0.018, 0.012, 0.010), 0.1)
    # The paint must not run down the walls of the aperture.
    values[..., REACH] = np.where(near > 0, 2.2, values[..., REACH])


def _lips(values: Array, x: Array, y: Array, who: Identity, look: Look) -> None:
    edge = np.minimum(upper_vermilion(x, who) - y, y - lower_vermilion(x, who))
    soft = smoothstep(-1.0, 1.1, edge + 0.8 * (value_noise(x * 0.5, y * 0.5, 1.0) - 0.5))
    half = who.mouth_half_width
    soft = soft * smoothstep(half + 2.0, half - 2.5, np.abs(x))
    creases = value_noise(x * 1.25, y * 0.18, 2.0) - 0.5
    tone = (1 + 0.22 * creases) * np.where(y > MOUTH_Y, 0.82, 1.04)
    _over(values, soft, np.asarray(look.lips) * tone[..., None], 1.05)
    values[..., BUMP] = 0.15 * soft * creases
    values[..., REACH] = np.where(soft > 0, 7.5, values[..., REACH])
    values[..., LABEL] = np.where(soft > 0.5, LIPS, values[..., LABEL])


def eye_sheet(look: Look, wanted: float) -> Sheet:
    """White, iris and pupil on the eyeball's own x and y."""
    r = EYEBALL_RADIUS + 0.5
    texel = 0.08
    x, y, values = _canvas((-r, -r), (r, r), texel)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    blotch = value_noise(x * 0.5, y * 0.5, 3.0)
    veins = smoothstep(6, 12, radius)
    white = 0.56 * (1 - 0.14 * smoothstep(5, 12, radius))
    tint = np.stack([1 - 0.02 * blotch, 0.94 - 0.07 * blotch * veins, 0.91 - 0.10 * blotch * veins], -1)
    _over(values, np.ones_like(x), white[..., None] * tint, 0.75)
    iris = 6.1
    q = radius / iris
    turn = angle / (2 * np.pi) * 64.0  # the noise has period 64: no seam behind the ear-ward side
    fibres = 0.7 * value_noise(turn * 1.0, radius * 0.35, 5.0) + 0.5 * value_noise(turn * 2.0, radius * 0.9, 11.0)
    glow = (0.22 + 0.58 * fibres) * (0.75 + 0.45 * bell(q - 0.55, 0.22)) * (1 - 0.75 * smoothstep(0.80, 1.0, q))
    colour = np.asarray(look.iris)
    warm = 0.25 * bell(q - 0.42, 0.12)[..., None] * colour * np.array([0.9, 0.5, 0.0])
    _over(values, smoothstep(iris + 0.45, iris - 0.45, radius), colour * glow[..., None] + warm, 0.75)
    _over(values, smoothstep(2.75, 2.30, radius), (0.004, 0.004, 0.004), 0.75)
    values[..., LABEL] = EYES
    return _finish(values, (-r, -r), texel, wanted)


def tooth_position(x: Array, upper: bool) -> Array:
    """-1..1 across the tooth that x lies on."""
    edges = UPPER_TOOTH_EDGES if upper else LOWER_TOOTH_EDGES
    side = np.abs(x)
    i = np.clip(np.searchsorted(edges, side, side="right") - 1, 0, len(edges) - 2)
    return (side - edges[i]) / (edges[i + 1] - edges[i]) * 2 - 1


def tooth_sheet(upper: bool, wanted: float) -> Sheet:
    """One row of teeth with its gum."""
    tip = MOUTH_Y + (UPPER_TOOTH_TIP if upper else LOWER_TOOTH_TIP)
    low = (-24.0, tip - 2.0 if upper else tip - TOOTH_HEIGHT - 1.0)
    high = (24.0, tip + TOOTH_HEIGHT + 1.0 if upper else tip + 2.0)
    x, y, values = _canvas(low, high)
    height = (y - tip) if upper else (tip - y)
    across = tooth_position(x, upper)
    tone = (1 - 0.45 * smoothstep(0.80, 1.0, np.abs(across))) * (1 - 0.10 * smoothstep(6, 9, height))
    tone = tone[..., None] * np.array([1.0, 0.985, 0.96])
    _over(values, np.ones_like(x), np.array([0.62, 0.575, 0.49]) * tone, 0.5)
    gum = smoothstep(-0.6, 0.6, height - (9.3 if upper else 8.0) - 1.6 * across**2 + 1.0)
    _over(values, gum, (0.42, 0.15, 0.14), 0.5)
    values[..., LABEL] = np.where(gum > 0.5, MOUTH, TEETH)
    return _finish(values, low, FINEST, wanted)


def hair_sheet(wanted: float) -> Sheet:
    """Strands: x is the azimuth and y the polar angle (rad) about the whorl, times 60 mm. RGB is a brightness."""
    scale = 60.0
    low, high = (-np.pi * scale, 0.0), (np.pi * scale, 3.2 * scale)
    texel = 0.5
    x, y, values = _canvas(low, high, texel)
    azimuth, polar = x / scale, y / scale
    wave = 0.5 * (value_noise(azimuth * 3.0, polar * 2.2, 4.0) - 0.5)
    coarse = value_noise((azimuth + 0.16 * wave) * 46, polar * 1.6, 1.0)
    fine = value_noise((azimuth + 0.10 * wave) * 95, polar * 2.6, 9.0)
    clump = value_noise((azimuth + 0.2 * wave) * 15, polar * 1.3, 2.0)
    tone = (0.45 + 0.45 * coarse + 0.42 * fine + 0.38 * (clump - 0.5)) * (0.72 + 0.55 * clump)
    _over(values, np.ones_like(x), tone[..., None] * np.ones(3))
    values[..., GLOSS] = fine
    values[..., BUMP] = 0.5 * (coarse - 0.5)
    values[..., LABEL] = HAIR
    return _finish(values, low, texel, wanted)


def cloth_colours(points: Array, who: Identity, look: Look) -> Array:
    """Vertex colours [N, 3] of the jumper: slow unevenness and the seam below the collar."""
    x, y, z = points.T
    tone = 1 + 0.14 * (value_noise(x * 0.05, y * 0.05, z * 0.05) - 0.5)
    height, radius = collar_coordinates(points, who)
    tone = tone * (1 - 0.35 * bell(height + 8.5, 1.6) * (radius < 1.13))
    return (np.asarray(look.cloth) * tone[:, None]).astype(np.float32)


def cloth_sheet(who: Identity, wanted: float) -> Sheet:
    """Knit of the jumper and ribs of the collar; RGB is a brightness over the vertex colour."""
    low, high = (-180.0, -232.0), (180.0, -128.0)
    texel = 0.5
    x, y, values = _canvas(low, high, texel)
    # The front of the collar, seen along z, as a function of x alone.
    ring = np.sqrt(np.maximum(1 - (x / (1.25 * (who.neck_radius + 14))) ** 2, 0.0))
    z = ring * (who.neck_radius + 15) - 30
    points = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)
    height, _ = collar_coordinates(points, who)
    collar = (np.abs(height.reshape(x.shape) - 1) < 9) & (np.abs(x) < who.neck_radius + 18)
    ribs = 0.94 + 0.22 * np.sin(np.arctan2(x, z + 30) * 95)
    knit = 1 + 0.06 * np.sin((y + 0.1 * x) * 2.1) * np.sin(x * 2.1) + 0.22 * (value_noise(x * 0.9, y * 0.9, 5.0) - 0.5)
    _over(values, np.ones_like(x), np.where(collar, ribs, knit)[..., None] * np.ones(3), 0.12)
    values[..., LABEL] = CLOTH
    return _finish(values, low, texel, wanted)


def skin_colours(points: Array, depth: Array, who: Identity, look: Look) -> tuple[Array, Array]:
    """Vertex colours [N, 3] of head and neck, and how much of each is scalp hair [N].

    `depth` [N]: mm below the skin before the lids and the mouth were carved.
    """
    x, y, z = points.T
    side = np.abs(x)
    coarse = value_noise(x * 0.045 + 5, y * 0.045, z * 0.045) - 0.5
    middle = value_noise(x * 0.16, y * 0.16 + 9, z * 0.16) - 0.5
    fine = value_noise(x * 0.75, y * 0.75, z * 0.75 + 3) - 0.5
    tone = 1 + 0.10 * coarse + 0.08 * middle + 0.09 * fine
    tone = tone * (1 - 0.13 * bell(side - 27, 10) * bell(y + 15, 5) * smoothstep(50, 75, z))
    red = 0.55 * bell(side - 42, 15) * bell(y + 32, 15) * bell(z - 70, 30)
    red = red + 0.75 * bell(x, 13) * bell(y + 38, 9) * bell(z - 106, 14)
    red = red + 0.35 * bell(x, 20) * bell(y + 103, 10) * smoothstep(40, 80, z)
    red = red + 0.7 * smoothstep(66, 80, side) * smoothstep(30, 0, z) + 0.25 * middle
    lids = np.exp(-0.5 * (((side - who.eye_offset) / 17) ** 2 + ((y - 3) / 8.5) ** 2)) * smoothstep(50, 72, z)
    colour = np.asarray(look.skin) * tone[:, None]
    colour = colour * (1 + red[:, None] * np.array([0.03, -0.17, -0.14]))
    colour = colour * (1 - lids[:, None] * np.array([0.10, 0.17, 0.14]))
    beard = smoothstep(-40, -62, y) * smoothstep(-128, -104, y + 0.1 * z) * smoothstep(-5, 25, z)
    beard = look.beard * beard * (1 - bell(side - 34, 10) * bell(y + 42, 14))
    stubble = beard * (0.6 + 0.8 * value_noise(x * 1.3, y * 1.3, z * 1.3))
    colour = colour * (1 - stubble[:, None] * np.array([0.30, 0.25, 0.19]))
    # The walls of the lid aperture are the inside of the lids: pink.
    in_eye = (np.abs(lid_parameter(x, who)) < 1.25) & (np.abs(y) < 16) & (z > 60)
    wall = (smoothstep(1.3, 2.6, depth) * in_eye)[:, None]
    colour = colour * (1 - wall) + np.array([0.40, 0.17, 0.15]) * wall
    scalp = np.zeros(len(points))
    if who.hair != "none":
        azimuth = np.arctan2(x, z - 5)
        jag = value_noise(azimuth * 70, y * 0.10, 3.0) - 0.5
        scalp = smoothstep(-9, 6, y - hair_line(azimuth, who) + 9 * jag) * (y > -20) * (side < 71)
        colour = colour * (1 - scalp[:, None]) + 0.8 * np.asarray(look.hair) * scalp[:, None]
    return colour.astype(np.float32), scalp.astype(np.float32)


def hair_colours(points: Array, who: Identity, look: Look) -> Array:
    """Vertex colours [N, 3] of the hair: dark at the roots along the hair line."""
    x, y, z = points.T
    above = y - hair_line(np.arctan2(x, z - 5), who)
    return (np.asarray(look.hair) * (0.5 + 0.5 * smoothstep(-4, 26, above))[:, None]).astype(np.float32)


def room(size: int, kind: int) -> Array:
    """A wall with a patch of light and two or three blurred things on it. Returns linear RGB [size, size, 3]."""
    y, x = (np.mgrid[0:size, 0:size].astype(np.float32) + 0.5) / size
    wall = np.array([[0.40, 0.42, 0.43], [0.46, 0.42, 0.36]][kind], np.float32)
    light = 0.62 + 0.55 * np.exp(-(((x - 0.18) / 0.55) ** 2 + ((y - 0.25) / 0.6) ** 2))
    image = light[..., None] * wall

    def box(corners: tuple[float, float, float, float], colour: tuple[float, ...], blur: float, alpha: float) -> None:
        nonlocal image
        x0, y0, x1, y1 = corners
        mask = ((x > x0) & (x < x1) & (y > y0) & (y < y1)).astype(np.float32)
        mask = cv2.GaussianBlur(mask, (0, 0), max(blur * size / 512, 0.3))[..., None] * alpha
        image = image * (1 - mask) + np.array(colour, np.float32) * mask

    if kind == 0:
        box((0.80, -0.1, 1.1, 1.1), (0.27, 0.25, 0.23), 7, 1.0)
        box((0.83, -0.1, 0.86, 1.1), (0.20, 0.18, 0.165), 6, 0.8)
        box((-0.1, 0.10, 0.10, 0.42), (0.70, 0.72, 0.72), 10, 0.7)
        box((-0.1, 0.78, 1.1, 0.80), (0.30, 0.31, 0.31), 6, 0.5)
    else:
        box((0.74, 0.08, 0.97, 0.36), (0.20, 0.15, 0.11), 7, 1.0)
        box((0.765, 0.11, 0.945, 0.33), (0.42, 0.36, 0.28), 7, 1.0)
        box((-0.1, -0.1, 0.12, 1.1), (0.58, 0.50, 0.40), 12, 0.6)
    grain = np.random.default_rng(3).normal(0, 1, (size, size)).astype(np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), max(2 * size / 512, 0.3)) * 0.02
    return (image * (1 + grain[..., None])).astype(np.float32)
