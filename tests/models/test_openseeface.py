"""OpenSeeFace's landmarker: its maps against a plain reading, its crop, and a person reading a sentence."""

from pathlib import Path

import numpy as np
import pytest
import real_face

from models.heads.mediapipe_points import JAW, LIP_POINTS
from models.landmarks.openseeface import NAMES, SIDE, OpenSeeFace, crops_of, decode
from models.landmarks.placing import move
from models.metrics import all_metrics

METRICS = all_metrics()
LIPS = [name for name in NAMES if name in LIP_POINTS]
Seen = tuple[np.ndarray, np.ndarray, np.ndarray]


def plainly(maps: np.ndarray) -> np.ndarray:
    """Points `[66, 2]` of the maps `[198, 28, 28]` of one crop, cell by cell."""
    points = np.zeros((66, 2))
    for k in range(66):
        row, column = np.unravel_index(maps[k].argmax(), (28, 28))
        total = 0.0
        for y in range(max(0, row - 1), min(27, row + 1) + 1):
            for x in range(max(0, column - 1), min(27, column + 1) + 1):
                down, right = (np.log(maps[m * 66 + k, y, x] / (1 - maps[m * 66 + k, y, x])) for m in (1, 2))
                where = np.array([223 * x / 27 + 223 * right / 16, 223 * y / 27 + 223 * down / 16])
                points[k] += maps[k, y, x] * where
                total += maps[k, y, x]
        points[k] /= total
    return points + 0.5


def test_maps_are_read_as_plainly() -> None:
    random = np.random.default_rng(0)
    maps = random.uniform(0.05, 0.95, (3, 198, 28, 28))
    # The likeliest cell in the corners and on an edge as well, where neighbours are missing.
    for k, (row, column) in enumerate(((0, 0), (0, 27), (27, 0), (27, 27), (13, 0), (27, 5))):
        maps[:, k, row, column] = 1.0
    points, sure = decode(maps.astype(np.float32))
    np.testing.assert_allclose(points, [plainly(crop) for crop in maps], atol=2e-3)
    np.testing.assert_allclose(sure, maps[:, :66].max((2, 3)), rtol=1e-6)


def test_a_point_lies_where_the_only_likely_cell_says() -> None:
    maps = np.zeros((1, 198, 28, 28), np.float32)
    maps[0, :66, 9, 18] = 0.8
    maps[0, 66:132, 9, 18], maps[0, 132:, 9, 18] = 1 / (1 + np.exp(-0.25)), 1 / (1 + np.exp(0.5))
    points, sure = decode(maps)
    np.testing.assert_allclose(points[0, 40], [223 * 18 / 27 - 223 / 32 + 0.5, 223 / 3 + 223 / 64 + 0.5], atol=1e-4)
    np.testing.assert_allclose(sure, 0.8, rtol=1e-6)


def face(count: int = 5) -> np.ndarray:
    """Points of a face that turns, grows and goes, `[count, 478, 2]`; a broad one, so that its box is known."""
    random = np.random.default_rng(3)
    still = random.uniform(-40, 40, (478, 2)) * (1.0, 0.8)
    still[33], still[263] = (-35, -20), (35, -20)
    still[list(JAW)] = np.stack([random.uniform(-45, 45, len(JAW)), random.uniform(20, 55, len(JAW))], 1)
    turns = np.exp(0.1 * np.arange(count) + 0.05j * np.arange(count))
    turned = (still @ [1, 1j])[None] * turns[:, None]
    return np.stack([turned.real + 120, turned.imag + 110 + 5 * np.arange(count)[:, None]], -1)


def test_the_crop_goes_with_the_face() -> None:
    points = face()
    crops = crops_of(points)
    inside = np.stack([move(crop, shape[NAMES]) for crop, shape in zip(crops, points, strict=True)])
    np.testing.assert_allclose(inside, inside[:1].repeat(5, 0), atol=1e-6)
    low, high = inside[0].min(0), inside[0].max(0)
    np.testing.assert_allclose(low + high, SIDE, atol=1e-6)  # in the middle
    assert ((high - low) * (1.2, 1.25)).max() == pytest.approx(SIDE)
    eyes = move(crops[4], points[4, [33, 263]])
    assert eyes[0, 1] == pytest.approx(eyes[1, 1], abs=1e-6)  # level, however the head is held


