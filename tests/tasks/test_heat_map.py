"""The matrix as heat maps: what is better is stronger, what is within noise says so, a gap tells its reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.heat_map import read_matrix


def value(number: float | None, **more: Any) -> dict[str, Any]:
    told = {"value": number, "low": None, "high": None, "wrong": 0.1, "own": 0.5, "noise": False, "why": ""}
    return {**told, **more}


def matrix(folder: Path, metric: str, better: str, values: list[dict[str, Any] | None]) -> Any:
    """Return the matrix of one head and as many drives as values; None is a cell that is not there."""
    drives = [
        {"drive": f"d{k}", "name": f"drive {k}", "language": "de", "gender": "female", "kind": "speech", "source": "x"}
        for k in range(len(values))
    ]
    head = {"speaker": "ada", "method": "drawn", "extractor": "logmel"}
    cells = [
        {**head, "drive": f"d{k}", "seconds": 6.4, "groups": ["cross-language"], "values": {metric: found}}
        for k, found in enumerate(values)
        if found is not None
    ]
    group = {"group": "cross-language", "against": "same language", "metric": metric, "speakers": 1, "cells": 2}
    group |= {"method": "drawn", "extractor": "logmel", "value": 0.3, "low": 0.2, "high": 0.4, "why": "", "unit": "1"}
    content = {
        "about": {"block_seconds": 1.0},
        "metrics": {metric: {"unit": "1", "better": better, "words": "what it is"}},
        "heads": [{**head, "language": "en", "gender": "male"}],
        "drives": drives,
        "cells": cells,
        "groups": [{**group, "other": 0.35, "other_low": 0.3, "other_high": 0.4, "noise": True}],
    }
    (folder / "matrix.json").write_text(json.dumps(content))
    return read_matrix(folder)


@pytest.mark.parametrize(
    ("better", "numbers", "order"),
    [
        ("higher", [0.1, 0.3, 0.2], [0, 2, 1]),
        ("lower", [0.1, 0.3, 0.2], [1, 2, 0]),
        ("1", [0.9, 2.0, 0.2], [2, 1, 0]),
        ("", [0.0, -5.0, 3.0], [0, 2, 1]),
    ],
)
def test_what_is_better_is_stronger(tmp_path: Path, better: str, numbers: list[float], order: list[int]) -> None:
    (shown,) = matrix(tmp_path, "m", better, [value(number) for number in numbers]).maps
    heats = [spot.heat for spot in shown.rows[0][2]]
    assert sorted(range(len(heats)), key=lambda k: heats[k]) == order
    assert (min(heats), max(heats)) == (0, 1)
    assert shown.rated == bool(better)


@pytest.mark.parametrize(("lags", "heats"), [([0.0, 0.0], [0, 0]), ([2.0, -4.0], [0.5, 1])])
def test_the_scale_of_a_lag_begins_at_none(tmp_path: Path, lags: list[float], heats: list[float]) -> None:
    (shown,) = matrix(tmp_path, "m", "", [value(lag) for lag in lags]).maps
    assert [spot.heat for spot in shown.rows[0][2]] == heats


def between(number: float, low: float, high: float) -> dict[str, Any]:
    return value(number, low=low, high=high)


def test_what_chance_explains_is_hardly_coloured_apart(tmp_path: Path) -> None:
    # As real drives come out: the best and the worst differ by far less than their intervals are wide.
    near = [between(0.257, 0.179, 0.331), between(0.25, 0.185, 0.312), between(0.279, 0.231, 0.316)]
    (shown,) = matrix(tmp_path, "m", "higher", near).maps
    heats = [spot.heat for spot in shown.rows[0][2]]
    assert heats[1] < heats[0] < heats[2]
    assert heats[2] - heats[1] < 0.1
    assert "none stands out" in shown.legend
    # One that is clearly worse is coloured apart from both, which stay alike.
    (shown,) = matrix(tmp_path, "m", "higher", [*near[:2], between(0.9, 0.86, 0.94)]).maps
    heats = [spot.heat for spot in shown.rows[0][2]]
    assert heats[2] - heats[0] > 0.9
    assert heats[0] - heats[1] < 0.1
    assert "the intervals of 2 of 3 cells do not overlap" in shown.legend


def test_ratios_are_held_against_their_own_intervals(tmp_path: Path) -> None:
    drives = [between(0.839, 0.757, 0.917), between(0.448, 0.374, 0.511), between(0.44, 0.377, 0.49)]
    first, *others = [spot.heat for spot in matrix(tmp_path, "m", "1", drives).maps[0].rows[0][2]]
    assert first - max(others) > 0.5
    assert abs(others[0] - others[1]) < 0.05


def test_a_lag_that_may_be_none_has_no_colour(tmp_path: Path) -> None:
    lags = [between(-1, -2, -1), between(-5, -5, 5), between(0, 0, 0), between(4, 3, 4)]
    heats = [spot.heat for spot in matrix(tmp_path, "m", "", lags).maps[0].rows[0][2]]
    assert heats[1] == heats[2] == 0
    assert 0 < heats[0] < heats[3]


def test_a_cell_tells_interval_noise_and_what_it_is_compared_with(tmp_path: Path) -> None:
    found = [value(0.25, low=0.2, high=0.31, noise=True), value(0.4)]
    first, second = matrix(tmp_path, "m", "higher", found).maps[0].rows[0][2]
    assert (first.text, first.interval, first.noise) == ("0.250", "0.200 to 0.310", True)
    for words in ("within noise", "with the wrong sound 0.100", "real footage 0.500", "cross-language", "6.4 s"):
        assert words in first.words
    assert "too few blocks" in second.words
    assert not second.noise


def test_gaps_tell_their_reason(tmp_path: Path) -> None:
    gap = value(None, why="its weights are not at hand")
    shown = matrix(tmp_path, "m", "higher", [value(0.2), gap, None])
    known, missing, driven = shown.maps[0].rows[0][2]
    assert known.heat == 0.5  # alone among its kind
    assert (missing.text, missing.heat, missing.words) == ("n/a", None, "its weights are not at hand")
    assert (driven.text, driven.words) == ("–", "this head has not been driven by it")
    nothing = matrix(tmp_path, "m", "higher", [gap, gap])
    assert nothing.maps == []
    assert nothing.absent == ["m: its weights are not at hand"]
    folder = tmp_path / "matrix.json"
    content = json.loads(folder.read_text())
    content["metrics"]["n"] = content["metrics"]["m"]
    for cell in content["cells"]:
        cell["values"]["n"] = gap
    folder.write_text(json.dumps(content))
    assert read_matrix(tmp_path).absent == ["m, n: its weights are not at hand"]


def test_groups_whose_intervals_overlap_are_within_noise(tmp_path: Path) -> None:
    groups = matrix(tmp_path, "m", "higher", [value(0.2), value(0.3)]).groups
    assert groups is not None
    words = [cell.text for cell in groups.rows[0]]
    assert words[-4:] == ["0.300 (0.200 to 0.400)", "same language", "0.350 (0.300 to 0.400)", "within noise"]
