"""Small functions of position that the shape, the expressions and the colours are written with. All are vectorised."""

import numpy as np

Array = np.ndarray
Value = np.ndarray | np.floating | float  # where a plain number will do as well


def bell(x: Value, width: Value) -> Array:
    """Gaussian of standard deviation `width` and height 1."""
    return np.exp(-0.5 * (x / width) ** 2)


def smoothstep(start: float, end: float, x: Value) -> Array:
    """0 at `start`, 1 at `end` (which may be the smaller), with zero slope at both."""
    t = np.clip((x - start) / (end - start), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def smooth_min(a: Array, b: Array, width: float) -> Array:
    """Union of two distance fields, rounded where they differ by less than `width` (polynomial smooth minimum)."""
    h = np.maximum(width - np.abs(a - b), 0.0)
    return np.minimum(a, b) - h * h * (0.25 / width)


def smooth_max(a: Array, b: Array, width: float) -> Array:
    """Intersection of two distance fields, rounded like `smooth_min`."""
    h = np.maximum(width - np.abs(a - b), 0.0)
    return np.maximum(a, b) + h * h * (0.25 / width)


def ellipsoid(x: Array, y: Array, z: Array, rx: Value, ry: Value, rz: Value) -> Array:
    """First-order distance to an axis-aligned ellipsoid at the origin: f / |grad f|."""
    a, b, c = x / rx, y / ry, z / rz
    norm = np.sqrt(a * a + b * b + c * c) + 1e-9
    gradient = np.sqrt((a / rx) ** 2 + (b / ry) ** 2 + (c / rz) ** 2) + 1e-9
    return norm * (norm - 1.0) / gradient


Point = tuple[float, float, float]


def round_cone(x: Array, y: Array, z: Array, start: Point, end: Point, start_radius: float, end_radius: float) -> Array:
    """Distance to a capsule whose radius goes linearly from one end to the other."""
    dx, dy, dz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    px, py, pz = x - start[0], y - start[1], z - start[2]
    t = np.clip((px * dx + py * dy + pz * dz) / (dx * dx + dy * dy + dz * dz), 0.0, 1.0)
    axis = np.sqrt((px - t * dx) ** 2 + (py - t * dy) ** 2 + (pz - t * dz) ** 2)
    return axis - (start_radius + (end_radius - start_radius) * t)


_LATTICE = np.random.default_rng(7).random((64, 64, 64), dtype=np.float32)


def value_noise(x: Value, y: Value, z: Value) -> Array:
    """Smooth random function in 0..1 with features of size 1, the same on every machine; period 64."""
    x, y, z = np.broadcast_arrays(*(np.asarray(v, np.float32) for v in (x, y, z)))
    cells, weights = [], []
    for v in (x, y, z):
        whole = np.floor(v)
        f = v - whole
        cells.append(whole.astype(np.int32) & 63)
        weights.append(f * f * (3.0 - 2.0 * f))
    (i, j, k), (u, v, w) = cells, weights
    i1, j1, k1 = (i + 1) & 63, (j + 1) & 63, (k + 1) & 63
    c00 = _LATTICE[i, j, k] * (1 - u) + _LATTICE[i1, j, k] * u
    c10 = _LATTICE[i, j1, k] * (1 - u) + _LATTICE[i1, j1, k] * u
    c01 = _LATTICE[i, j, k1] * (1 - u) + _LATTICE[i1, j, k1] * u
    c11 = _LATTICE[i, j1, k1] * (1 - u) + _LATTICE[i1, j1, k1] * u
    return (c00 * (1 - v) + c10 * v) * (1 - w) + (c01 * (1 - v) + c11 * v) * w
