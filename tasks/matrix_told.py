"""The matrix as a terminal shows it: a line for every number, since a column for every metric fits in no window."""

from __future__ import annotations

from typing import Any

from tasks.matrix import HEAD, tables_of
from tasks.tabular import Cell, Column, Table

SAID = ("drive", "language", "gender", "source", "group")
GROUPS = ("metric", "method", "extractor", "group", "speakers", "drives", "value", "held against", "note")
ONCE = (*HEAD, "language", "gender", "source", "speakers", "drives")
"""Headings of columns that need not stand there where they say the same in every row."""


def told(content: dict[str, Any]) -> list[Table]:
    """Return who says what, every number, and the groups, each narrow enough for a window of 100 columns."""
    matrix, groups = tables_of(content)
    names = [column.name for column in matrix.columns]
    who = Table("who", "Who says what", [Column(name) for name in (HEAD[0], *SAID)])
    rows = [[row[names.index(column.name)] for column in who.columns] for row in matrix.rows]
    who.rows = list({tuple(cell.text for cell in row): row for row in rows}.values())
    values = Table("matrix", matrix.title, [*map(Column, ("metric", *HEAD, "drive", "value"))])
    keys = [names.index(name) for name in (*HEAD, "drive")]
    empty: dict[str, list[str]] = {}
    for metric in range(names.index(SAID[-1]) + 1, len(names)):
        column = matrix.columns[metric]
        if all(row[metric].why for row in matrix.rows):
            whys = ", ".join(dict.fromkeys(row[metric].text for row in matrix.rows))
            empty.setdefault(whys, []).append(column.name)
        else:
            values.rows += [[Cell(column.heading), *(row[k] for k in keys), row[metric]] for row in matrix.rows]
    values.notes = [*matrix.notes[:1], *(f"{', '.join(who)}: {why}." for why, who in empty.items()), *matrix.notes[1:]]
    against = Table("groups", groups.title, [*map(Column, GROUPS)])
    names = [column.name for column in groups.columns]
    for row, group in zip(groups.rows, content["groups"], strict=True):
        # What it is held against has a line of its own, and why an interval is missing or narrow is said once.
        said = {name: row[k].text for k, name in enumerate(names)} | {"held against": group["against"]}
        said["note"] = said["note"].removesuffix(group["why"]).removesuffix("; ")
        against.rows.append([Cell(said[name]) for name in GROUPS])
    whys = dict.fromkeys(group["why"] for group in content["groups"] if group["why"])
    against.notes = [*groups.notes, *(f"{why[0].upper()}{why[1:]}." for why in whys)]
    return [who, values, against]
