"""The second judge of the lips: what it says of which variant, and of a person reading a sentence."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import real_face
from saved_clip import save_clip

from models.metrics import all_metrics
from models.records import TEST, TRAIN, store_path
from models.storage import FrameStore
from tasks.comparing import Pairs
from tasks.places import Places
from tasks.scores import Scores
from tasks.second_judge import compare, judge_again

ROOT = Path(__file__).resolve().parents[2]
SECOND = [metric for metric in all_metrics().values() if metric.compares == "second"]


def talking(count: int = 30) -> np.ndarray:
    """Points of a face whose lower lip goes up and down."""
    points = np.random.default_rng(0).uniform(20, 90, (1, 478, 2)).repeat(count, 0)
    points[:, 14, 1] += 3 * np.sin(np.arange(count))
    return points.astype(np.float32)


def test_every_variant_is_told_what_it_can_be_told() -> None:
    true = talking()
    worse, hidden = true.copy(), true.copy()
    worse[:, 14, 0] += np.arange(30) % 3
    worse[4:9] = np.nan
    hidden[:] = np.nan
    points = {"full": true, "wrong_audio": worse, "motion_off": hidden, "constant_lips": worse, "reread": true}
    scores = Scores({})
    compare(scores, SECOND, true, points, true + 1)
    told = {(row["metric"], row["variant"]): row["value"] for row in scores.rows}
    assert told["LMD_second", "full"] == 0
    assert told["r_open_second", "full"] == 1
    assert told["LMD_second", "wrong_audio"] > 0.01
    assert told["missed_frames_second", "full"] == 0
    assert told["missed_frames_second", "wrong_audio"] == 5
    assert told["missed_frames_second", "motion_off"] == 30
    assert {metric for metric, variant in told if variant == "constant_lips"} == {"LMD_second", "LMD_iod_second"}
    assert {metric for metric, variant in told if variant == "judge"} == {"r_open_second", "amplitude_second"}
    assert {metric for metric, variant in told if variant == "reread"} == {metric.name for metric in SECOND}
    absent = {(entry["metric"], entry["variant"]): entry["why"] for entry in scores.absent}
    assert absent == {(metric.name, "motion_off"): "the second judge finds no face" for metric in SECOND}


def test_a_rendering_that_says_something_else_is_found_out(assets: Path, tmp_path: Path) -> None:
    frames, known = real_face.sentence(assets)
    count, test = len(frames), np.arange(20, 40)
    split = np.where(np.arange(count) < test[0], TRAIN, TEST).astype(np.int8)
    clip = save_clip(tmp_path / "clip", list(frames), split=split)
    (tmp_path / "data").mkdir()
    shutil.copy(ROOT / "data/assets.toml", tmp_path / "data")
    pictures = {"full": frames[test], "wrong_audio": frames[test[::-1]]}
    stores = {
        name: FrameStore.create(store_path(tmp_path, name), list(shown), shown[0].shape)
        for name, shown in pictures.items()
    }
    scores = Scores({})
    judge_again(scores, SECOND, stores, Pairs(clip, test, np.arange(len(test))), known, Places(tmp_path))
    told = {(row["metric"], row["variant"]): row["value"] for row in scores.rows}
    assert told["LMD_second", "full"] == 0
    assert told["r_open_second", "full"] == pytest.approx(1)
    assert told["r_open_second", "wrong_audio"] < 0.8
    assert 0 < told["LMD_second", "reread"] < 0.5 * told["LMD_second", "wrong_audio"]
    assert told["LMD_second", "reread"] < 0.5 * told["LMD_second", "constant_lips"]
    assert told["r_open_second", "judge"] > 0.8  # MediaPipe sees the same mouth


def test_without_weights_nothing_is_read(tmp_path: Path) -> None:
    scores = Scores({})
    clip = save_clip(tmp_path, [np.zeros((8, 8, 3), np.uint8)] * 3)
    pairs = Pairs(clip, np.arange(3), np.arange(3))
    judge_again(scores, [], {}, pairs, np.full((3, 478, 2), np.nan), Places(tmp_path))
    assert not scores.rows
