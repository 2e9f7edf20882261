"""Rotations from optical flow: against known motions of points, and in rendered pictures of a textured head."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tiny_head import make_tiny_head, surface

from models.heads.fit_phases import pivot_of
from models.heads.fit_state import Basis, State
from models.heads.flow import measure_flow
from models.heads.mediapipe_points import RIGID_PARTS
from models.heads.rigid_motion import Surface, rotation_accelerations

MODEL = make_tiny_head()
PIVOT = pivot_of(MODEL)
SIDE = 256
FOCAL = 2.3 * SIDE
HEAD = Surface.of(MODEL, PIVOT, Basis.of(MODEL, PIVOT, np.zeros((0, 2), np.int64)))
FRAMES = 40
# Centre and half axes of the forehead, the temples and the cheekbones on the tiny head, metres.
_PARTS = (
    (0.0, 0.06, 0.04, 0.015),
    *((-0.055, 0.035, 0.01, 0.015), (0.055, 0.035, 0.01, 0.015)),
    *((-0.04, -0.015, 0.018, 0.012), (0.04, -0.015, 0.018, 0.012)),
)


def _motion(frames: int, yaw: float = 0.0, seed: int = 0) -> State:
    """A head that jerks about: its rotation accelerates by about half a degree a frame about every axis."""
    rng = np.random.default_rng(seed)
    turn = Rotation.from_euler("xyz", rng.normal(0, 0.2, (frames, 3)) + [0, yaw, 0], degrees=True).as_matrix()
    return State(
        rotation=np.diag([1.0, -1, -1]) @ turn,
        ray=np.array([0.01, -0.02]) + rng.normal(0, 0.001, (frames, 2)),
        log_depth=np.log(0.75) + rng.normal(0, 0.0005, frames),
        expression=np.zeros((frames, len(MODEL.expression))),
        identity=np.zeros(len(MODEL.identity)),
    )


def _truth(state: State) -> np.ndarray:
    second = np.full((len(state.ray), 3), np.nan)
    second[1:-1] = np.diff(state.turning(), axis=0)
    return np.degrees(second)


def _corners(state: State, count: int = 80, noise_px: float = 0.0) -> np.ndarray:
    """Points all over the plate's upper half as flow follows them, in normalised coordinates."""
    rng = np.random.default_rng(5)
    x, y = rng.uniform([-0.06, -0.03], [0.06, 0.06], (count, 2)).T
    places = np.stack([x, y, surface(x, y)], 1) - PIVOT
    camera = places @ state.rotation.transpose(0, 2, 1) + state.translation()[:, None]
    image = camera[..., :2] / camera[..., 2:]
    corners = np.full((len(image), count, 3, 2), np.nan)
    corners[1:-1] = np.stack([image[:-2], image[1:-1], image[2:]], 2)
    corners[:, :, [0, 2]] += noise_px / FOCAL * rng.standard_normal((len(image), count, 2, 2))
    return corners


def _rms(vectors: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean((vectors**2).sum(-1))))


