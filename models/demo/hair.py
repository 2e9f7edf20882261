"""Hair: a tapered shell grown from the skull, cut by a jagged hair line, with loose strands laid over it.

The shell alone looks like a cap; what makes it read as hair are the thin root zone, the dark roots, the painted
strands of `paint.py`, and the ribbons of `strands`, which break the outline and the hair line.
"""

import numpy as np

from models.demo.fields import Array, bell, ellipsoid, round_cone, smooth_max, smooth_min, smoothstep, value_noise
from models.demo.identity import Identity
from models.demo.shape import skull_distance

PARTING = 15.0  # x of the parting of the long hair
WHORL = (6.0, 20.0, -28.0)  # where the strands of the painted texture radiate from (x is used for long hair only)


def hair_line(azimuth: Array, who: Identity) -> Array:
    """Height of the hair's edge (mm) for an azimuth about the skull: 0 is the front, positive the subject's left."""
    if who.hair == "long":
        a = np.abs(azimuth - 0.16)
        line = 82.0 - 50.0 * np.minimum(a, 1.2) ** 1.7 - 95.0 * smoothstep(0.80, 1.30, a)
    else:
        a = np.abs(azimuth)
        line = 71.0 - 3.0 * bell(a, 0.22) + 8.0 * bell(a - 0.55, 0.17)  # front and the recess at the temple
        line = line - 72.0 * smoothstep(0.78, 1.10, a) - 28.0 * smoothstep(1.12, 1.30, a)  # side burn
        line = line + 40.0 * smoothstep(1.38, 1.52, a) - 98.0 * smoothstep(1.72, 2.05, a)  # over the ear, nape
    teeth = 1.6 * np.sin(azimuth * 23 + 0.7) + 1.2 * np.sin(azimuth * 47 + 2.0)
    return line + teeth * smoothstep(1.3, 0.9, a) * (0.35 if who.hair == "long" else 0.7)


def hair_distance(points: Array, who: Identity) -> Array:
    """Signed distance to the hair shell. `points` [N, 3] in mm; returns [N], far away everywhere without hair."""
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    if who.hair == "none":
        return np.full(len(points), 1e3, points.dtype)
    azimuth = np.arctan2(x, z - 5.0)
    line = hair_line(azimuth, who)
    shape = _long if who.hair == "long" else _short
    return shape(x, y, z, azimuth, line)


def _short(x: Array, y: Array, z: Array, azimuth: Array, line: Array) -> Array:
    side, around = np.abs(x), np.abs(azimuth)
    locks = np.sin(x * 0.10 + y * 0.05 + 0.6) * np.sin(z * 0.11 + y * 0.04)
    locks = locks + 0.6 * np.sin(x * 0.23 + 2) * np.sin(z * 0.19 + x * 0.05 + y * 0.2)
    locks = locks + 0.9 * np.sin(around * 31 + 0.02 * y) * np.sin(around * 13 + 1)
    quiff = 8.0 * bell(x + 14, 36) * smoothstep(66, 100, y) * bell(z - 62, 34)
    thickness = 9.0 + 8.0 * smoothstep(50, 112, y) + quiff - 6.5 * smoothstep(50, -20, y)
    taper = 0.05 + 0.95 * smoothstep(-8, 58, y - line) ** 0.9
    base = smooth_min(skull_distance(side, y, z), round_cone(side, y, z, (0, -62, -30), (0, 0, -40), 48, 70), 20)
    d = base - (thickness + locks) * taper
    d = smooth_max(d, 0.6 * (line - y) - 0.5 * locks, 4)
    return smooth_max(d, -78.0 - y - 0.25 * (z + 60), 8)


def _long(x: Array, y: Array, z: Array, azimuth: Array, line: Array) -> Array:
    side, around = np.abs(x), np.abs(azimuth)
    locks = 1.5 * np.sin(around * 22 + y * 0.02 + 0.5 * np.sin(y * 0.05)) + 0.9 * np.sin(around * 41 + 1.3 + y * 0.03)
    groove = 5.0 * bell(x - PARTING, 4) * smoothstep(60, 100, y)
    sweep = 5.0 * bell(x + 30, 34) * smoothstep(70, 108, y)
    thickness = 13.0 + 4.0 * smoothstep(40, 100, y) - groove + sweep
    taper = 0.05 + 0.95 * np.maximum(smoothstep(-8, 56, y - line) ** 0.9, smoothstep(0.7, 1.2, around))
    crown = skull_distance(side, y, z) - (thickness + 0.8 * locks * smoothstep(128, 70, y)) * taper
    crown = np.maximum(smooth_max(crown, 0.6 * (line - y), 5), -60.0 - y)
    curtain = ellipsoid(side, y + 10, z + 16, 94, 150, 92)
    opening = ellipsoid(side, y + 55, z - 42, 74 + 4 * smoothstep(-10, 40, y), 120, 78)
    curtain = smooth_max(smooth_max(curtain - 1.1 * locks, -opening, 9), y - 70.0, 20)
    d = smooth_min(crown, curtain, 12)
    return smooth_max(d, -126.0 + 3 * np.sin(azimuth * 13) - y + 10 * bell(azimuth, 0.9), 9)


