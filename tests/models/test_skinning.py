"""Joints of head models, against matrices written out and numerical derivatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.spatial.transform import Rotation
from tiny_head import make_jointed_head, make_tiny_head

from models.errors import UsageError
from models.heads.skinning import rotation_derivatives, skew

MODEL = make_jointed_head()
assert MODEL.skeleton is not None
SKELETON = MODEL.skeleton


def by_hand(identity: np.ndarray, expression: np.ndarray, turns: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """The posed places of some vertices, one vertex and one 4x4 matrix at a time."""
    shaped = MODEL.neutral.copy()
    for coefficients, basis in ((identity, MODEL.identity), (expression, MODEL.expression)):
        for value, direction in zip(coefficients, basis, strict=True):
            shaped += value * direction
    joints = SKELETON.joints + SKELETON.regressor @ (shaped - MODEL.neutral)
    rotations = [expm(skew(turn)) for turn in turns]
    features = np.concatenate([(rotation - np.eye(3)).ravel() for rotation in rotations[1:]])
    corrected = shaped + np.einsum("f,fvc->vc", features, SKELETON.correctives)
    world, bind = [], []
    for j, rotation in enumerate(rotations):
        parent = SKELETON.parents[j]
        local, rest = np.eye(4), np.eye(4)
        local[:3, :3] = rotation
        local[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
        rest[:3, 3] = joints[j]
        world.append(world[parent] @ local if parent >= 0 else local)
        bind.append(np.linalg.inv(rest))
    result = []
    for v in vertices:
        blended = sum(SKELETON.weights[v, j] * (world[j] @ bind[j]) for j in range(len(rotations)))
        result.append((blended @ [*corrected[v], 1.0])[:3])
    return np.array(result)


def coefficients(seed: int, frames: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    identity = rng.normal(size=len(MODEL.identity))
    return identity, rng.normal(size=(frames, len(MODEL.expression))), rng.normal(0, 0.3, (frames, 3))


def test_posing_a_mesh_is_what_matrices_by_hand_give() -> None:
    identity, expression, _ = coefficients(0)
    turns = np.random.default_rng(1).normal(0, 0.4, (3, 5, 3))
    some = np.arange(0, len(MODEL.neutral), 97)
    mesh = MODEL.vertices(identity, expression, turns)
    for frame in range(3):
        assert np.abs(mesh[frame, some] - by_hand(identity, expression[frame], turns[frame], some)).max() < 1e-9
    assert np.abs(mesh - MODEL.vertices(identity, expression)).max() > 0.01
    corners = MODEL.landmark_triangle[5]
    landmarks = MODEL.landmarks(identity, expression, turns)
    assert np.allclose(landmarks[1, 5], MODEL.landmark_barycentric[5] @ mesh[1, corners])


def test_joints_at_rest_leave_the_linear_model() -> None:
    identity, expression, _ = coefficients(2)
    rest = np.zeros((3, 5, 3))
    assert np.abs(MODEL.vertices(identity, expression, rest) - MODEL.vertices(identity, expression)).max() < 1e-12
    linear = make_tiny_head()
    assert np.array_equal(linear.vertices(identity, None, np.zeros((3, 0, 3))), linear.vertices(identity))


def test_turning_the_root_turns_the_head_as_a_whole() -> None:
    identity, expression, _ = coefficients(3, 1)
    turns = np.zeros((1, 5, 3))
    turns[0, 0] = [0.3, -0.5, 0.2]
    rest = MODEL.vertices(identity, expression)[0]
    root = SKELETON.joints[0] + SKELETON.regressor[0] @ (rest - MODEL.neutral)
    turned = (rest - root) @ expm(skew(turns[0, 0])).T + root
    assert np.abs(MODEL.vertices(identity, expression, turns)[0] - turned).max() < 1e-12


def test_the_hinge_at_the_landmarks_is_the_posed_mesh_there() -> None:
    hinge = MODEL.hinge()
    assert hinge is not None
    identity, expression, angles = coefficients(4)
    posed = MODEL.landmarks(identity, expression, SKELETON.turns(angles))
    assert (
        np.abs(MODEL.landmarks(identity, expression) + hinge.offsets(identity, expression, angles) - posed).max()
        < 1e-12
    )


@pytest.mark.parametrize("largest", [0.5, 1e-6, 0.0])
def test_derivatives_of_the_hinge_are_those_measured(largest: float) -> None:
    hinge = MODEL.hinge()
    assert hinge is not None
    identity, expression, angles = coefficients(5, 2)
    angles = angles * largest / 0.3
    by_coefficient, change = hinge.derivatives(identity, expression, angles)
    found = hinge.by_identity(change), by_coefficient[..., :-3], by_coefficient[..., -3:]
    step = 1e-5
    for kind, values in enumerate((identity, expression, angles)):
        for i in range(values.shape[-1]):
            ends = []
            for sign in (1, -1):
                moved = [identity, expression, angles]
                moved[kind] = values + sign * step * np.eye(values.shape[-1])[i]
                ends.append(hinge.offsets(*moved))
            assert np.abs(found[kind][..., i] - (ends[0] - ends[1]) / (2 * step)).max() < 1e-7  # single precision


@given(st.integers(0, 10**6), st.sampled_from([1e-9, 1e-3, 0.5, 3.0]))
@settings(max_examples=20, deadline=None)
def test_a_derivative_of_a_rotation_is_that_measured(seed: int, size: float) -> None:
    vector = np.random.default_rng(seed).normal(size=3)
    vector *= size / np.linalg.norm(vector)
    found, step = rotation_derivatives(vector[None])[0], 1e-6
    for i in range(3):
        ends = [Rotation.from_rotvec(vector + sign * step * np.eye(3)[i]).as_matrix() for sign in (1, -1)]
        assert np.abs(found[i] - (ends[0] - ends[1]) / (2 * step)).max() < 1e-8


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("parents", np.array([-1, 0, 3, 1, 1]), "after its parent"),
        ("parents", np.array([0, 0, 1, 1, 1]), "after its parent"),
        ("weights", 2 * SKELETON.weights, "add up to 1"),
        ("correctives", SKELETON.correctives[:27], "correctives"),
        ("regressor", SKELETON.regressor.T, "regressor"),
    ],
)
def test_joints_that_do_not_fit_together_are_refused(field: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(SKELETON, **{field: value})


def test_joints_of_another_mesh_are_refused() -> None:
    half = replace(
        SKELETON,
        weights=SKELETON.weights[:100],
        regressor=SKELETON.regressor[:, :100],
        correctives=SKELETON.correctives[:, :100],
    )
    with pytest.raises(UsageError, match="carries 100 vertices"):
        replace(MODEL, skeleton=half)
