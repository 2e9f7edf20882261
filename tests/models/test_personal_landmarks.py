"""The landmarker that is learnt from one face: unseen frames, renders, other mouths, and no face at all."""

import cv2
import drawn_face
import numpy as np
import pytest

from models.errors import InputError
from models.landmarks.personal import PersonalLandmarks
from models.landmarks.placing import chain, invert, move, similarity_between
from models.metrics import all_metrics
from models.metrics.lips import LIP_POINTS

TRAINING = 100
METRICS = all_metrics()


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    return drawn_face.clip()


@pytest.fixture(scope="module")
def landmarker(drawn: tuple[np.ndarray, np.ndarray]) -> PersonalLandmarks:
    frames, points = drawn
    noise = np.random.default_rng(1).standard_normal(points[:TRAINING].shape) * 0.5
    return PersonalLandmarks(frames[:TRAINING], (points[:TRAINING] + noise).astype(np.float32))


def read(landmarker: PersonalLandmarks, frames: np.ndarray) -> np.ndarray:
    return np.stack([landmarker(frame)[0] for frame in frames])


@pytest.mark.parametrize("kind", ["as filmed", "blurred", "tinted"])
def test_unseen_frames_are_read_well(
    landmarker: PersonalLandmarks, drawn: tuple[np.ndarray, np.ndarray], kind: str
) -> None:
    frames, points = drawn[0][TRAINING:], drawn[1][TRAINING:]
    if kind == "blurred":
        frames = np.stack([cv2.GaussianBlur(frame, (0, 0), 0.8) for frame in frames])
    elif kind == "tinted":
        frames = np.clip(frames * np.array([0.95, 1.0, 1.04]) + 4, 0, 255).astype(np.uint8)
    found = read(landmarker, frames)
    lips = list(LIP_POINTS)
    assert np.linalg.norm(found[:, lips] - points[:, lips], axis=-1).mean() < 0.8
    assert METRICS["r_open"].value(found, points) > 0.97
    assert METRICS["r_eye"].value(found, points) > 0.9
    assert np.isnan(found[:, 10]).all()  # a point that was not learnt


def test_a_mouth_that_contradicts_the_rest_is_read_from_its_own_pixels(landmarker: PersonalLandmarks) -> None:
    mouth = drawn_face.motion()["mouth"][::-1].copy()
    frames, points = drawn_face.clip(mouth=mouth)
    found = read(landmarker, frames[TRAINING:])
    assert METRICS["r_open"].value(found, points[TRAINING:]) > 0.95


def test_without_a_face_there_are_no_points(
    landmarker: PersonalLandmarks, drawn: tuple[np.ndarray, np.ndarray]
) -> None:
    flat = np.full_like(drawn[0][0], 120)
    noise = np.random.default_rng(0).integers(0, 255, flat.shape).astype(np.uint8)
    for frame in (flat, noise, drawn[0][0][::-1], cv2.GaussianBlur(drawn[0][0], (0, 0), 12)):
        points, likeness = landmarker(frame)
        assert np.isnan(points).all()
        assert likeness < 0.65
    points, likeness = landmarker(drawn[0][TRAINING])
    assert likeness > 0.8
    assert not np.isnan(points[33]).any()


def test_it_is_deterministic(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    frames, points = drawn
    first, second = (PersonalLandmarks(frames[:40], points[:40])(frames[60])[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_its_state_makes_the_same_landmarker(
    landmarker: PersonalLandmarks, drawn: tuple[np.ndarray, np.ndarray]
) -> None:
    again = PersonalLandmarks.from_state({name: array.copy() for name, array in landmarker.state().items()})
    for frame in (drawn[0][TRAINING], drawn[0][-1], np.full_like(drawn[0][0], 120)):
        (first, likeness), (second, other) = landmarker(frame), again(frame)
        np.testing.assert_array_equal(first, second)
        assert likeness == other


def test_too_few_frames_are_refused(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    frames, points = drawn
    with pytest.raises(InputError, match="10 frames"):
        PersonalLandmarks(frames[:10], points[:10])


def test_similarity_finds_the_one_that_was_applied() -> None:
    random = np.random.default_rng(3)
    points = random.standard_normal((7, 2))
    applied = np.array([[1.2 * np.cos(0.3), -1.2 * np.sin(0.3), 4.0], [1.2 * np.sin(0.3), 1.2 * np.cos(0.3), -2.0]])
    np.testing.assert_allclose(similarity_between(points, move(applied, points)), applied, atol=1e-12)
    turned = similarity_between(points, move(applied, points), scaled=False)
    np.testing.assert_allclose(turned[:, :2], applied[:, :2] / 1.2, atol=1e-12)
    np.testing.assert_allclose(move(turned, points).mean(0), move(applied, points).mean(0), atol=1e-12)
    np.testing.assert_allclose(chain(invert(applied), applied), np.eye(3)[:2], atol=1e-12)
