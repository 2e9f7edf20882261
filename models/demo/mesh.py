"""From distance fields to triangles: sampling where the surface is, marching cubes, baked occlusion and shadow."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.measure import marching_cubes

from models.demo.fields import Array

Field = Callable[[Array], Array]  # points [N, 3] -> distances [N]
Segments = list[tuple[float, float, float]]  # (start, end, step) in mm


def axis(segments: Segments) -> Array:
    """Sample positions along one axis, finer where a segment says so."""
    parts = [np.array([segments[0][0]])]
    for start, end, step in segments:
        count = max(1, round((end - start) / step))
        parts.append(start + (end - start) * np.arange(1, count + 1) / count)
    return np.concatenate(parts).astype(np.float32)


def evaluate(field: Field, points: Array) -> Array:
    """Evaluate in blocks that stay in the cache."""
    block = 16384
    return np.concatenate([field(points[i : i + block]) for i in range(0, len(points), block)])


def sample(field: Field, axes: tuple[Array, Array, Array], stride: int = 4) -> Array:
    """Sample a distance field on a grid, exactly near the surface, interpolated from every `stride`-th node elsewhere.

    The surface passes only where the coarse distance is below the diagonal of a coarse cell; the margin of a half
    covers that smooth unions are not exact distances. Returns [len(x), len(y), len(z)] float32.
    """
    coarse_index = [np.unique(np.append(np.arange(0, len(a), stride), len(a) - 1)) for a in axes]
    coarse_axes = [a[i] for a, i in zip(axes, coarse_index, strict=True)]
    nodes = np.stack(np.meshgrid(*coarse_axes, indexing="ij"), axis=-1)
    coarse = evaluate(field, nodes.reshape(-1, 3)).reshape(nodes.shape[:3])
    widths = np.meshgrid(*(np.diff(a) for a in coarse_axes), indexing="ij")
    reach = 1.5 * np.sqrt(sum(w * w for w in widths)) + 1.0
    nearest = np.minimum.reduce(
        [
            np.abs(coarse)[i : i + reach.shape[0], j : j + reach.shape[1], k : k + reach.shape[2]]
            for i in (0, 1)
            for j in (0, 1)
            for k in (0, 1)
        ]
    )
    active = nearest < reach
    grid = coarse
    for dimension, (a, index) in enumerate(zip(axes, coarse_index, strict=True)):
        position = np.interp(np.arange(len(a)), index, np.arange(len(index)))
        low = np.minimum(position.astype(int), len(index) - 2)
        weight = (position - low).reshape([-1 if d == dimension else 1 for d in range(3)]).astype(np.float32)
        grid = np.take(grid, low, dimension) * (1 - weight) + np.take(grid, low + 1, dimension) * weight
    cell_of = [
        np.minimum(np.searchsorted(i, np.arange(len(a)), "right") - 1, len(i) - 2)
        for a, i in zip(axes, coarse_index, strict=True)
    ]
    fine = active[np.ix_(*cell_of)]
    # A node on a border belongs to the cells on both of its sides.
    fine = np.maximum(ndimage.maximum_filter(fine, size=2), ndimage.maximum_filter(fine, size=2, origin=-1))
    where = np.nonzero(fine)
    points = np.stack([a[i] for a, i in zip(axes, where, strict=True)], axis=1)
    grid = np.ascontiguousarray(grid, np.float32)
    grid[where] = evaluate(field, points)
    return grid


def extract(field: Field, axes: tuple[Array, Array, Array], mirrored: bool = False) -> tuple[Array, Array]:
    """Triangulate the zero surface. `mirrored`: the field is even in x, so only the half x >= 0 is sampled.

    Returns vertices [V, 3] float32 (mm) and triangles [F, 3] int32, counter-clockwise seen from outside.
    """
    if mirrored:
        half = axes[0][axes[0] >= 0]
        right = sample(field, (half, axes[1], axes[2]))
        grid = np.concatenate([right[:0:-1], right])
        xs = np.concatenate([-half[:0:-1], half])
        axes = (xs, axes[1], axes[2])
    else:
        grid = sample(field, axes)
    vertices, triangles, _, _ = marching_cubes(grid, 0.0)
    placed = [np.interp(vertices[:, d], np.arange(len(a)), a) for d, a in enumerate(axes)]
    return np.stack(placed, axis=1).astype(np.float32), triangles.astype(np.int32)


def by_rows(vertices: Array, triangles: Array) -> tuple[Array, Array]:
    """Put a mesh in the order in which a picture of it is shaded, so that what is needed next is near in memory.

    Vertices go from the top down in rows of a millimetre, each from left to right, triangles by their first vertex.
    """
    order = np.lexsort((vertices[:, 0], -np.floor(vertices[:, 1])))
    place = np.empty(len(order), triangles.dtype)
    place[order] = np.arange(len(order))
    triangles = place[triangles]
    return vertices[order], triangles[np.argsort(triangles.min(axis=1), kind="stable")]


@dataclass(frozen=True)
class Volume:
    """A distance field kept on a uniform grid, so that light can be traced through it cheaply."""

    values: Array  # [X, Y, Z] float32
    origin: Array  # [3]
    step: float

    @classmethod
    def of(
        cls, field: Field, low: tuple[float, float, float], high: tuple[float, float, float], step: float
    ) -> "Volume":
        """Sample `field` between two corners (mm)."""
        axes = tuple(np.arange(a, b + step, step, dtype=np.float32) for a, b in zip(low, high, strict=True))
        nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        values = evaluate(field, nodes.reshape(-1, 3)).reshape(nodes.shape[:3])
        return cls(values, np.array(low, np.float32), step)

    def __or__(self, other: "Volume") -> "Volume":
        """Union with a volume on the same grid."""
        return Volume(np.minimum(self.values, other.values), self.origin, self.step)

    def __call__(self, points: Array) -> Array:
        """Trilinear distances [N]; outside the grid the nearest value."""
        position = ((points - self.origin) / self.step).T
        return ndimage.map_coordinates(self.values, position, order=1, mode="nearest")


def occlusion(points: Array, normals: Array, volume: Volume) -> Array:
    """How open the hemisphere above each point is, 0..1, from five distance samples along the normal."""
    total, weight, weights = np.zeros(len(points), np.float32), 1.0, 0.0
    for height in (2.0, 5.0, 11.0, 22.0, 40.0):
        blocked = (height - volume(points + normals * height)) / height
        total += weight * np.clip(blocked, 0.0, 1.0)
        weights += weight
        weight *= 0.78
    return 1.0 - total / weights


def soft_shadow(points: Array, normals: Array, volume: Volume, light: Array, slack: float = 0.0) -> Array:
    """Light that arrives from direction `light`, 0..1, by sphere tracing with a penumbra of 0.16 rad.

    `slack` is added to every distance, for surfaces that would otherwise shade themselves.
    """
    result = np.ones(len(points), np.float32)
    alive = np.nonzero(normals @ light > -0.3)[0]
    travelled = np.full(len(points), 5.0, np.float32)
    start = points + 1.5 * normals
    for _ in range(36):
        if not len(alive):
            break
        t = travelled[alive]
        distance = volume(start[alive] + t[:, None] * light) + slack
        result[alive] = np.minimum(result[alive], 0.5 + 0.5 * distance / (0.16 * t))
        travelled[alive] = t + np.maximum(2.5, np.minimum(np.abs(distance), 12.0))
        alive = alive[(result[alive] > 0) & (travelled[alive] < 200)]
    result = np.clip(result, 0.0, 1.0)
    return result * result * (3 - 2 * result)
