"""A head moves about its own mean pose as another one moves about its."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from models.heads.motion import JAW_M, jaw_pixels, least_turns, mean_pose, transfer


def wandering(seed: int, count: int = 50, facing: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    random = np.random.default_rng(seed)
    angles = np.cumsum(random.normal(0, 0.02, (count, 3)), 0)
    poses = np.tile(np.eye(4), (count, 1, 1))
    base = Rotation.from_rotvec(facing).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    poses[:, :3, :3] = Rotation.from_rotvec(angles).as_matrix() @ base
    poses[:, :3, 3] = [0.01, 0.02, 0.6] + np.cumsum(random.normal(0, 0.001, (count, 3)), 0)
    return poses.astype(np.float32)


def test_a_head_that_follows_itself_does_what_it_did() -> None:
    poses = wandering(0)
    np.testing.assert_allclose(transfer(poses, poses), poses, atol=1e-6)


def test_turns_and_steps_are_taken_over_and_the_mean_pose_stays() -> None:
    source, own = wandering(1), wandering(2, facing=(0.1, -0.2, 0.05))
    moved = transfer(source, own)
    # From one frame to the next it turns by the same rotation as the camera sees it, and steps as far sideways.
    turns = [p[1:, :3, :3] @ p[:-1, :3, :3].transpose(0, 2, 1) for p in (source, moved)]
    np.testing.assert_allclose(turns[0], turns[1], atol=1e-5)
    np.testing.assert_allclose(np.diff(moved[:, :2, 3], axis=0), np.diff(source[:, :2, 3], axis=0), atol=1e-6)
    np.testing.assert_allclose(mean_pose(moved), mean_pose(own), atol=2e-3)
    np.testing.assert_allclose(np.linalg.det(moved[:, :3, :3]), 1, atol=1e-5)


def test_depth_is_a_share_of_the_depth() -> None:
    source = wandering(1)
    far = source.copy()
    far[:, 2, 3] *= 3  # the same footage tracked with three times the focal length
    own = wandering(2)
    np.testing.assert_allclose(transfer(far, own), transfer(source, own), atol=1e-6)


def test_the_mean_of_turns_lies_between_them() -> None:
    poses = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec([[0, 0.3, 0], [0, -0.1, 0]]).as_matrix()
    assert Rotation.from_matrix(mean_pose(poses)[:3, :3]).as_rotvec() == pytest.approx([0, 0.1, 0], abs=1e-6)


def test_the_jaw_is_seen_where_the_camera_sees_it() -> None:
    pose = np.array([[1, 0, 0, 0.02], [0, -1, 0, 0], [0, 0, -1, 0.5], [0, 0, 0, 1]], np.float32)
    intrinsics = np.array([[100, 0, 30], [0, 100, 40], [0, 0, 1]], np.float32)
    chin = JAW_M[2]
    wanted = [30 + 100 * (chin[0] + 0.02) / (0.5 - chin[2]), 40 - 100 * chin[1] / (0.5 - chin[2])]
    np.testing.assert_allclose(jaw_pixels(pose[None], intrinsics)[0, 2], wanted, atol=1e-4)


def test_the_least_turn_is_that_against_the_nearest_pose() -> None:
    own, poses = wandering(3), wandering(4, count=20, facing=(0.3, 0.1, -0.2))
    between = poses[:, None, :3, :3] @ own[None, :, :3, :3].swapaxes(-1, -2)
    angles = Rotation.from_matrix(between.reshape(-1, 3, 3)).magnitude().reshape(20, 50)
    np.testing.assert_allclose(least_turns(poses, own), np.degrees(angles.min(1)), atol=1e-3)
    np.testing.assert_allclose(least_turns(own, own), 0, atol=1e-6)
