"""What a person sees in a window of 100 columns: whole names and numbers, and nothing that every row repeats."""

from __future__ import annotations

from typing import Any

import pytest

from flows.console import show_rows, show_table
from tasks.matrix_told import ONCE, told

WIDTH = 100
METRICS = ("Sync-C", "Sync-C_house", "Sync-E_house", "sync_lag_house", "r_sound", "sound_lag", "r_talker", "jitter")
VALUE = {"value": 0.32018, "low": 0.2422, "high": 0.3908, "noise": True, "why": ""}
NO_VALUE = {"value": None, "low": None, "high": None, "noise": None, "why": "its weights are not on this machine"}


@pytest.fixture(autouse=True)
def window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))


def matrix(speakers: tuple[str, ...], drives: tuple[str, ...]) -> dict[str, Any]:
    head = {"method": "talking_gaussian", "extractor": "logmel"}
    units = {name: "frames" if "lag" in name else "1" for name in METRICS}
    values = {name: NO_VALUE if name == "Sync-C" else VALUE for name in METRICS}
    voice = {"language": "en", "gender": "female"}
    own = {"drive": "", "language": "", "gender": "", "source": "test frames"}
    group = {"group": "same language", "against": "own sound", "speakers": 1, "cells": 2, **VALUE}
    group |= {"other": 0.3, "other_low": 0.2, "other_high": 0.4, "why": "one speaker: the interval is of windows alone"}
    return {
        "about": {"draws": 300, "block_seconds": 1.0, "sync_house": "93 % of planted lags found"},
        "metrics": {name: {"unit": unit, "better": "higher", "words": "told"} for name, unit in units.items()},
        "heads": [{"speaker": speaker, **head, **voice} for speaker in speakers],
        "drives": [own, *({"drive": drive, **voice, "source": "research"} for drive in drives)],
        "cells": [
            {"speaker": speaker, **head, "drive": drive, "groups": ["same language", "same gender"], "values": values}
            for speaker in speakers
            for drive in ("", *drives)
        ],
        "groups": [{**head, **group, "metric": name, "unit": unit} for name, unit in units.items()],
    }


@pytest.mark.parametrize("speakers", [("anchor",), ("anchor", "newsreader")])
def test_the_matrix_fits_and_breaks_no_name_or_number(
    speakers: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for table in told(matrix(speakers, ("half", "parliament"))):
        show_table(table, ONCE)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    of_drive = [line for line in lines if line.startswith("Sync-C_house ↑") and "parliament" in line]
    assert len(of_drive) == len(speakers)
    assert all("0.320 [0.242, 0.391] within noise" in line for line in of_drive)
    assert lines.count("method talking_gaussian, extractor logmel, speakers 1, drives 2") == 1
    assert "  Sync-C: n/a [1]." in lines  # not a line for every drive
    assert sum("one speaker" in line.lower() for line in lines) == 1


def test_what_every_row_says_is_said_once_above(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("anchor", "", "r_open", "0.6"), ("anchor", "", "LMD", "0.7")]
    show_rows(rows, ("speaker", "drive", "metric", "value"), once=("speaker", "drive"))
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["speaker", "anchor"],
        ["metric", "value"],
        ["r_open", "0.6"],
        ["LMD", "0.7"],
    ]


def test_sentences_and_paths_give_way_to_names(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/somewhere/assets/weights/" + "x" * 60
    show_rows([("speech_melspectrogram", "a long sentence " * 5, path)], ("name", "use", "where"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[1].startswith("speech_melspectrogram  a long sentence")


def test_a_window_that_is_too_narrow_loses_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "12")
    show_rows([("talking_gaussian", "0.7684")], ("method", "value"))
    assert "talking_gaussian  0.7684" in capsys.readouterr().out
