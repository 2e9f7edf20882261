"""Where Gaussians begin: inside the masks, about the face, behind the lips."""

import numpy as np
import pytest
import torch

from models.gaussians.field import PARAMETERS, create_field, inverse_softplus
from models.gaussians.placing import face_points, head_center, mouth_points, pick_colors
from models.heads.mediapipe_points import CURVES, OVAL

INDEX = np.arange(478)
POSE = np.diag([1.0, -1.0, -1.0, 1.0])
POSE[2, 3] = 0.6
INTRINSICS = np.array([[200.0, 0, 48], [0, 200.0, 48], [0, 0, 1]])


@pytest.fixture
def rest():
    random = np.random.default_rng(0)
    points = random.uniform(-1, 1, (478, 2)) * [0.05, 0.07]
    angles = np.linspace(0, 2 * np.pi, len(OVAL), endpoint=False)
    points[list(OVAL)] = np.stack([0.065 * np.sin(angles), 0.08 * np.cos(angles)], 1)
    inside = np.clip(1 - (points[:, 0] / 0.08) ** 2 - (points[:, 1] / 0.1) ** 2, 0.05, None)
    return np.concatenate([points, 0.07 * np.sqrt(inside)[:, None]], 1)


def pixels(points):
    camera = (points @ POSE[:3, :3].T + POSE[:3, 3]) @ INTRINSICS.T
    return camera[:, :2] / camera[:, 2:]


def test_half_lies_on_the_face_and_the_rest_within_the_masks(rest):
    mask = np.zeros((96, 96), bool)
    mask[10:85, 25:70] = True
    points = face_points(rest, INDEX, 1000, [(mask, POSE, INTRINSICS)], seed=1)
    assert 500 < len(points) <= 1000
    face, shell = points[:500], points[500:]
    distance = np.linalg.norm(face[:, None] - rest[None], axis=-1).min(1)
    assert np.median(distance) < 0.006
    places = np.floor(pixels(shell)).astype(int)
    assert mask[places[:, 1], places[:, 0]].all()
    assert np.array_equal(points, face_points(rest, INDEX, 1000, [(mask, POSE, INTRINSICS)], seed=1))


def test_the_centre_lies_behind_the_face(rest):
    rest[[33, 263], 1] = 0.02
    center = head_center(rest, INDEX)
    assert abs(center[0]) < 0.01
    assert center[2] < np.median(rest[:, 2])
    assert center[1] == pytest.approx(0.02)
    # A head model that has no landmarks on the forehead must not move it.
    below = rest[:, 1] < 0.03
    assert head_center(rest[below], INDEX[below])[1] == pytest.approx(0.02)


def test_the_mouth_begins_behind_the_lips(rest):
    lips = rest[list(CURVES["lip_inner_upper"] + CURVES["lip_inner_lower"])]
    points = mouth_points(rest, INDEX, 300, seed=0)
    assert points.shape == (300, 3)
    assert points[:, 2].max() < lips[:, 2].mean()
    assert np.ptp(points[:, 0]) > np.ptp(lips[:, 0])


def test_colours_are_those_of_the_pixels(rest):
    image = np.zeros((96, 96, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(96)[:, None], np.arange(96)
    colors = pick_colors(rest, image, POSE, INTRINSICS)
    np.testing.assert_allclose(colors[:, [1, 0]] * 255, np.floor(pixels(rest)), atol=1e-3)


def test_a_field_has_the_colours_opacities_and_widths_it_was_given():
    points = np.stack(np.meshgrid(*[np.arange(4) * 0.004] * 3), -1).reshape(-1, 3)
    colors = np.random.default_rng(0).uniform(0, 1, (64, 3))
    field = create_field(points, colors, sh_degree=2, opacity=0.3)
    torch.testing.assert_close(field.base_color, torch.tensor(colors, dtype=torch.float32))
    torch.testing.assert_close(field.opacities, torch.full((64,), 0.3))
    torch.testing.assert_close(field.scales, torch.full((64, 3), 0.7 * 0.004))
    assert field.coefficients.shape == (64, 9, 3)
    assert all(getattr(field, name).is_leaf for name in PARAMETERS)
    with pytest.raises(ValueError, match="four"):
        create_field(points[:3], colors[:3], 1)


def test_inverse_softplus_undoes_softplus():
    values = torch.tensor([1e-5, 3e-4, 0.02, 1.0, 30.0])
    torch.testing.assert_close(torch.nn.functional.softplus(inverse_softplus(values)), values, rtol=2e-3, atol=0)
