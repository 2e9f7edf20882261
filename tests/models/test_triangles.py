"""The z-buffer over triangles against one that asks every triangle at every sample."""

import numpy as np
import pytest

from models.heads.triangles import rasterize

SIZE = (17, 23)


def scene(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Triangles of all sizes inside the picture, across its border and beside it: screen [V, 3], triangles [F, 3]."""
    generator = np.random.default_rng(seed)
    middles = generator.uniform([-6, -6], [SIZE[1] + 6, SIZE[0] + 6], (count, 1, 2))
    corners = middles + generator.normal(size=(count, 3, 2)) * generator.choice([0.3, 2.0, 9.0], (count, 1, 1))
    nearness = generator.uniform(0.5, 2.0, (count, 3, 1))
    screen = np.concatenate([corners, nearness], axis=2).reshape(-1, 3).astype(np.float32)
    return screen, np.arange(3 * count, dtype=np.int32).reshape(-1, 3)


def plain(screen, triangles, seen_from_behind, depth):
    """Owner and depth of every sample."""
    owner, depth = np.full(depth.shape, -1), depth.astype(np.float64)
    y, x = np.mgrid[: depth.shape[0], : depth.shape[1]]
    for k, triangle in enumerate(triangles):
        (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = screen[triangle].astype(np.float64)
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9 or (area > 0 and not seen_from_behind[k]):
            continue
        w1 = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
        w2 = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
        z = (1 - w1 - w2) * z0 + w1 * z1 + w2 * z2
        nearer = (np.minimum(np.minimum(w1, w2), 1 - w1 - w2) >= -1e-5) & (z > depth)
        owner[nearer], depth[nearer] = k, z[nearer]
    return owner, depth


@pytest.mark.parametrize("seed", range(3))
def test_every_sample_finds_its_nearest_triangle(seed: int) -> None:
    screen, triangles = scene(200, seed)
    seen_from_behind = np.arange(200) % 2 == 0
    before = np.random.default_rng(seed).choice([0.0, 1.2], SIZE).astype(np.float32)  # drawn before
    depth, owner, weights = before.copy(), np.full(SIZE, -1, np.int32), np.full((*SIZE, 2), np.nan, np.float32)
    rasterize(screen, triangles, seen_from_behind, depth, owner, weights)
    expected, nearness = plain(screen, triangles, seen_from_behind, before)
    assert len(np.unique(expected)) > 20
    np.testing.assert_array_equal(owner, expected)
    np.testing.assert_allclose(depth, nearness, rtol=1e-6)
    np.testing.assert_array_equal(depth[owner < 0], before[owner < 0])

    # Perspective: x / distance of the corners, weighed, is x / distance of the sample.
    rows, columns = np.nonzero(owner >= 0)
    shares = weights[rows, columns]
    shares = np.concatenate([shares, 1 - shares.sum(1, keepdims=True)], axis=1)
    corners = screen[triangles[owner[rows, columns]]]
    at = (shares[:, :, None] * corners[:, :, :2] / corners[:, :, 2:]).sum(1) * depth[rows, columns, None]
    np.testing.assert_allclose(at, np.stack([columns, rows], axis=1), atol=2e-3)


def test_nothing_is_drawn_beside_the_picture() -> None:
    depth, owner, weights = np.zeros(SIZE, np.float32), np.full(SIZE, -1, np.int32), np.zeros((*SIZE, 2), np.float32)
    screen = np.array([[-9, 3, 1], [-1, 9, 1], [-1, 3, 1], [30, 40, 1], [9, 17.5, 1], [22.5, 18, 1]], np.float32)
    rasterize(screen, np.array([[0, 1, 2], [3, 4, 5]], np.int32), np.ones(2, bool), depth, owner, weights)
    assert (owner == -1).all()
    assert (depth == 0).all()
