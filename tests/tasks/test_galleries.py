"""Galleries: what went worst stands first, and what failed is told by name."""

import json
from typing import Any

import cv2
import evaluated_project
import numpy as np
import pytest

from models.metrics import all_metrics
from models.records import Clip, Landmarks, Rendering
from tasks import evaluate, galleries, judge
from tasks.galleries import badness_of, box_of, worst_positions
from tasks.judge import JudgeParams
from tasks.measuring import EvaluateParams
from tasks.places import Keys, Places
from tasks.regions import mouth_box
from tasks.stage import execute

KEYS = Keys("ada", "logmel")
STAINED, SHUT = 30, slice(12, 20)  # positions in the rendering


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """A speaker whose rendering has a stain on one frame, and a mouth that stays shut in some others."""
    places = evaluated_project.make(tmp_path_factory.mktemp("project"))
    execute(judge.STAGE, judge.run, Keys("ada"), places, JudgeParams())
    rendering = Rendering.load(places.record("render", KEYS))
    variants = {name: getattr(rendering, name).take(range(len(rendering.full))) for name in rendering.variants}
    mouth = evaluated_project.drawn_face.motion()["mouth"].copy()
    mouth[rendering.frame_index[SHUT]] = 0
    shut = evaluated_project.drawn_face.clip(mouth=mouth)[0][rendering.frame_index[SHUT]]
    variants["full"][SHUT] = shut
    points = Landmarks.load(places.record("landmarks", Keys("ada"))).points
    rows, columns = mouth_box(points[rendering.frame_index[STAINED]], (96, 96), 0)
    variants["full"][STAINED, rows, columns] = 0
    evaluated_project.render(places, rendering.frame_index, **variants)
    execute(evaluate.STAGE, evaluate.run, KEYS, places, EvaluateParams(draws=100, worst=4))
    return places


@pytest.fixture(scope="module")
def content(places: Places) -> dict[str, Any]:
    return json.loads((places.preview("evaluate", KEYS) / galleries.FILE).read_text())


def frames_of(content: dict[str, Any], metric: str, region: str) -> list[int]:
    for gallery in content["worst"]:
        if [metric, region] in [[g["metric"], g["region"]] for g in (gallery, *gallery["same"])]:
            return [frame["frame"] for frame in gallery["frames"]]
    return []


def test_a_planted_fault_stands_first(content: dict[str, Any]) -> None:
    planted = evaluated_project.TEST_FROM + STAINED
    assert frames_of(content, "PSNR", "mouth")[0] == planted
    assert frames_of(content, "SSIM", "mouth")[0] == planted
    assert frames_of(content, "PSNR", "head")[0] == planted


def test_every_metric_that_ranks_frames_has_a_gallery(content: dict[str, Any]) -> None:
    shown = {gallery["metric"] for gallery in content["worst"]}
    shown |= {other["metric"] for gallery in content["worst"] for other in gallery["same"]}
    assert shown >= {"PSNR", "SSIM", "LMD", "LMD_iod", "r_open", "amplitude", "r_eye", "specks", "flicker", "jitter"}
    assert "r_sound" not in shown  # a lip gap and a loudness cannot be subtracted


def test_a_mouth_that_stays_shut_is_told(places: Places, content: dict[str, Any]) -> None:
    failures = {failure["name"]: failure for failure in content["failures"]}
    shut = failures["mouth stays shut"]
    mouth = evaluated_project.drawn_face.motion()["mouth"][evaluated_project.TEST_FROM :]
    assert shut["count"] >= 1
    planted = range(evaluated_project.TEST_FROM + SHUT.start, evaluated_project.TEST_FROM + SHUT.stop)
    assert shut["frames"][0]["frame"] in planted
    assert mouth[shut["frames"][0]["position"]] > np.median(mouth)
    assert failures["no face"]["count"] == 0
    stained = failures["a still mouth would be nearer"]["frames"][0]
    assert stained["position"] == STAINED
    own, still = stained["numbers"]
    assert still > own + 1


def test_a_box_holds_truth_result_and_difference(places: Places, content: dict[str, Any]) -> None:
    gallery = next(g for g in content["worst"] if (g["metric"], g["region"]) == ("PSNR", "head"))
    sheet = cv2.imread(str(places.preview("evaluate", KEYS) / gallery["file"]))[..., ::-1].astype(float)
    clip, rendering = (
        r.load(places.record(s, k)) for r, s, k in ((Clip, "ingest", Keys("ada")), (Rendering, "render", KEYS))
    )
    for frame in gallery["frames"]:
        x, y, width, height = frame["box"]
        third = width // 3
        for place, picture in enumerate((clip.frames[frame["frame"]], rendering.full[frame["position"]])):
            shown = sheet[y : y + height, x + place * third : x + (place + 1) * third]
            true = cv2.resize(picture, (third, height), interpolation=cv2.INTER_CUBIC)
            assert abs(shown - true).mean() < 4


def test_worst_frames_are_apart_and_worst_first() -> None:
    assert worst_positions(np.array([-5.0, -1.0, -1.1, -9.0, np.nan, -2.0]), 3, 2) == [1, 5, 3]
    assert worst_positions(np.full(3, np.nan), 3, 1) == []


def test_bad_is_what_is_far_from_what_it_is_held_against() -> None:
    metrics = all_metrics()
    pair = np.array([[1.0, 3.0], [4.0, 3.0], [np.nan, 1.0]])
    np.testing.assert_array_equal(badness_of(metrics["r_open"], pair), [2, 1, np.nan])
    np.testing.assert_array_equal(badness_of(metrics["specks"], pair), [-2, 1, np.nan])  # fewer than the truth is fine
    np.testing.assert_array_equal(badness_of(metrics["PSNR"], pair[:, :1]), [-1, -4, np.nan])
    np.testing.assert_array_equal(badness_of(metrics["LMD"], pair[:, :1]), [1, 4, np.nan])


@pytest.mark.parametrize("crop", ["mouth", "eyes", "face", ""])
def test_without_landmarks_the_whole_frame_is_shown(crop: str) -> None:
    assert box_of(crop, np.full((478, 2), np.nan), (40, 60)) == (slice(0, 40), slice(0, 60))


def test_captions_say_what_their_numbers_are_of() -> None:
    assert galleries.caption([0.0612, 0.05], "1", "r_open") == "0.0612 against 0.0500 of the eye distance"
    assert galleries.caption([27.0], "dB", "PSNR") == "27 dB"
    assert galleries.caption([None, 1.5], "px", "LMD") == "none against 1.50 px"
    assert galleries.caption([30.0, 4.0], "1", "specks") == "30 against 4"
