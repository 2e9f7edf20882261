"""Comparisons with truth: what is constant is taken out, what is left is measured in the right unit."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from models.truth import best_lag, correlation, pose_errors, shape_error_mm

K = np.array([[600.0, 0, 128], [0, 600.0, 128], [0, 0, 1]])
TIME = np.arange(80)
BRIDGE = np.array([0.0, 0.02, 0.09])


def poses(seed=0):
    rng = np.random.default_rng(seed)
    angles = np.stack([0.2 * np.sin(TIME / 7), 0.1 * np.cos(TIME / 5), 0.05 * np.sin(TIME / 11)], 1)
    matrices = np.tile(np.eye(4), (len(TIME), 1, 1))
    matrices[:, :3, :3] = np.diag([1.0, -1, -1]) @ Rotation.from_euler("yxz", angles).as_matrix()
    matrices[:, :3, 3] = np.stack([0.01 * np.sin(TIME / 9), 0.01 * np.cos(TIME / 8), 0.9 + 0.01 * np.sin(TIME / 6)], 1)
    return matrices, rng


def in_another_frame(true, turn, shift, scale=1.0):
    """The same motion seen by a head model with other axes, origin and size."""
    change = np.eye(4)
    change[:3, :3], change[:3, 3] = turn, shift
    found = true @ change
    found[:, :3, 3] *= scale
    return found


def test_other_axes_and_another_origin_are_no_error():
    true, _ = poses()
    turn = Rotation.from_euler("xyz", [4, -3, 2], degrees=True).as_matrix()
    errors = pose_errors(in_another_frame(true, turn, np.array([0.003, -0.01, 0.02])), true, K, K, BRIDGE)
    assert errors.rotation_deg.max() < 1e-4
    assert errors.sideways_mm.max() < 0.05
    assert errors.depth_mm.max() < 0.05
    assert errors.constant_rotation_deg == pytest.approx(np.degrees(Rotation.from_matrix(turn).magnitude()), abs=1e-3)


def test_a_wrong_focal_length_shows_in_the_depth_factor_only():
    true, _ = poses()
    longer = K.copy()
    longer[[0, 1], [0, 1]] *= 1.25
    found = true.copy()
    found[:, 2, 3] *= 1.25
    errors = pose_errors(found, true, longer, K, np.zeros(3))
    assert errors.depth_factor == pytest.approx(1.25, rel=1e-3)
    assert errors.sideways_mm.max() < 0.05
    assert errors.depth_mm.max() < 0.05


def test_errors_come_out_in_degrees_and_millimetres():
    true, rng = poses()
    found = true.copy()
    tremble = np.radians(0.5) * rng.choice([-1, 1], len(TIME))
    found[:, :3, :3] = Rotation.from_euler("z", tremble[:, None]).as_matrix() @ true[:, :3, :3]
    assert pose_errors(found, true, K, K, np.zeros(3)).rotation_deg.mean() == pytest.approx(0.5, abs=0.05)
    found = true.copy()
    found[:, 0, 3] += 0.002 * rng.choice([-1, 1], len(TIME))
    errors = pose_errors(found, true, K, K, np.zeros(3))
    assert errors.sideways_mm.mean() == pytest.approx(2.0, abs=0.15)
    assert errors.rotation_deg.max() < 1e-4


def test_shape_error_ignores_a_similarity_and_absent_landmarks():
    rng = np.random.default_rng(2)
    true = rng.normal(0, 0.05, (6, 30, 3))
    turn = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    found = (true @ turn.T) * 1.1 + 0.01
    true[:, 7] = np.nan
    errors = shape_error_mm(found, true)
    assert np.isnan(errors[:, 7]).all()
    assert np.nanmax(errors) < 1e-6
    found[:, 3] += 0.004
    assert 4 < np.nanmax(shape_error_mm(found, true)[:, 3]) < 8


@pytest.mark.parametrize("lag", [-4, 0, 3])
def test_lag_is_found_with_its_sign(lag):
    rng = np.random.default_rng(3)
    curve = rng.normal(size=300)
    follower = np.roll(curve, lag) + 0.1 * rng.normal(size=300)
    found, r = best_lag(curve, follower, 8)
    assert found == lag
    assert r > 0.9


@pytest.mark.parametrize("count", [1, 5, 10])
def test_a_lag_is_looked_for_in_curves_shorter_than_the_reach(count):
    curve = np.random.default_rng(0).normal(size=count)
    lag, r = best_lag(curve, curve, 12)
    assert lag == 0
    assert r == pytest.approx(1) if count > 1 else np.isnan(r)


def test_a_still_curve_has_no_correlation():
    assert np.isnan(correlation(np.ones(10), np.arange(10.0)))
    assert best_lag(np.zeros(50), np.arange(50.0), 5)[0] == 0
    assert correlation(np.arange(5.0), -np.arange(5.0)) == pytest.approx(-1)
