"""The stage that teaches the house's own SyncNet: whom it learns from, and what it says when it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import UsageError
from models.metrics import all_metrics
from models.records import TEST, TRAIN, Mouths, Weights
from models.sync.house_learning import Found
from tasks import sync_house
from tasks.places import Keys, Places
from tasks.stage import execute
from tasks.sync_house import SyncHouseParams, check_of
from tasks.weights import check_words, ready_metrics


def add_speaker(places: Places, name: str, seconds: float, basis: str = "basis: synthetic") -> None:
    random, count = np.random.default_rng(len(name)), round(25 * seconds)
    split = np.where(np.arange(count) < 0.8 * count, TRAIN, TEST).astype(np.int8)
    pictures = random.integers(0, 256, (count, 48, 48), np.uint8)
    sound = random.integers(-3000, 3000, 640 * count).astype(np.int16)
    folder = places.record("mouths", Keys(speaker=name))
    folder.mkdir(parents=True)
    Mouths(name, pictures, np.ones(count, bool), split, sound, np.zeros(0, np.int32)).save(folder)
    places.speaker_record(name).parent.mkdir(parents=True, exist_ok=True)
    places.speaker_record(name).write_text(f"name: {name}\n{basis}\nsources: [a.mp4]\n")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "params.yaml").write_text("speakers: [ann, bob, cyd]\n")
    places = Places(tmp_path)
    add_speaker(places, "ann", 16)
    return places


def taught(places: Places, **params: object) -> Weights:
    execute(sync_house.STAGE, sync_house.run, Keys(), places, SyncHouseParams(**{"most_steps": 2, **params}))
    return Weights.load(places.record("sync_house", Keys()))


def test_records_of_all_speakers_lie_side_by_side(tmp_path: Path) -> None:
    places = Places(tmp_path)
    assert places.record("mouths", Keys(speaker="ann")).parent == places.record("mouths", Keys(speaker="bob")).parent
    assert places.record("sync_house", Keys()).parent == tmp_path / "data/work/project"


def test_noise_is_learnt_from_and_its_check_says_that_nothing_was_found(places: Places) -> None:
    weights = taught(places, least_seconds=5)
    check = weights.quality["check"]
    assert check["reached"] is None  # 3.2 s of unseen frames are too few
    assert check["tried"] > 0
    assert check["share"] < 0.6
    assert "out of 3.2 s of unseen frames" in check_words(weights, "ann")
    assert "too short to judge" in check_words(weights, "ann")
    house = {name: metric for name, metric in all_metrics().items() if metric.taught}
    ready, absent = ready_metrics(house, places, "evaluate", {"sync_house": weights})
    assert not absent
    assert set(ready) == {"Sync-C_house", "Sync-E_house", "sync_lag_house"}
    assert all("its check: " in metric.definition for metric in ready.values())
    assert len({id(metric.compute) for metric in ready.values()}) == 1
    assert weights.quality["learnt_s"] == 12.8


def test_with_too_little_material_there_is_no_network_and_a_reason(places: Places) -> None:
    weights = taught(places, least_seconds=30)
    assert not weights.tensors
    assert "12.8 s of 1 speaker" in check_words(weights)


def test_who_is_left_out_is_checked_whole_and_not_learnt_from(places: Places) -> None:
    add_speaker(places, "bob", 4)
    weights = taught(places, least_seconds=5, left_out=("bob",))
    assert weights.quality["learnt_s"] == 12.8
    assert set(weights.quality["check"]["left_out"]) == {"bob"}
    assert weights.quality["check"]["left_out"]["bob"]["excerpts"] == 6
    assert "bob, not learnt from" in check_words(weights)
    with pytest.raises(UsageError, match="dan") as error:
        taught(places, left_out=("dan",))
    assert error.value.fix == "add dan to speakers, or take it out of sync_house.left_out"


def test_nobody_without_a_valid_basis_is_learnt_from(places: Places) -> None:
    add_speaker(places, "cyd", 8, "basis: consent")
    assert taught(places, least_seconds=5).quality["speakers"] == ["ann"]


def test_a_check_that_is_missed_says_so() -> None:
    params = SyncHouseParams()
    found = {"ann": Found(90, 100, 10, 140), "bob": Found(70, 100, 10, 140)}
    check = check_of(found["ann"] + found["bob"], found, params)
    assert check["share"] == 0.8
    assert check["reached"] is False
    weights = Weights("sync_house", "trained", {}, {"x": np.zeros(1, np.float32)}, {}, {"check": check})
    words = check_words(weights, "bob")
    assert "80 % of planted lags" in words
    assert "MISSED: do not trust it" in words
    assert "of bob 70 %" in words
    assert "out of 11.2 s of unseen frames" in words
    assert check_of(found["ann"], found, params)["reached"] is True
    many = Found(100, 100, 10, 80)  # excerpts, of the same 3.2 seconds
    assert check_of(many, {"ann": many}, params)["reached"] is None
    assert "not been run" in check_words(None)
