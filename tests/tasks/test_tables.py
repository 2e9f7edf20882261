"""Tables: every number with its unit and conditions, verdicts, and a reason where there is no number."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import evaluated_project
import numpy as np
import pytest

from models.errors import InputError
from models.metrics import all_metrics
from models.metrics.base import blocks_of
from models.metrics.image import METRICS as IMAGE_METRICS
from tasks import tables
from tasks.measured import (
    Measured,
    absent_table,
    bar_cells,
    bars_cell,
    bars_table,
    drives_table,
    main_table,
    quality_table,
)
from tasks.places import Keys, Places
from tasks.scores import TOO_SHORT, Bar, Scores
from tasks.stage import execute
from tasks.tabular import Cell, Column, Table, number
from tasks.weights import ready_metrics


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "params.yaml").write_text("speakers: [ada, bob]\nextractors: [logmel]\n")
    return Places(tmp_path)


def built(places: Places) -> Path:
    return execute(tables.STAGE, tables.run, Keys(), places)


def test_all_heads_are_in_the_main_table_with_units_and_verdicts(places: Places) -> None:
    for speaker in ("bob", "ada"):
        evaluated_project.write_metrics(places.root, speaker)
    folder = built(places)
    lines = [line for line in (folder / "main.csv").read_text().splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    assert [row["speaker"] for row in rows] == ["ada", "bob"]
    assert rows[0]["PSNR head [dB] ↑"] == "30.12"
    assert rows[0]["LMD [px] ↓"] == "0.80"
    assert rows[0]["bars"] == "1 of 1"
    assert rows[0]["r_eye"] == "n/a: the lids <never> move"


@pytest.mark.parametrize("name", ["main", "bars", "controls"])
def test_every_table_says_data_split_preset_and_device(places: Places, name: str) -> None:
    evaluated_project.write_metrics(places.root, "ada")
    folder = built(places)
    for form in ("csv", "md", "html"):
        text = (folder / f"{name}.{form}").read_text()
        for word in ("data ada (synthetic)", "test: 60 of 130 frames", "preset small", "device cpu", "personal"):
            assert word in text


def test_html_and_markdown_are_escaped(places: Places) -> None:
    evaluated_project.write_metrics(places.root, "ada")
    folder = built(places)
    page = (folder / "main.html").read_text()
    assert "&lt;never&gt;" in page
    assert "<never>" not in page
    assert "lips \\| follow" in (folder / "bars.md").read_text()


def test_all_rows_are_in_one_file(places: Places) -> None:
    evaluated_project.write_metrics(places.root, "ada")
    folder = built(places)
    rows = json.loads((folder / "rows.json").read_text())
    with (folder / "rows.csv").open() as file:
        same = list(csv.DictReader(file))
    assert len(rows) == len(same) == 9
    assert {row["metric"] for row in rows} == {"PSNR", "LMD", "r_open", "yaw", "IoU"}
    assert [row["metric"] for row in same] == [row["metric"] for row in rows]


def test_what_is_not_measured_is_told_with_the_reason(places: Places) -> None:
    evaluated_project.write_metrics(places.root, "ada")
    text = (built(places) / "absent.md").read_text()
    assert "| r_eye | ada / talking_gaussian / logmel, full, face | n/a: the lids" in text


def test_without_metrics_the_tables_are_there_and_say_so(places: Places) -> None:
    assert "Nothing has been measured yet." in (built(places) / "main.md").read_text()


def test_the_same_numbers_give_the_same_bytes(places: Places) -> None:
    evaluated_project.write_metrics(places.root, "ada")
    first = {path.name: path.read_bytes() for path in built(places).iterdir()}
    assert first == {path.name: path.read_bytes() for path in built(places).iterdir()}


def test_a_damaged_file_is_named(places: Places) -> None:
    evaluated_project.write_metrics(places.root, "ada")
    path = places.root / "data/metrics/ada/evaluate/logmel/metrics.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(InputError, match="metrics.json"):
        built(places)


def test_a_missed_bar_shows(places: Places) -> None:
    content = evaluated_project.metrics_file("ada")
    content["bars"][0]["ok"] = False
    table = main_table([Measured(**content)])
    assert next(cell for cell in table.rows[0] if "of 1" in cell.text) == Cell("0 of 1", ok=False)
    assert 'class="bad"' in table.as_html()


def test_quality_tells_bar_verdict_and_reason() -> None:
    row = {"speaker": "ada", "stage": "track", "metric": "yaw", "value": 0.51234, "unit": "deg", "better": "lower"}
    table = quality_table(
        [{**row, "bar": 0.4, "ok": False}, {**row, "value": None, "bar": None, "ok": None, "why": "x"}]
    )
    assert [cell.text for cell in table.rows[0][3:]] == ["0.5123", "deg", "≤ 0.4", "missed"]
    assert table.rows[1][3] == Cell("n/a", "x")
    assert table.rows[1][-1].text == "told only"


def test_numbers_keep_the_digits_that_their_unit_deserves() -> None:
    assert [number(v, u) for v, u in ((1.23456, "dB"), (1.23456, "1"), (3.0, "frames"), (-0.0001, "dB"))] == [
        "1.23",
        "1.235",
        "3",
        "0.00",
    ]
    assert number(None, "dB") == "n/a"


def test_notes_and_quotes_survive_csv() -> None:
    table = Table("t", "T", [Column("a", "dB", "higher")], [[Cell('x, "y"')]], ["on data"])
    lines = table.as_csv().splitlines()
    assert lines[0] == "# on data"
    assert list(csv.reader(lines[1:])) == [["a [dB] ↑"], ['x, "y"']]


def test_a_speaker_that_params_do_not_list_is_in_no_table(places: Places) -> None:
    for speaker in ("ada", "gone"):
        evaluated_project.write_metrics(places.root, speaker)
    folder = built(places)
    assert "ada" in (folder / "rows.csv").read_text()
    assert "gone" not in "".join(path.read_text() for path in folder.iterdir())


def test_a_bar_tells_why_its_metric_is_absent() -> None:
    keys = {"speaker": "a", "method": "m", "extractor": "e", "split": "test", "drive": ""}
    scores, metrics = Scores(keys), all_metrics()
    scores.add_columns(metrics["r_eye"], "face", "full", np.full((100, 2), 0.07))
    bar = Bar(name="blinks", metric="r_eye", region="face", at_least=0.6)
    told = scores.judge_bar(bar, metrics, blocks_of(np.arange(100), 20), 10)
    assert told["ok"] is None
    assert told["why"] == "the truth does not blink, or the result's lids never move"


def test_bars_whose_control_is_absent_do_not_count_as_missed() -> None:
    absent = {"name": "still", "why": "LMD of full or of static is absent", "ok": None}
    cell = bars_cell([{"why": "", "ok": True}, {"why": "", "ok": True}, absent])
    assert (cell.text, cell.ok) == ("2 of 2, 1 cannot be judged", True)
    assert cell.why == "still: LMD of full or of static is absent"
    assert bars_cell([{"why": "", "ok": True}, {"why": "", "ok": False}, absent]).ok is False
    assert bars_cell([absent]).ok is None


def test_who_loses_faces_reaches_no_bar_by_it() -> None:
    keys = {"speaker": "a", "method": "m", "extractor": "e", "split": "test", "drive": ""}
    errors = np.full((100, 1), 1.0)
    errors[40:] = 4.0
    lost = np.where(np.arange(100)[:, None] < 40, errors, np.nan)  # of the hard frames there is no face
    scores = Scores(keys, {("LMD", "face", "full"): lost, ("LMD", "face", "wrong_audio"): errors})
    scores.add("missed_frames", 60, "frames", "lower", "face")
    blocks = blocks_of(np.arange(100), 20)
    against = Bar(name="a", metric="LMD", region="face", compare="ratio", against="wrong_audio", at_most=0.9)
    told = scores.judge_bar(against, all_metrics(), blocks, 100)
    assert (told["value"], told["ok"]) == (1.0, False)
    missed = scores.judge_bar(
        Bar(name="faces", metric="missed_frames", region="face", at_most=5), all_metrics(), blocks, 100
    )
    assert (missed["value"], missed["unit"], missed["ok"]) == (60, "frames", False)
    with pytest.raises(ValueError, match="only its value"):
        Bar(name="b", metric="missed_frames", region="face", compare="ratio", against="static", at_most=1)


def test_bars_on_a_second_of_test_frames_are_not_judged() -> None:
    bar = {"why": f"{TOO_SHORT}: 25 test frames in 1 blocks", "ok": None}
    assert bars_cell([bar, {"why": "", "ok": True}]).text == "too short to judge"
    assert bars_cell([{"why": "", "ok": True}, {"why": "", "ok": False}]).ok is False
    columns = {("PSNR", "head", "full"): np.full((25, 1), 20.0)}
    keys = {"speaker": "a", "method": "m", "extractor": "e", "split": "test", "drive": ""}
    scores = Scores(keys, columns)
    metrics = {metric.name: metric for metric in IMAGE_METRICS}
    wanted = Bar(name="head", metric="PSNR", region="head", at_least=28.0)
    short = scores.judge_bar(wanted, metrics, blocks_of(np.arange(25), 25), 10)
    assert short["ok"] is None
    assert short["value"] == 20.0
    assert bar_cells({**short, "against_is": ""})[1].text == "too short to judge"
    longer = scores.judge_bar(wanted, metrics, blocks_of(np.arange(25), 5), 10)
    assert longer["ok"] is False


@pytest.mark.parametrize(
    ("low", "high", "ok", "verdict"),
    [(0.5, 0.7, True, "reached"), (0.3, 0.7, True, "reached, within noise"), (0.2, 0.5, False, "missed, within noise")],
)
def test_a_bar_whose_interval_crosses_its_limit_says_so(low: float, high: float, ok: bool, verdict: str) -> None:
    bar = {"name": "lips", "metric": "r_open", "region": "face", "variant": "full", "compare": "value", "against": ""}
    bar |= {"unit": "1", "value": 0.45, "low": low, "high": high, "at_least": 0.4, "at_most": None, "ok": ok, "why": ""}
    cells = bar_cells(bar, "correlation of the lip gaps")
    assert (cells[1].text, cells[1].ok) == (verdict, ok)
    assert cells[-1].why == "correlation of the lip gaps"
    head = Measured({"speaker": "ada"}, [], [bar])
    assert any(note.startswith("Within noise") for note in bars_table([head]).notes) == ("noise" in verdict)


def test_a_turned_table_has_a_column_for_each_of_few_rows() -> None:
    columns = [
        Column("speaker"),
        Column("method"),
        Column("PSNR", "dB", "higher", "of a frame", "PSNR"),
        Column("bars"),
    ]
    rows = [
        [Cell(name), Cell("tg"), Cell(value), Cell("1 of 1", ok=True)] for name, value in (("ada", "30"), ("bob", "31"))
    ]
    table = Table("main", "Heads", columns, rows, ["a note"])
    turned = table.turned(2)
    assert [column.heading for column in turned.columns] == ["", "ada", "bob"]
    assert [[cell.text for cell in row] for row in turned.rows] == [
        ["PSNR [dB] ↑", "30", "31"],
        ["bars", "1 of 1", "1 of 1"],
    ]
    assert '<a href="#def-PSNR">PSNR [dB] ↑</a>' in turned.as_html({"PSNR"})
    assert "href" not in turned.as_html()
    kept = table.turned(2, most=1)
    assert [column.heading for column in kept.columns] == ["", "PSNR [dB] ↑", "bars"]
    assert kept.rows[1][0].text == "bob"
    assert kept.notes == ["a note"]


def test_what_is_absent_for_one_reason_is_one_row() -> None:
    absent = [
        {"metric": name, "region": "all", "variant": "full", "why": "no weights"} for name in ("Sync-C", "Sync-E")
    ]
    heads = [Measured({"speaker": name}, [], absent=absent) for name in ("ada", "bob")]
    (row,) = absent_table(heads, together=True).rows
    assert [cell.text for cell in row] == ["Sync-C, Sync-E", "ada, full, all; bob, full, all", "n/a: no weights"]
    assert len(absent_table(heads).rows) == 4


def test_a_page_of_a_table_suits_a_phone_and_the_dark() -> None:
    page = Table(
        "bars", "Bars", [Column("bars")], [[Cell("10 of 10", ok=True)], [Cell("a long reason " * 9)]]
    ).as_page()
    assert '<meta name="viewport" content="width=device-width' in page
    assert "prefers-color-scheme: dark" in page
    assert 'td class="ok"' in page
    assert r'.ok::before { content: "\2713' in page
    assert 'td class="words"' in page  # which may be broken into lines


@pytest.mark.parametrize(
    ("licence", "get"),
    [("MIT", "gausstalk fetch w,"), ("unstated", "read the licence, then gausstalk fetch w --accept,")],
)
def test_what_to_do_about_weights_ends_with_a_new_report(tmp_path: Path, licence: str, get: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/assets.toml").write_text(f'[w]\nfile = "w.bin"\nlicence = "{licence}"\nwhat = "some weights"\n')
    metric = replace(all_metrics()["Sync-C"], needs=("w",))
    _, absent = ready_metrics({"Sync-C": metric}, Places(tmp_path), "evaluate")
    told = f"its weights are not on this machine: {get} then dvc repro -f -s evaluate, then gausstalk run"
    assert absent == {"Sync-C": told}


def test_the_own_footage_among_driven_heads_is_called_no_head() -> None:
    about = {"speaker": "ada", "method": "m", "extractor": "logmel", "drive": "news", "own_language": "en"}
    table = drives_table([Measured(about, [])])
    assert table.rows[0][3].text == "own footage"
    assert table.notes[0].startswith("own footage: the speaker's own footage for comparison")