def test_the_crop_does_not_tell_how_far_the_mouth_is_open() -> None:
    points = face()
    opened = points.copy()
    opened[3:, [*JAW, *LIPS]] += (2, 15)
    # Open in some frames only, the mouth makes the crop of all of them larger, and alike.
    ratio = crops_of(opened)[:, :, :2] @ np.linalg.inv(crops_of(points)[:, :, :2])
    assert ratio[0, 0, 0] < 0.99
    np.testing.assert_allclose(ratio, ratio[:1].repeat(5, 0), atol=1e-6)


def test_without_points_there_is_no_crop() -> None:
    points = face()
    points[2] = np.nan
    points[:, [70, 4]] = np.nan  # points that are never given do no harm
    assert np.isnan(crops_of(points)).all((1, 2)).tolist() == [False, False, True, False, False]
    points[:, 33] = np.nan
    assert np.isnan(crops_of(points)).all()
    assert np.isnan(crops_of(np.full((2, 478, 2), np.nan))).all()


@pytest.fixture(scope="module")
def landmarker(assets: Path) -> OpenSeeFace:
    return OpenSeeFace(assets / "weights" / "openseeface_lm_model0.onnx")


@pytest.fixture(scope="module")
def seen(assets: Path, landmarker: OpenSeeFace) -> Seen:
    """Frames of a person reading a sentence, what MediaPipe finds in them, and the crops."""
    frames, points = real_face.sentence(assets)
    return frames, points, crops_of(points)


def test_it_sees_what_mediapipe_sees(landmarker: OpenSeeFace, seen: Seen) -> None:
    frames, points, crops = seen
    found = landmarker.read(frames, crops)
    assert np.isfinite(found[:, NAMES]).all()
    assert np.isnan(np.delete(found, np.array(NAMES), 1)).all()
    eye_distance = np.linalg.norm(points[:, 33] - points[:, 263], axis=-1).mean()
    apart = np.linalg.norm(found - points, axis=-1)
    assert apart[:, LIPS].mean() < 0.06 * eye_distance  # two markups do not mean quite the same points
    assert apart[:, [33, 133, 362, 263, 13, 14]].mean() < 0.04 * eye_distance
    assert METRICS["r_open"].value(found, points) > 0.85


def test_other_frames_are_told_apart_and_the_same_are_not(landmarker: OpenSeeFace, seen: Seen) -> None:
    frames, points, crops = seen
    found = landmarker.read(frames, crops)
    # A frame that lies elsewhere in a picture is the same face.
    wider = np.pad(frames, ((0, 0), (7, 0), (5, 0), (0, 0)), mode="edge")
    again = landmarker.read(wider, crops_of(points + (5, 7)))
    assert METRICS["LMD"].value(again - np.array([5, 7], np.float32), found) < 0.01
    late = np.roll(np.arange(len(frames)), 15)
    small = METRICS["LMD"].value(landmarker.read(frames, crops_of(points + 1)), found)
    assert small < 0.4 * METRICS["LMD"].value(landmarker.read(frames[late], crops[late]), found)


def test_where_there_is_no_face_there_are_no_points(landmarker: OpenSeeFace, seen: Seen) -> None:
    frames, _, crops = seen
    crops = crops[:4].copy()
    crops[3] = np.nan
    noise = np.random.default_rng(0).integers(0, 256, frames[0].shape).astype(np.uint8)
    corner = frames[2].copy()
    corner[:] = frames[2][:1]  # the wall behind the head
    found = landmarker.read([frames[0], noise, corner, frames[3]], crops)
    assert np.isfinite(found[:, 13, 0]).tolist() == [True, False, False, False]
    assert np.isfinite(found[0, NAMES]).all()