def flow(points: Array, who: Identity) -> Array:
    """Direction in which hair lies, before it is laid against the shell. `points` [N, 3]; returns [N, 3], unit."""
    x, y, z = points.T
    down = np.zeros_like(points)
    if who.hair == "long":
        side = np.sign(x - PARTING + 1e-6)
        near_top = smoothstep(40, 105, y)
        down[:, 0] = side * (0.25 + 0.9 * near_top)
        down[:, 1] = -1.0
        down[:, 2] = -0.25 * near_top * smoothstep(0, 60, z)
    else:
        # Swept up and to the side over the brow, down and back elsewhere.
        front = smoothstep(25, 60, z) * smoothstep(45, 75, y)
        down[:, 0] = 0.25 * x / 70 * (1 - front) + 0.55 * front
        down[:, 1] = -1.0 + 1.5 * front
        down[:, 2] = -0.35 - 0.9 * front
    return down / np.linalg.norm(down, axis=1, keepdims=True)


def _normals(points: Array, who: Identity) -> Array:
    steps = np.eye(3, dtype=points.dtype)
    slopes = [solid_distance(points + s, who) - solid_distance(points - s, who) for s in steps]
    normal = np.stack(slopes, axis=1)
    return normal / (np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9)


def solid_distance(points: Array, who: Identity) -> Array:
    """Distance to hair and skull together: what strands lie on."""
    skull = skull_distance(np.abs(points[:, 0]), points[:, 1], points[:, 2])
    return np.minimum(hair_distance(points, who), skull)


def strands(shell: Array, who: Identity, count: int, least: float) -> tuple[Array, Array, Array, Array]:
    """Grow ribbons over the hair.

    Args:
        shell: points of the hair's surface [M, 3], from which the roots are drawn.
        who: whose hair.
        count: number of ribbons.
        least: smallest width of a ribbon in mm; thinner ones would flicker.

    Returns:
        vertices [V, 3] (mm), triangles [F, 3], tangents [V, 3] (unit), tone [V] (brightness factor).
    """
    if who.hair == "none" or not len(shell):
        raise ValueError("no hair to lay strands over")
    generator = np.random.default_rng(11)
    seen = shell[(shell[:, 2] > -45)]
    roots = seen[generator.integers(len(seen), size=count)].astype(np.float32)
    steps = 9
    reach = (60.0 if who.hair == "long" else 26.0) * generator.uniform(0.5, 1.25, count).astype(np.float32)
    lift = generator.gamma(1.6, 0.40, count).astype(np.float32)
    stray = generator.random(count) < 0.05
    lift[stray] += generator.uniform(0.5, 3.0, int(stray.sum())).astype(np.float32)
    wobble = generator.normal(0, 0.09, (count, 3)).astype(np.float32)
    path = np.empty((steps, count, 3), np.float32)
    point = roots.copy()
    for i in range(steps):
        normal = _normals(point, who)
        height = lift * (0.25 + 0.75 * i / (steps - 1))
        point = point - (solid_distance(point, who) - height)[:, None] * normal
        path[i] = point
        along = flow(point, who) + wobble
        along -= (along * normal).sum(1, keepdims=True) * normal
        along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-6
        point = point + along * (reach / (steps - 1))[:, None]
    # Nothing may hang over the open face: such ribbons end where they leave the hair's own area.
    azimuth = np.arctan2(path[..., 0], path[..., 2] - 5.0)
    overhang = 4.0 + 5.0 * value_noise(np.arange(count) * 0.37, 0.0, 0.0)
    inside = (path[..., 1] > hair_line(azimuth, who) - overhang) | (np.abs(azimuth) > 1.2)
    last = np.where(inside.all(0), steps, np.argmin(inside, axis=0))
    path = path[:, last > 2]
    width = np.maximum(generator.uniform(0.35, 0.8, count), 0.7 * least).astype(np.float32)[last > 2]
    tone = generator.lognormal(0.0, 0.16, count).astype(np.float32)[last > 2]
    last = last[last > 2]
    kept = path.shape[1]
    index = np.minimum(np.arange(steps)[:, None], last - 1)
    path = np.take_along_axis(path, index[..., None], axis=0)
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=2, keepdims=True) + 1e-6
    normal = _normals(path.reshape(-1, 3), who).reshape(path.shape)
    across = np.cross(tangent, normal)
    thin = np.sin(np.linspace(0.25, np.pi, steps))[:, None, None] * width[:, None]
    # One ribbon after the other: what is near on the head is near in memory.
    vertices = np.stack([path - across * thin, path + across * thin], axis=2).swapaxes(0, 1)  # [kept, steps, 2, 3]
    index = np.arange(vertices[..., 0].size).reshape(kept, steps, 2).swapaxes(0, 1)
    a, b, c, d = index[:-1, :, 0], index[:-1, :, 1], index[1:, :, 1], index[1:, :, 0]
    triangles = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    solid = (np.diff(path, axis=0) ** 2).sum(-1) > 1e-6  # drop the collapsed ends
    triangles = triangles[np.concatenate([solid.ravel(), solid.ravel()])]
    tangents = np.repeat(tangent.swapaxes(0, 1), 2, axis=1).reshape(-1, 3)
    return vertices.reshape(-1, 3), triangles.astype(np.int32), tangents, np.repeat(tone, 2 * steps)
