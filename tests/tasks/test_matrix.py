"""The matrix of heads and drives: groups, intervals, what is within noise, and gaps with their reasons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import UsageError
from models.metrics import all_metrics
from models.sync.lags import Synchrony, distances
from tasks import matrix
from tasks.matrix import MatrixParams, groups_of, overlap, read_matrix, tables_of
from tasks.places import Keys, Places
from tasks.scores import Scores
from tasks.stage import execute
from tasks.windows import write_windows

PARAMS = MatrixParams(draws=100)


def measured(places: Places, speaker: str, drive: str, likeness: float, count: int = 150, **about: Any) -> None:
    """Write what a stage that evaluates writes, of lips that go with the sound as far as `likeness`."""
    random = np.random.default_rng(len(speaker + drive))
    keys = {"speaker": speaker, "method": "drawn", "extractor": "logmel", "split": "", "drive": drive}
    scores, metrics = Scores(keys), all_metrics()
    sound = random.standard_normal((count, 16))
    noise = random.standard_normal((count, 16))
    wrong = "wrong_sound" if drive else "wrong_audio"
    for variant, share in (("full", likeness), (wrong, 0.0), ("speaker" if drive else "truth", 1.0)):
        lips = share * sound + (1.01 - share) * noise
        found = Synchrony(distances(lips, sound, beyond=np.nan))
        for name in ("Sync-C_house", "Sync-E_house", "sync_lag_house"):
            scores.add_columns(metrics[name], "face", variant, found.windows)
    folder = places.metrics("evaluate_drive" if drive else "evaluate", Keys(speaker, "logmel", drive or None))
    folder.mkdir(parents=True)
    absent = [{"metric": "Sync-C", "region": "all", "variant": "full", "why": "no weights"}]
    told = {**{key: keys[key] for key in ("speaker", "method", "extractor")}, "seconds": count / 25, **about}
    if drive:
        told["drive"] = drive
    content = {"about": {"own_language": "en", "own_gender": "male", **told}, "rows": scores.rows, "absent": absent}
    (folder / "metrics.json").write_text(json.dumps(content))
    write_windows(folder, scores, ["Sync-C_house", "Sync-E_house", "sync_lag_house"], ("full", wrong))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "params.yaml").write_text("speakers: [ann, robert]\nextractors: [logmel]\ndrives: [de_f, de_noise]\n")
    return Places(tmp_path)


def made(places: Places) -> dict[str, Any]:
    execute(matrix.STAGE, matrix.run, Keys(), places, PARAMS)
    return read_matrix(places)


def test_numbers_of_two_networks_are_told_apart(places: Places) -> None:
    measured(places, "ann", "", 0.5, sync_house="93 %", taught={"sync_house": "a"})
    assert made(places)["about"]["sync_house"] == "93 %"
    measured(places, "robert", "", 0.5, sync_house="96 %", taught={"sync_house": "b"})
    notes = tables_of(made(places))[0].notes
    assert any("2 NETWORKS, whose numbers must not be compared (ann: 93 %; robert: 96 %)" in note for note in notes)


def test_heads_and_drives_are_held_against_wrong_sound(places: Places) -> None:
    german = {"language": "de", "gender": "female", "basis": "synthetic", "source": "made"}
    measured(places, "ann", "", 0.9)
    measured(places, "ann", "de_f", 0.6, **german)
    measured(places, "ann", "de_noise", 0.0, **german)
    measured(places, "robert", "de_f", 0.7, **german)
    content = made(places)
    cells = {(cell["speaker"], cell["drive"]): cell["values"]["Sync-C_house"] for cell in content["cells"]}
    assert set(cells) == {("ann", ""), ("ann", "de_f"), ("ann", "de_noise"), ("robert", "de_f")}
    good, bad = cells["ann", "de_f"], cells["ann", "de_noise"]
    assert good["low"] <= good["value"] <= good["high"]
    assert good["noise"] is False
    assert bad["noise"] is True
    assert good["own"] > good["value"] > good["wrong"]
    assert [drive["drive"] for drive in content["drives"]] == ["", "de_f", "de_noise"]
    assert content["drives"][1]["source"] == "synthetic: made"
    assert content["heads"][0] == {
        **{"speaker": "ann", "method": "drawn", "extractor": "logmel", "language": "en", "gender": "male"}
    }
    groups = {group["group"]: group for group in content["groups"] if group["metric"] == "Sync-C_house"}
    assert set(groups) == {"own sound", "cross-language", "cross-gender"}
    both = groups["cross-gender"]
    assert (both["speakers"], both["cells"]) == (2, 3)
    by_hand = np.mean([np.mean([good["value"], bad["value"]]), cells["robert", "de_f"]["value"]])
    assert both["value"] == pytest.approx(by_hand, abs=1e-5)
    assert both["low"] <= both["value"] <= both["high"]
    assert both["against"] == "own sound"  # nothing of the same gender was measured
    assert both["other"] == cells["ann", ""]["value"]
    assert "one speaker" in groups["own sound"]["why"]


def test_what_is_absent_is_a_gap_with_its_reason(places: Places) -> None:
    measured(places, "ann", "de_f", 0.6, language="de")
    values = made(places)["cells"][0]["values"]
    assert values["Sync-C"] == {
        **dict.fromkeys(("value", "low", "high", "wrong", "own", "noise")),
        "why": "no weights",
    }


def test_too_few_blocks_give_a_value_without_an_interval(places: Places) -> None:
    measured(places, "ann", "de_f", 0.9, count=45, language="de")
    content = made(places)
    value = content["cells"][0]["values"]["Sync-C_house"]
    assert value["value"] is not None
    assert value["low"] is value["high"] is value["noise"] is None
    group = next(group for group in content["groups"] if group["metric"] == "Sync-C_house")
    assert group["low"] is None
    assert "too short" in group["why"]


def test_without_anything_measured_the_matrix_is_empty(places: Places) -> None:
    with pytest.raises(UsageError, match="no matrix"):
        read_matrix(places)
    content = made(places)
    assert content["cells"] == content["groups"] == []
    assert "| speaker |" in (places.root / "data/matrix/matrix.md").read_text()


def test_speakers_that_are_not_listed_are_left_out(places: Places) -> None:
    measured(places, "gone", "de_f", 0.6, language="de")
    assert made(places)["cells"] == []


@pytest.mark.parametrize(
    ("about", "groups"),
    [
        ({}, ["own sound"]),
        ({"drive": "x", "language": "en", "gender": "male"}, ["same language", "same gender"]),
        ({"drive": "x", "language": "de", "gender": "female"}, ["cross-language", "cross-gender"]),
        ({"drive": "x", "language": "de", "gender": "unstated"}, ["cross-language"]),
        ({"drive": "x", "language": "en", "gender": "female", "kind": "singing"}, ["singing"]),
    ],
)
def test_groups(about: dict[str, str], groups: list[str]) -> None:
    assert groups_of({"own_language": "en", "own_gender": "male", **about}) == groups


def following(better_by: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances over lags of windows with their own and with the wrong sound; hard moments are hard for both."""
    random = np.random.default_rng(seed)
    hard = np.repeat(random.normal(0, 0.2, 8), 25)
    wrong = 1.3 + random.normal(0, 0.01, (200, 31))
    wrong[:, 15] += hard - 0.6
    full = wrong.copy()
    full[:, 15] -= better_by + random.normal(0, 0.002, 200)
    return full, wrong