def _found(state: State, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    value, deviation = rotation_accelerations(state, HEAD, corners)
    return np.degrees(value), np.degrees(deviation)


def test_the_rotation_is_found_whatever_else_the_head_does() -> None:
    state = _motion(FRAMES)
    value, deviation = _found(state, _corners(state))
    truth = _truth(state)
    assert _rms(truth) > 0.7
    assert (np.isnan(value) == np.isnan(truth)).all()
    assert np.isinf(deviation[[0, -1]]).all()
    # What is left is the relief of the nose between landmarks.
    assert _rms(value - truth) < 0.05 * _rms(truth)


def test_only_where_the_head_is_counts_not_how_the_state_moves() -> None:
    state = _motion(FRAMES)
    askew = Rotation.from_euler("xyz", np.random.default_rng(1).normal(0, 1.5, (FRAMES, 3)), degrees=True).as_matrix()
    trembling = State(askew @ state.rotation, state.ray, state.log_depth, state.expression, state.identity)
    value, _ = _found(trembling, _corners(state))
    assert _rms(value - _truth(state)) < 0.15 * _rms(_truth(state))


def test_the_deviation_says_how_far_noise_leads_astray() -> None:
    state = _motion(200)
    for noise_px in (0.05, 0.2):
        value, deviation = _found(state, _corners(state, noise_px=noise_px))
        ratio = ((value - _truth(state)) / deviation)[1:-1]
        # Independent noise is the best case: neighbouring corners of a real picture err together.
        assert (np.sqrt((ratio**2).mean(0)) < 1.0).all()
        assert (np.sqrt((ratio**2).mean(0)) > 0.3).all()
    roll, yaw = deviation[1:-1, 2].mean(), deviation[1:-1, 1].mean()
    assert roll < 0.6 * yaw  # a turn in the picture's plane moves everything, one out of it only what stands out


def test_corners_that_go_their_own_way_are_outvoted() -> None:
    state = _motion(FRAMES)
    corners = _corners(state, noise_px=0.03)
    astray = np.random.default_rng(2).random(80) < 0.2
    corners[:, astray, 2] += np.array([3.0, -2.0]) / FOCAL
    value, _ = _found(state, corners)
    assert _rms(value - _truth(state)) < 0.2 * _rms(_truth(state))


def test_nothing_is_said_where_too_few_corners_lie_on_the_head() -> None:
    state = _motion(FRAMES)
    corners = _corners(state)
    corners[5, 11:] = np.nan
    corners[9] += 0.3  # beside the head
    value, deviation = _found(state, corners)
    assert np.flatnonzero(np.isnan(value).any(1)).tolist() == [0, 5, 9, FRAMES - 1]
    assert np.isinf(deviation[[5, 9]]).all()
    none, _ = rotation_accelerations(state, HEAD, corners[:, :0])
    assert np.isnan(none).all()


def test_a_head_turned_aside_is_followed_and_one_turned_away_is_not() -> None:
    aside = _motion(FRAMES, yaw=60.0)
    value, _ = _found(aside, _corners(aside))
    assert np.isfinite(value[1:-1]).all()
    assert _rms(value - _truth(aside)) < 0.15 * _rms(_truth(aside))
    away, _ = _found(_motion(FRAMES, yaw=120.0), _corners(aside))
    assert np.isnan(away).all()


def _rendered(state: State) -> np.ndarray:
    """Pictures `[T, SIDE, SIDE]` of the tiny head with freckles, each pixel's ray met with the relief."""
    rng = np.random.default_rng(3)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (512, 512)).astype(np.float32), (0, 0), 3.0)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    column, row = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    sight = np.stack([(column - SIDE / 2) / FOCAL, (row - SIDE / 2) / FOCAL, np.ones_like(row)], -1)
    frames = []
    for rotation, translation in zip(state.rotation, state.translation(), strict=True):
        origin, direction = PIVOT - translation @ rotation, sight @ rotation
        depth = np.full((SIDE, SIDE), translation[2])
        for _ in range(30):
            x, y, z = np.moveaxis(origin + depth[..., None] * direction, -1, 0)
            depth += 0.7 * (surface(x, y) - z) / direction[..., 2]
        at = [((value + 0.13) / 0.26 * 512).astype(np.float32) for value in (x, y)]
        frames.append(cv2.remap(texture, *at, cv2.INTER_CUBIC))
    return np.clip(frames, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("turning", [True, False])
def test_rotations_are_measured_in_pictures(turning: bool) -> None:
    state = _motion(14)
    if not turning:
        still = np.repeat(state.rotation[:1], 14, 0)
        state = State(still, state.ray, state.log_depth, state.expression, state.identity)
    shape = np.full((478, 3), np.nan)
    shape[MODEL.landmark_index] = MODEL.landmarks()
    for part, (x, y, wide, high) in zip(RIGID_PARTS[1:], _PARTS, strict=True):
        angle = np.arange(len(part)) / len(part) * 2 * np.pi
        x, y = x + wide * np.cos(angle), y + high * np.sin(angle)
        shape[list(part)] = np.stack([x, y, surface(x, y)], 1)
    camera = (shape - PIVOT) @ state.rotation.transpose(0, 2, 1) + state.translation()[:, None]
    points = (FOCAL * camera[..., :2] / camera[..., 2:] + SIDE / 2).astype(np.float32)
    points += np.random.default_rng(4).normal(0, 0.5, (14, 1, 2)).astype(np.float32)
    for half in measure_flow(_rendered(state), points, np.ones(14, bool)):
        assert np.isfinite(half.corners[1:-1, :, 1, 0]).sum(1).min() > 50
        value, _ = _found(state, half.normalised(FOCAL, SIDE, SIDE).corners)
        assert np.isfinite(value[1:-1]).all()
        assert _rms(value - _truth(state)) < 0.08
    assert (_rms(_truth(state)) > 0.5) == turning
