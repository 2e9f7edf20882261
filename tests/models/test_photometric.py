"""Pose refinement against renders, with a head made of coloured blobs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from models.heads.photometric import (
    LEVER_PX,
    RefinementParams,
    image_motion,
    move_pose,
    refine_poses,
    refinement_mask,
)

SIDE = 96
INTRINSICS = np.array([[220.0, 0, SIDE / 2], [0, 220.0, SIDE / 2], [0, 0, 1]])
PIVOT = np.array([0.0, 0.0, 0.1])
_RNG = np.random.default_rng(0)
_BLOBS = np.concatenate([_RNG.uniform(-0.09, 0.09, (60, 2)), _RNG.uniform(0.07, 0.11, (60, 1))], 1)
_COLOURS = _RNG.uniform(-0.3, 0.3, (60, 3))


def draw(world_to_camera: np.ndarray, brightness: float = 0.0) -> np.ndarray:
    camera = _BLOBS @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    centre = camera @ INTRINSICS.T
    centre = centre[:, :2] / centre[:, 2:]
    grid = np.arange(SIDE) + 0.5
    width = 2.0 * (0.6 / camera[:, 2, None]) * 2.5
    along_x = np.exp(-(((grid - centre[:, :1]) / width) ** 2))
    along_y = np.exp(-(((grid - centre[:, 1:]) / width) ** 2))
    image = 0.5 + brightness + np.einsum("nh,nw,nc->hwc", along_y, along_x, _COLOURS)
    return np.clip(image, 0, 1).astype(np.float32)


def pose(rotation_vector: np.ndarray, translation: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag([1.0, -1, -1]) @ Rotation.from_rotvec(rotation_vector).as_matrix()
    matrix[:3, 3] = translation
    return matrix


def image_of(points: np.ndarray, world_to_camera: np.ndarray) -> np.ndarray:
    projected = (points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]) @ INTRINSICS.T
    return projected[:, :2] / projected[:, 2:]


@pytest.mark.parametrize("motion", [[1.5, -1, 0, 0], [0, 0, 2, 0], [0, 0, 0, -2], [0.5, 0.7, -1, 1.2]])
def test_a_moved_head_moves_its_image_as_asked(motion: list[float]) -> None:
    before = pose(np.array([0.05, 0.1, 0.02]), np.array([0.03, -0.02, 0.6]))
    after = move_pose(before, INTRINSICS, np.array(motion), PIVOT)
    assert np.allclose(after[:3, :3] @ after[:3, :3].T, np.eye(3))
    # Points in the plane of the pivot, seen from the camera, move by an exact similarity to first order.
    plane = np.array([[0.04, 0, 0], [0, 0.04, 0], [-0.03, 0.02, 0], [0, 0, 0]])
    points = plane @ before[:3, :3] + PIVOT
    start, centre = image_of(points, before), image_of(PIVOT[None], before)
    x, y = ((start - centre) / LEVER_PX).T
    dx, dy, roll, scale = motion
    expected = np.stack([dx - roll * y + scale * x, dy + roll * x + scale * y], 1)
    assert np.abs(image_of(points, after) - start - expected).max() < 0.05


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_image_motion_is_measured_through_a_change_of_brightness(dtype: type) -> None:
    before = pose(np.zeros(3), np.array([0.0, 0.0, 0.6]))
    truth = np.array([0.8, -0.6, 0.9, -0.7])
    frame = draw(move_pose(before, INTRINSICS, truth, PIVOT), brightness=0.03)
    frame = frame if dtype is np.float32 else (frame * 255).round().astype(np.uint8)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[8:-8, 8:-8] = True
    pivot_px = image_of(PIVOT[None], before)[0]
    found = image_motion(draw(before), frame, mask, pivot_px, RefinementParams())
    assert found is not None
    assert np.abs(found - truth).max() < 0.15
    frame[20:40, 20:40] = 0  # something in front of a tenth of the face
    occluded = image_motion(draw(before), frame, mask, pivot_px, RefinementParams())
    assert occluded is not None
    assert np.abs(occluded - truth).max() < 0.3
    assert image_motion(draw(before), frame, np.zeros((SIDE, SIDE), bool), pivot_px, RefinementParams()) is None


def test_a_featureless_face_is_not_moved() -> None:
    flat = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    mask = np.ones((SIDE, SIDE), bool)
    found = image_motion(flat, flat + 0.1, mask, np.array([48.0, 48.0]), RefinementParams())
    assert found is not None
    assert np.abs(found).max() < 1e-3


def test_trembling_poses_are_brought_onto_the_frames() -> None:
    rng = np.random.default_rng(1)
    frames = 12
    t = np.arange(frames)
    truth = np.stack([pose(np.array([0, 0.1 * np.sin(k / 5), 0]), np.array([0.01 * np.cos(k / 4), 0, 0.6])) for k in t])
    noise = rng.normal(0, 0.6, (frames, 4))
    start = np.stack([move_pose(truth[k], INTRINSICS, noise[k], PIVOT) for k in t])
    mask = np.zeros((SIDE, SIDE), bool)
    mask[8:-8, 8:-8] = True
    no_face = 4
    shares: list[float] = []
    result = refine_poses(
        start,
        INTRINSICS,
        PIVOT,
        render=lambda _, world_to_camera: draw(world_to_camera),
        frame_at=lambda k: (draw(truth[k]) * 255).astype(np.uint8),
        mask_at=lambda k: mask & (k != no_face),
        cuts=(6,),
        params=RefinementParams(smooth_frames=0.0),
        progress=lambda share, _: shares.append(share),
    )

    def error(poses: np.ndarray) -> np.ndarray:
        return np.array([np.abs(image_of(_BLOBS, poses[k]) - image_of(_BLOBS, truth[k])).mean() for k in t])

    seen = t != no_face
    assert result.measured.tolist() == seen.tolist()
    assert error(result.world_to_camera)[seen].max() < 0.12
    assert error(start)[seen].mean() > 0.4
    assert (result.round_rms[1] < 0.3 * result.round_rms[0]).all()
    assert np.allclose(result.correction[no_face], (result.correction[3] + result.correction[5]) / 2)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_smoothing_stops_at_a_cut() -> None:
    frames = 8
    truth = np.stack([pose(np.zeros(3), np.array([0.0, 0, 0.6]))] * frames)
    step = np.where(np.arange(frames) < 4, 1.0, -1.0)
    start = np.stack([move_pose(truth[k], INTRINSICS, np.array([step[k], 0, 0, 0]), PIVOT) for k in range(frames)])
    mask = np.ones((SIDE, SIDE), bool)

    def refined(cuts: tuple[int, ...]) -> np.ndarray:
        return refine_poses(
            start,
            INTRINSICS,
            PIVOT,
            lambda _, world_to_camera: draw(world_to_camera),
            lambda k: draw(truth[k]),
            lambda _: mask,
            cuts,
            RefinementParams(rounds=1, smooth_frames=1.5),
        ).correction[:, 0]

    assert np.abs(refined((4,)) + step).max() < 0.1
    assert np.abs(refined(()) + step).max() > 0.4


def test_the_mask_keeps_what_moves_with_the_skull() -> None:
    head = np.zeros((200, 200), bool)
    head[20:180, 40:160] = True
    points = np.full((478, 2), 100.0)
    points[[33, 263]] = [[70, 90], [130, 90]]
    points[[70, 105, 334, 300], 1] = 75
    points[[145, 374], 1] = 96
    points[2] = [100, 125]
    mask = refinement_mask(head, points)
    assert mask[50, 100]  # forehead
    assert mask[115, 70]  # cheek
    assert not mask[90, 80]  # an eye
    assert not mask[140, 100]  # the mouth
    assert not mask[21, 100]  # the rim
    assert not mask[50, 20]  # background
    points[105] = np.nan
    assert not refinement_mask(head, points).any()
