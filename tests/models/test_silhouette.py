"""Where in a picture a mesh is, and which of its triangles face the camera."""

import numpy as np
import pytest

from models.heads.silhouette import facing, silhouette

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


@pytest.mark.parametrize("degrees", [0, 30, 89, 120, 180])
def test_a_triangle_faces_the_camera_by_the_cosine_of_its_turn(degrees):
    """Seen along the way to it, wherever in the picture it is."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    corners = np.array([[1.0, 0, 0], [-0.5, 0.8, 0], [-0.5, -0.8, 0]]) * 1e-3  # counter-clockwise from +z
    pose = np.diag([1.0, -1, -1, 1])
    pose[2, 3] = 0.6
    found = facing(corners @ turn.T, np.array([[0, 1, 2], [0, 2, 1]]), pose)
    np.testing.assert_allclose(found, [np.cos(angle), -np.cos(angle)], atol=2e-3)
    aside = pose.copy()
    aside[0, 3] = 0.6  # the way to it is at 45 degrees
    assert facing(corners, np.array([[0, 1, 2]]), aside)[0] == pytest.approx(np.sqrt(0.5), abs=2e-3)
    assert facing(corners[:1].repeat(3, 0), np.array([[0, 1, 2]]), pose)[0] == 0  # of no area
