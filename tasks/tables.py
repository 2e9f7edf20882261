"""All numbers of the project in tables: CSV, Markdown, HTML, and every row in one file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.imports import listed_imports
from tasks.measured import (
    Measured,
    absent_table,
    bars_table,
    controls_table,
    drives_table,
    main_table,
    quality_table,
    read_json,
    read_measured,
)
from tasks.methods import drives_measured, files_in, heads_measured
from tasks.paper_tables import paper_tables
from tasks.params import names_listed
from tasks.places import Keys, Places
from tasks.stage import Context, NoParams, Stage, main
from tasks.tabular import Table
from tasks.variants import Kept, kept_variants, variants_table

STAGE = Stage(
    name="tables",
    per=(),
    params=NoParams,
    folder="data/tables",
    lists=("speakers", "extractors", "drives", "imports", "gaussian_talkers"),
)
ROW_KEYS = (
    *("speaker", "method", "extractor", "split", "drive", "region", "variant", "metric", "value", "unit", "better"),
)


@dataclass(frozen=True)
class Results:
    """What evaluation has written of what params.yaml lists."""

    names: list[str]
    heads: list[Measured]  # ours, on their test frames
    imported: list[Measured]  # frames of other systems, on the same
    drives: list[Measured]
    kept: list[Kept]

    def papers(self) -> list[Table]:
        """Return the papers' tables."""
        return paper_tables(self.names, self.heads + self.imported, self.drives, self.kept)


def read_results(places: Places) -> Results:
    """Read data/metrics.

    Raises:
        InputError: a file is damaged.
        UsageError: `imports` of params.yaml is not valid.
    """
    names = names_listed(places.params, "speakers")
    others = [Keys(one.speaker, method=one.method) for one in listed_imports(places).values() if one.speaker in names]
    theirs = files_in(places.metrics("evaluate_predictions", keys) for keys in others)
    found = heads_measured(places), theirs, drives_measured(places)
    ours, imported, drives = ([read_measured(path) for path in files] for files in found)
    return Results(names, ours, imported, drives, kept_variants(places, names))


def run(context: Context[NoParams]) -> None:
    """Read data/metrics and write data/tables."""
    results = read_results(context.places)
    heads, imported, drives, names = results.heads, results.imported, results.drives, results.names
    files = {name: context.places.metrics("quality", Keys(name)) / "quality.json" for name in names}
    qualities = {name: read_json(path) for name, path in files.items() if path.is_file()}
    quality = [row for content in qualities.values() for row in content.get("rows", [])]
    tables = [
        main_table(heads + imported),
        bars_table(heads + imported),
        controls_table(heads + imported),
        drives_table(drives),
        quality_table(quality),
        absent_table(heads + imported + drives),
        *([variants_table(results.kept)] if results.kept else []),
        *results.papers(),
    ]
    write_tables(context.output, tables)
    rows = [row for measured in (*heads, *imported, *drives) for row in measured.rows]
    rows += [{**dict.fromkeys(ROW_KEYS, ""), **row} for row in quality]
    (context.output / "rows.json").write_text(_json(rows), encoding="utf-8")
    (context.output / "rows.csv").write_text(rows_csv(rows), encoding="utf-8")
    words: dict[str, str] = {}
    for measured in (*heads, *imported, *drives):
        words.update(measured.definitions)
    content = {
        "heads": [vars(measured) for measured in heads],
        "imported": [vars(measured) for measured in imported],
        "drives": [vars(measured) for measured in drives],
        "quality": quality,
        "verdicts": {name: content.get("verdicts", []) for name, content in qualities.items()},
        "fitness": {name: content.get("fitness", {}) for name, content in qualities.items()},
        "action_units": {name: content.get("action_units", {}) for name, content in qualities.items()},
        "definitions": words,
    }
    (context.output / "everything.json").write_text(_json(content), encoding="utf-8")


def write_tables(folder: Path, tables: Iterable[Table]) -> None:
    """Write each table as CSV, Markdown and HTML, and all of them as one Markdown page."""
    page = ["# Tables", ""]
    for table in tables:
        (folder / f"{table.name}.csv").write_text(table.as_csv(), encoding="utf-8")
        (folder / f"{table.name}.md").write_text(table.as_markdown(), encoding="utf-8")
        (folder / f"{table.name}.html").write_text(table.as_page(), encoding="utf-8")
        page.append(table.as_markdown())
    (folder / "tables.md").write_text("\n".join(page), encoding="utf-8")


def rows_csv(rows: list[dict[str, Any]]) -> str:
    """Return all rows as CSV; keys that only some rows have come last."""
    more = sorted({key for row in rows for key in row} - set(ROW_KEYS))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [*ROW_KEYS, *more], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


if __name__ == "__main__":
    main(STAGE, run)
