"""Lips against sound in the evaluation: whose sound, over which frames, and what is said where there is no number."""

from dataclasses import replace
from pathlib import Path

import evaluated_project
import numpy as np
import pytest

from models.metrics import all_metrics
from models.metrics.base import Metric, block_bootstrap, blocks_of
from models.records import Clip
from models.sync.lags import Synchrony, distances
from tasks.places import Keys, Places
from tasks.scores import Scores
from tasks.synchrony import Picked, breaks_of, compare_speech, sound_of

KEYS = {"speaker": "ada", "method": "drawn", "extractor": "logmel", "split": "test", "drive": ""}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return evaluated_project.make(tmp_path_factory.mktemp("project"))


@pytest.fixture
def clip(places: Places) -> Clip:
    return Clip.load(places.record("ingest", Keys("ada")))


def listening(late: int, calls: list[int]) -> dict[str, Metric]:
    """The metrics of SyncNet with a network that hears loudness and sees it so many frames later."""

    def compute(frames: Picked, points: np.ndarray, sound: np.ndarray, breaks: list[int]) -> Synchrony:
        calls.append(len(frames))
        if len(frames) < 40:
            return Synchrony(np.full((len(points), 31), np.nan), "the face is seen too shortly")
        loud = sound[: 640 * len(frames)].reshape(len(frames), 640)[:, :8].astype(float)
        windows = np.full((len(points), 31), np.nan)
        windows[:-5] = distances(np.roll(loud, late, 0)[:-5], loud[:-5])
        return Synchrony(windows)

    found = {name: metric for name, metric in all_metrics().items() if metric.needs == ("syncnet",)}
    return {name: replace(metric, compute=compute) for name, metric in found.items()}


def test_all_numbers_of_a_network_come_of_one_look(clip: Clip) -> None:
    scores, calls, sound = Scores(dict(KEYS)), [], np.random.default_rng(0).integers(-9000, 9000, 100 * 640)
    pictures = Picked(clip.frames, range(100))
    points = np.zeros((100, 478, 2))
    metrics = listening(4, calls)
    compare_speech(scores, metrics.values(), "full", pictures, points, sound)
    compare_speech(scores, metrics.values(), "motion_off", pictures, points, np.roll(sound, 640 * 30))
    assert len(calls) == 2
    assert scores.value("sync_lag", "face", "full") == 4
    assert scores.value("Sync-C", "face", "full") > 1000
    assert {row["unit"] for row in scores.rows} == {"1", "frames"}
    scores.add_static(metrics)
    assert scores.strongest == {("Sync-C", "face"): "motion_off", ("Sync-E", "face"): "motion_off"}
    columns, metric = scores.columns["Sync-C", "face", "full"], metrics["Sync-C"]
    assert len(columns) == 100
    low, high = block_bootstrap(lambda p: metric.summary(columns[p]), blocks_of(np.arange(100), 10), 100)
    assert low <= metric.summary(columns) <= high


def test_where_there_is_no_number_there_is_a_reason(clip: Clip) -> None:
    scores = Scores(dict(KEYS))
    compare_speech(
        scores, listening(0, []).values(), "full", Picked(clip.frames, range(30)), np.zeros((30, 478, 2)), np.zeros(1)
    )
    assert not scores.rows
    assert {entry["why"] for entry in scores.absent} == {"the face is seen too shortly"}


def test_frames_bring_their_own_sound(clip: Clip) -> None:
    frames = np.array([5, 6, 90])
    found = sound_of(clip, frames)
    np.testing.assert_array_equal(found, np.concatenate([clip.sound[640 * t : 640 * (t + 1)] for t in frames]))
    beyond = sound_of(clip, np.array([len(clip.sound) // 640 + 3]))
    assert len(beyond) == 640
    assert not beyond.any()
    assert len(sound_of(clip, frames[:0])) == 0


def test_no_track_crosses_a_cut_or_a_gap(clip: Clip) -> None:
    cut = replace(clip, cuts=np.array([92], np.int32))
    assert breaks_of(cut, np.array([88, 89, 90, 91, 92, 93, 97, 98])) == [4, 6]
    assert breaks_of(clip, np.arange(10)) == []


def test_picked_frames_are_those_of_their_positions(clip: Clip, tmp_path: Path) -> None:
    picked = Picked(clip.frames, np.array([7, 3]))
    assert len(picked) == 2
    np.testing.assert_array_equal(picked[1], clip.frames[3])
