"""The papers' tables: digits as printed and marked so, ours beside them, ranked only where they may be compared."""

import csv
from pathlib import Path
from typing import Any

import evaluated_project
import pytest

from models.metrics import all_metrics
from tasks.comparable import why_not_comparable
from tasks.measured import Measured
from tasks.paper_tables import OTHER_DATA, paper_tables, ranked, read_papers
from tasks.tables import write_tables
from tasks.tabular import Cell, Column, Table
from tasks.variants import Kept

SAME = {"split": "a" * 64, "truth": "b" * 64}


def head(extractor: str, psnr: float, lmd: float, **about: Any) -> Measured:
    content = evaluated_project.metrics_file("ada")
    values = {("PSNR", "frame"): psnr, ("PSNR", "face_box"): psnr, ("LMD", "face"): lmd, ("SSIM", "face_box"): 0.9}
    rows = [
        {
            **content["rows"][0],
            "metric": m,
            "region": r,
            "variant": "full",
            "value": v,
            "unit": "px" if m == "LMD" else "dB",
        }
        for (m, r), v in values.items()
    ]
    absent = [
        {"metric": "lpips_alex", "region": "all", "variant": "full", "why": "no weights: gausstalk fetch alexnet"}
    ]
    told = {**content["about"], "extractor": extractor, "data": SAME, **about}
    return Measured(**{**content, "about": told, "rows": rows, "absent": absent})


def drive(language: str, gender: str, name: str, sync: float | None) -> Measured:
    about = {"speaker": "ada", "method": "talking_gaussian", "extractor": "hubert", "drive": name, "language": language}
    about |= {"gender": gender, "split": "drive: 100 frames", "size": "96 x 96"}
    row = {"metric": "Sync-C", "region": "face", "variant": "full", "value": sync, "unit": "1", "better": "higher"}
    absent = [{"metric": "Sync-C", "region": "all", "variant": "full", "why": "gausstalk fetch syncnet"}]
    return Measured(about, [] if sync is None else [row], absent=absent)


def built(**given: Any) -> dict[str, Table]:
    every = {"heads": [], "drives": [], "kept": [], **given}
    return {table.name: table for table in paper_tables(["ada"], **every)}


def line(table: Table, *start: str) -> dict[str, Cell]:
    """Return the cells of the one row that begins so, by heading."""
    found = [row for row in table.rows if tuple(cell.text for cell in row[: len(start)]) == start]
    assert len(found) == 1
    return {column.name: cell for column, cell in zip(table.columns, found[0], strict=True)}


def test_what_is_printed_stands_there_digit_by_digit_and_grey(tmp_path: Path) -> None:
    tables = built()
    assert list(tables) == ["table_5", "table_6", "table_7", "gaussian_talker_table_3"]
    write_tables(tmp_path, tables.values())
    for name, value in (
        ("table_5", "33.60"),
        ("table_6", "6.516"),
        ("table_7", "10.497"),
        ("gaussian_talker_table_3", "28.8987"),
    ):
        assert f'<td class="published" style="color: #767676">{value}</td>' in (tmp_path / f"{name}.html").read_text()
        assert f"*{value}*" in (tmp_path / f"{name}.md").read_text()
        lines = [line for line in (tmp_path / f"{name}.csv").read_text().splitlines() if not line.startswith("#")]
        assert any(row["data"] == "published" and value in row.values() for row in csv.DictReader(lines))
        for form in ("html", "md", "csv"):
            assert "Not the same data" in (tmp_path / f"{name}.{form}").read_text()


def test_every_printed_figure_has_a_column_a_metric_and_a_row() -> None:
    metrics = all_metrics()
    for paper in read_papers().values():
        keys = [column.key for column in paper.columns]
        assert len(set(keys)) == len(keys)
        assert all(column.metric in metrics for column in paper.columns)
        for row in paper.rows:
            assert list(row.values) == keys
            assert all(0 < float(value) < 50 for value in row.values.values())


