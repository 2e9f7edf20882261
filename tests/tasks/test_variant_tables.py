"""Variants are kept apart and shown side by side."""

from pathlib import Path

import evaluated_project
import pytest

from models.errors import UsageError
from tasks import tables
from tasks.entries import metric_rows
from tasks.places import Keys, Places
from tasks.stage import execute
from tasks.variants import keep, kept_variants, variants_of


def test_table_5_varies_what_moves_and_table_6_what_hears() -> None:
    rows = variants_of(5, ["hubert", "logmel"])
    assert [row.changes["tg_motion"]["moves"] for row in rows] == ["geometry", "opacity", "color"]
    assert {row.extractor for row in rows} == {"hubert"}
    rows = variants_of(6, ["logmel", "hubert"])
    assert [(row.name, row.extractor, row.changes) for row in rows] == [
        ("logmel", "logmel", {"extractors": ["logmel"]}),
        ("hubert", "hubert", {"extractors": ["hubert"]}),
    ]
    with pytest.raises(UsageError, match="no table 7"):
        variants_of(7, ["logmel"])


def test_what_was_measured_of_each_stands_in_one_table(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("speakers: [ada]\nextractors: [logmel]\n")
    places = Places(tmp_path)
    evaluated_project.write_metrics(tmp_path, "ada")
    published = list(metric_rows(places))
    for position, variant in enumerate(variants_of(5, ["logmel"]), 1):
        keep(places, 5, position, variant, "ada")
        keep(places, 5, position, variant, "ada")  # filled again
    folder = execute(tables.STAGE, tables.run, Keys(), places)
    text = (folder / "table_5.md").read_text()
    lines = [line.split(" | ")[1] for line in text.splitlines() if line.startswith("| ada")]
    assert lines == ["delta", "delta + opacity", "delta + opacity + RGB"]
    every = (folder / "variants.md").read_text()
    assert every.count("| 30.12 |") == 3
    assert "| ada | table_5 | delta + opacity | logmel | 1 of 1 |" in every
    assert text in (folder / "tables.md").read_text()
    assert list(metric_rows(places)) == published  # nothing twice


def test_a_kill_while_a_variant_is_kept_leaves_no_half_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places, (variant,) = Places(tmp_path), variants_of(6, ["logmel"])
    evaluated_project.write_metrics(tmp_path, "ada")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            keep(places, 6, 1, variant, "ada")
    assert not list(tmp_path.rglob("table_6/*"))
    folder = keep(places, 6, 1, variant, "ada")
    assert [one.name for one in kept_variants(places, ["ada"])] == ["logmel"]
    (folder / "name.txt").unlink()  # what was left of one that was killed before
    assert kept_variants(places, ["ada"]) == []
