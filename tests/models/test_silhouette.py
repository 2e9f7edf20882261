"""Where in a picture a mesh is."""

import numpy as np
import pytest

from models.heads.silhouette import silhouette

INTRINSICS = np.array([[100.0, 0, 16], [0, 100.0, 12], [0, 0, 1]])
SIZE = 24, 32


def pose(right=0.0, away=1.0):
    """A camera that looks along -z of the mesh."""
    matrix = np.diag([1.0, -1, -1, 1])
    matrix[:3, 3] = right, 0, away
    return matrix


def ring(outer, inner):
    """A square frame of eight triangles about the origin, metres."""
    square = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    sides = [[k, (k + 1) % 4, 4 + k] for k in range(4)] + [[(k + 1) % 4, 4 + (k + 1) % 4, 4 + k] for k in range(4)]
    return np.concatenate([outer * square, inner * square]), np.array(sides)


@pytest.mark.parametrize("turned", [False, True])  # a triangle is there from behind, too
def test_a_mesh_is_where_its_outline_says_openings_included(turned):
    vertices, triangles = ring(0.08, 0.03)
    found = silhouette(vertices, triangles[:, ::-1] if turned else triangles, pose(), INTRINSICS, SIZE)
    expected = np.zeros(SIZE, bool)
    expected[4:20, 8:24] = True  # 8 pixels to all sides of the middle; the opening is 6 wide
    assert np.array_equal(found, expected)


def test_it_goes_with_the_pose_and_is_cut_off_at_the_edges():
    vertices, triangles = ring(0.08, 0.03)
    near = silhouette(vertices, triangles, pose(right=0.1), INTRINSICS, SIZE)
    assert np.array_equal(np.nonzero(near.any(0))[0], np.arange(18, 32))
    far = silhouette(vertices, triangles, pose(away=2.0), INTRINSICS, SIZE)
    assert far.sum() == 8 * 8
    assert not silhouette(vertices, triangles, pose(right=1.0), INTRINSICS, SIZE).any()
    assert not silhouette(vertices, triangles, pose(away=-1.0), INTRINSICS, SIZE).any()  # behind the camera


def test_parts_that_hide_each_other_count_once_and_parts_apart_both():
    vertices, triangles = ring(0.03, 0.0)
    behind, beside = vertices - [0, 0, 0.5], vertices + [0.1, 0, 0]
    both = np.concatenate([triangles, triangles + len(vertices)])
    alone = silhouette(vertices, triangles, pose(), INTRINSICS, SIZE)
    assert alone.sum() == 36
    assert np.array_equal(silhouette(np.concatenate([vertices, behind]), both, pose(), INTRINSICS, SIZE), alone)
    assert silhouette(np.concatenate([vertices, beside]), both, pose(), INTRINSICS, SIZE).sum() == 72