def test_ours_is_ranked_among_ours_and_the_printed_among_the_printed() -> None:
    heads = [head("deepspeech", 31.0, 0.9), head("hubert", 32.0, 0.7), head("logmel", 30.5, 0.8)]
    table = built(heads=heads)["table_6"]
    assert [line(table, "ada", name)["PSNR"].rank for name in ("hubert", "deepspeech", "logmel")] == [1, 2, 0]
    assert [line(table, "ada", name)["LMD"].rank for name in ("hubert", "logmel", "deepspeech")] == [1, 2, 0]
    assert [row[1].text for row in table.rows[3:]] == ["deepspeech", "wav2vec2", "hubert", "logmel"]
    assert line(table, "published", "deepspeech")["PSNR"].rank == 1
    assert line(table, "published", "hubert")["LPIPS"].rank == 1
    assert "| ada | hubert | **32.00** |" in table.as_markdown()
    assert "<td><u>31.00</u></td>" in table.as_html()
    assert not any("n/a" in cell.text and cell.rank for row in table.rows for cell in row)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"data": {**SAME, "split": "c" * 64}}, "different splits"),
        ({"data": {**SAME, "truth": "c" * 64}}, "different true frames"),
        ({"size": "512 x 512"}, "different sizes: 96 x 96 and 512 x 512"),
        ({"data": {}}, "does not tell its split"),
    ],
)
def test_what_was_measured_on_other_frames_is_not_ranked_and_the_reason_told(change: dict[str, Any], why: str) -> None:
    one, other = head("deepspeech", 31.0, 0.9), head("hubert", 32.0, 0.7, **change)
    assert why in why_not_comparable(one.about, other.about)
    table = built(heads=[one, other])["table_6"]
    assert [line(table, "ada", name)["PSNR"].rank for name in ("deepspeech", "hubert")] == [0, 0]
    assert any(note.startswith("ada: not ranked: ") and why in note for note in table.notes)
    assert why_not_comparable(one.about, head("x", 1.0, 1.0).about) == ""


def test_what_lacks_weights_or_was_not_trained_says_so_once() -> None:
    table = built(heads=[head("hubert", 32.0, 0.7)])["table_6"]
    lpips = line(table, "ada", "hubert")["LPIPS"]
    assert lpips.why == "lpips_alex: no weights: gausstalk fetch alexnet"
    assert lpips.text.startswith("n/a [")
    number = lpips.text.removeprefix("n/a ")
    assert [note for note in table.notes if note.startswith(number)] == [f"{number} {lpips.why}"]
    missing = line(table, "ada", "wav2vec2")["PSNR"]
    assert missing.why == "not trained yet: gausstalk run --table 6 ada -e wav2vec2"
    assert OTHER_DATA in table.notes


def test_variants_fill_table_5() -> None:
    kept = [Kept("ada", "table_5", name, head("logmel", psnr, 1.0)) for name, psnr in (("delta", 31.0), ("x", 30.0))]
    table = built(kept=kept)["table_5"]
    assert line(table, "ada", "delta")["PSNR"] == Cell("31.00", rank=1)
    assert line(table, "ada", "x")["PSNR"] == Cell("30.00")
    empty = built()["table_5"]
    assert line(empty, "ada", "all")["PSNR"].why == "not trained yet: gausstalk run --table 5 ada"


def test_drives_go_where_their_language_and_voice_belong() -> None:
    drives = [drive("de", "female", "a", 2.0), drive("de", "female", "b", 3.0), drive("zh", "male", "c", None)]
    song = drive("de", "female", "song", 9.0)
    song.about["kind"] = "singing"
    drives.append(song)
    row = line(built(drives=drives)["table_7"], "ada", "hubert", "TalkingGaussian (ours)")
    assert row["Sync-C female German"] == Cell("2.500", "mean of 2 drives")
    assert row["Sync-C male Chinese"].why == "Sync-C: gausstalk fetch syncnet"
    assert row["Sync-C male German"].why.startswith("no male German drive: gausstalk add-drive")


def test_imported_frames_stand_beside_ours_with_how_they_came() -> None:
    told = {"method": "wav2lip", "imported": {"full": {"how": "h264, yuv420p", "lossless": False}}}
    heads = [head("logmel", 31.0, 0.9, method="talking_gaussian"), head("", 29.0, 0.8, **told)]
    table = built(heads=heads)["gaussian_talker_table_3"]
    assert line(table, "ada", "TalkingGaussian (ours), logmel")["PSNR"].rank == 1
    assert line(table, "ada", "wav2lip, imported, lossy: h264, yuv420p")["LMD"].rank == 1
    assert [row[1].text for row in built(heads=heads)["table_6"].rows if row[0].text == "ada"][-1] == "logmel"


@pytest.mark.parametrize(
    ("better", "texts", "ranks"),
    [
        ("higher", ["1.0", "3.0", "2.0"], [0, 1, 2]),
        ("lower", ["1.0", "3.0", "2.0"], [1, 0, 2]),
        ("lower", ["-1.0", "-3.0", "n/a [1]"], [0, 1, 0]),
        ("higher", ["2.0", "2.0", "1.0"], [1, 1, 2]),
        ("higher", ["2.0", "n/a [1]", ""], [0, 0, 0]),
        ("", ["1.0", "3.0", "2.0"], [0, 0, 0]),
    ],
)
def test_ranks(better: str, texts: list[str], ranks: list[int]) -> None:
    columns = [Column("who"), Column("x", "1", better)]
    rows = ranked([[Cell("9"), Cell(text)] for text in texts], columns, 1)
    assert [row[1].rank for row in rows] == ranks
    assert all(row[0].rank == 0 for row in rows)
