"""All numbers of the project in tables: CSV, Markdown, HTML, and every row in one file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.measured import (
    absent_table,
    bars_table,
    controls_table,
    drives_table,
    main_table,
    quality_table,
    read_json,
    read_measured,
)
from tasks.stage import Context, NoParams, Stage, main
from tasks.tabular import Table

STAGE = Stage(name="tables", per=(), params=NoParams, folder="data/tables")
ROW_KEYS = (
    *("speaker", "method", "extractor", "split", "drive", "region", "variant", "metric", "value", "unit", "better"),
)


def run(context: Context[NoParams]) -> None:
    """Read data/metrics and write data/tables."""
    base = context.places.root / "data" / "metrics"
    heads = [read_measured(path) for path in sorted(base.glob("*/evaluate/*/metrics.json"))]
    drives = [read_measured(path) for path in sorted(base.glob("*/evaluate_drive/*/*/metrics.json"))]
    qualities = sorted(base.glob("*/quality/*.json"))
    quality = [row for path in qualities for row in read_json(path).get("rows", [])]
    verdicts = {path.parent.parent.name: read_json(path).get("verdicts", []) for path in qualities}
    tables = [
        main_table(heads),
        bars_table(heads),
        controls_table(heads),
        drives_table(drives),
        quality_table(quality),
        absent_table(heads + drives),
    ]
    write_tables(context.output, tables)
    rows = [row for measured in (*heads, *drives) for row in measured.rows]
    rows += [{**dict.fromkeys(ROW_KEYS, ""), **row} for row in quality]
    (context.output / "rows.json").write_text(_json(rows), encoding="utf-8")
    (context.output / "rows.csv").write_text(rows_csv(rows), encoding="utf-8")
    words: dict[str, str] = {}
    for measured in (*heads, *drives):
        words.update(measured.definitions)
    content = {
        "heads": [vars(measured) for measured in heads],
        "drives": [vars(measured) for measured in drives],
        "quality": quality,
        "verdicts": verdicts,
        "definitions": words,
    }
    (context.output / "everything.json").write_text(_json(content), encoding="utf-8")


def write_tables(folder: Path, tables: Iterable[Table]) -> None:
    """Write each table as CSV, Markdown and HTML, and all of them as one Markdown page."""
    page = ["# Tables", ""]
    for table in tables:
        (folder / f"{table.name}.csv").write_text(table.as_csv(), encoding="utf-8")
        (folder / f"{table.name}.md").write_text(table.as_markdown(), encoding="utf-8")
        (folder / f"{table.name}.html").write_text(table.as_html(), encoding="utf-8")
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