def test_hard_moments_are_hard_with_either_sound() -> None:
    metric = all_metrics()["Sync-E_house"]
    full, wrong = following(0.02, 1)
    intervals = [matrix.interval(matrix.drawn_values(metric, side, PARAMS, 5)) for side in (full, wrong)]
    assert overlap(*intervals)  # each by itself, much varies
    assert matrix.is_noise(metric, full, wrong, PARAMS, 5) is False
    assert matrix.is_noise(metric, wrong, full, PARAMS, 5) is True
    assert matrix.is_noise(metric, wrong, wrong, PARAMS, 5) is True
    assert matrix.is_noise(metric, full, None, PARAMS, 5) is None
    assert matrix.is_noise(all_metrics()["sync_lag_house"], full, wrong, PARAMS, 5) is None


def test_a_mean_of_several_drives_varies_less_than_one(places: Places) -> None:
    german = {"language": "de", "own_language": "de"}
    (places.root / "params.yaml").write_text("speakers: [ann]\nextractors: [logmel]\ndrives: [d_a, d_b, d_c, d_d]\n")
    for drive in ("d_a", "d_b", "d_c", "d_d"):  # lips and sound alike in all of them
        measured(places, "ann", drive, 0.6, **german)
    content = made(places)
    (one, *_) = (cell["values"]["Sync-C_house"] for cell in content["cells"])
    (all_of,) = (group for group in content["groups"] if group["metric"] == "Sync-C_house")
    assert all_of["value"] == pytest.approx(one["value"])
    assert all_of["high"] - all_of["low"] < 0.7 * (one["high"] - one["low"])


def test_lags_in_opposite_directions_are_not_no_lag() -> None:
    names = {"speaker": "ann", "method": "drawn", "extractor": "logmel", "groups": ["own sound"]}
    cells = []
    for lag in (4.0, -5.0):
        values = {name: {"value": lag if name == "sync_lag_house" else None} for name in matrix.METRICS}
        cells.append({**names, "values": values})
    drawn = [{"sync_lag_house": np.full(20, lag)} for lag in (4.0, -5.0)]
    (group,) = matrix.compare_groups(cells, drawn, 20)
    assert (group["value"], group["low"], group["high"]) == (4.5, 4.5, 4.5)
    assert matrix.value_cell({**group, "noise": None}, group["unit"], matrix.Footnotes()).text == "4.5 [4.5, 4.5]"


def test_overlap_of_intervals() -> None:
    assert overlap((1, 2), (1.5, 3)) is True
    assert overlap((1, 2), (2.5, 3)) is False
    assert overlap((None, None), (0, 1)) is None


def test_tables_say_value_interval_and_note(places: Places) -> None:
    measured(places, "ann", "de_noise", 0.0, language="de", gender="female")
    table, groups = tables_of(made(places))
    column = [column.name for column in table.columns].index("Sync-C_house")
    assert table.rows[0][column].text.endswith("within noise")
    assert " [" in table.rows[0][column].text
    assert table.rows[0][[c.name for c in table.columns].index("Sync-C")].why == "no weights"
    assert {row[0].text for row in groups.rows} == {"cross-language", "cross-gender"}
    pages = [(places.root / f"data/matrix/{name}.html").read_text() for name in ("matrix", "groups")]
    assert all(page.startswith("<!doctype html>") and "viewport" in page for page in pages)


def test_a_head_says_its_own_sound_in_its_own_voice(places: Places) -> None:
    measured(places, "ann", "", 0.9)
    content = made(places)
    table = tables_of(content)[0]
    row = dict(zip((column.name for column in table.columns), table.rows[0], strict=True))
    assert [row[name].text for name in ("drive", "language", "gender")] == ["own sound", "en", "male"]
    assert content["cells"][0]["values"]["r_talker"]["why"] == "nobody else says it"
