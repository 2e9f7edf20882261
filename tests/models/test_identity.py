"""Recognising persons: the faces are cut out and compared as OpenCV's own class does it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import recogniser

from models.errors import InputError
from models.identity import POINTS, SFace
from models.metrics import all_metrics
from models.metrics.identity import similarity


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recogniser.write(tmp_path_factory.mktemp("network") / "sface.onnx")


def frames(count: int = 3) -> np.ndarray:
    """Smooth coloured pictures, each another one."""
    y, x = np.mgrid[:400, :440] / 40
    phase = np.arange(3 * count).reshape(count, 1, 1, 3)
    waves = np.sin(2 * x[None, ..., None] + phase) * np.cos(3 * y[None, ..., None] - phase)
    return (127 + 100 * waves).astype(np.uint8)


def faces(count: int = 3) -> np.ndarray:
    """Five points of a face that turns and grows, at the landmarks that are their means."""
    points = np.full((count, 478, 2), np.nan)
    shape = np.array([[-20, -22], [20, -20], [1, 0], [-15, 22], [16, 21]], float)
    for k in range(count):
        turn, size = 0.15 * k, 1 + 0.2 * k
        turned = size * shape @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        for names, place in zip(POINTS, turned + (220, 200), strict=True):
            points[k, list(names)] = place
    return points


def test_a_face_is_read_as_opencv_reads_it(path: Path) -> None:
    network = cv2.FaceRecognizerSF.create(str(path), "")
    pictures, points = frames(), faces()
    own = SFace(path).read(pictures, points)
    for k, picture in enumerate(pictures):
        # A row of OpenCV's detector: a box, five points (whose pixels have their centres at integers), a score.
        five = [points[k, list(names)].mean(0) - 0.5 for names in POINTS]
        row = np.concatenate([[0, 0, 1, 1], np.ravel(five), [1]]).astype(np.float32)[None]
        bgr = np.ascontiguousarray(picture[..., ::-1])
        feature = network.feature(network.alignCrop(bgr, row))
        np.testing.assert_allclose(own[k], feature[0] / np.linalg.norm(feature), atol=1e-4)


def test_the_same_face_has_similarity_one_and_noise_takes_from_it(path: Path) -> None:
    network, pictures, points = SFace(path), frames(), faces()
    true = network.read(pictures, points)
    np.testing.assert_allclose(similarity(true, true), 1, atol=1e-9)
    noise = np.random.default_rng(0).standard_normal(pictures.shape)
    found = [
        similarity(network.read((pictures + amount * noise).clip(0, 255).astype(np.uint8), points), true).mean()
        for amount in (0, 40, 80, 120)
    ]
    assert all(before > after for before, after in zip(found, found[1:], strict=False))


def test_a_face_that_turns_and_grows_with_its_picture_stays_the_same(path: Path) -> None:
    picture, points = frames(1)[0], faces(1)
    matrix = np.array([[1.1, -0.1, 3], [0.1, 1.1, -14.0]])
    moved = cv2.warpAffine(picture, matrix, (440, 400))
    there = (points - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5
    network = SFace(path)
    assert similarity(network.read([picture], points), network.read([moved], there))[0] > 0.999


def test_without_a_landmark_that_places_it_a_face_is_not_read(path: Path) -> None:
    points = faces()
    points[1, 133] = np.nan
    assert np.isnan(SFace(path).read(frames(), points)).all(1).tolist() == [False, True, False]


def test_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not SFace"):
        SFace(recogniser.write(tmp_path / "other.onnx", count=64))
    (tmp_path / "nothing.onnx").write_bytes(b"nothing")
    with pytest.raises(InputError, match="ONNX"):
        all_metrics()["identity"].ready([tmp_path / "nothing.onnx"])
