"""Heads that differ in one thing, side by side: what tables of the paper's supplement vary, and where it is kept."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import UsageError
from tasks.measured import MAIN, Measured, bars_cell, conditions_of, metric_columns, read_measured
from tasks.places import Keys, Places
from tasks.tabular import Cell, Column, Table

PAPERS_EXTRACTORS = ("deepspeech", "wav2vec2", "hubert")
NAME_FILE = "name.txt"  # of a kept variant


@dataclass(frozen=True)
class Variant:
    """One row: its name, what it sets in params.yaml, and the extractor that it is measured with."""

    name: str
    changes: dict[str, Any]
    extractor: str


def variants_of(table: int, extractors: Sequence[str]) -> list[Variant]:
    """Return the rows of a table of the supplement.

    Args:
        table: 5, what moves besides the geometry; 6, what hears.
        extractors: to measure with: the first one for table 5, all for table 6.

    Raises:
        UsageError: there is no such table.
    """
    if table == 5:
        names = {"geometry": "delta", "opacity": "delta + opacity", "color": "delta + opacity + RGB"}
        return [
            Variant(name, {"extractors": [extractors[0]], "tg_motion": {"moves": moves}}, extractors[0])
            for moves, name in names.items()
        ]
    if table == 6:
        return [Variant(extractor, {"extractors": [extractor]}, extractor) for extractor in extractors]
    why = "5 varies what moves, 6 the extractor of speech features"
    raise UsageError(f"there is no table {table} to fill", why, "gausstalk run --table 5 SPEAKER, or --table 6")


def keep(places: Places, table: int, position: int, variant: Variant, speaker: str) -> Path:
    """Copy what was measured of a variant, whole, to where the next one does not overwrite it; return the folder."""
    source = places.metrics("evaluate", Keys(speaker, variant.extractor))
    target = (
        places.variants(speaker) / f"table_{table}" / f"{position}_{re.sub('[^a-z0-9]+', '_', variant.name.lower())}"
    )
    draft = places.root / ".work" / "table" / "kept"
    for old in (draft, target):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(source, draft)
    (draft / NAME_FILE).write_text(variant.name + "\n", encoding="utf-8")
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(draft, target)
    return target


@dataclass(frozen=True)
class Kept:
    """What was measured of one variant of a table."""

    speaker: str
    table: str  # table_5, table_6
    name: str
    measured: Measured


def kept_variants(places: Places, speakers: Iterable[str]) -> list[Kept]:
    """Return what `keep` has kept of these speakers, in the order of their rows; what has no name is not whole."""
    return [
        Kept(speaker, path.parents[1].name, name.read_text("utf-8").strip(), read_measured(path))
        for speaker in speakers
        for path in sorted(places.variants(speaker).glob("table_*/*/metrics.json"))
        if (name := path.with_name(NAME_FILE)).is_file()
    ]


def variants_table(kept: Sequence[Kept]) -> Table:
    """Return a row for each variant with all that was measured of it; the papers' tables show less."""
    heads = [one.measured for one in kept]
    keys = ("speaker", "table", "variant", "extractor", "bars")
    table = Table("variants", "Variants of heads", [*map(Column, keys), *metric_columns(heads, MAIN)])
    table.notes = conditions_of(heads)
    for one in kept:
        about = [Cell(one.speaker), Cell(one.table), Cell(one.name), Cell(str(one.measured.about["extractor"]))]
        cells = (one.measured.cell(metric, region) for metric, region in MAIN)
        table.rows.append([*about, bars_cell(one.measured.bars), *cells])
    return table
