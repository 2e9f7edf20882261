"""A table as CSV, Markdown and HTML: one content, three forms."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from html import escape

DECIMALS = {"dB": 2, "px": 2, "1": 3, "%": 2, "s": 1, "ms": 1, "frames": 0, "frames off": 1, "count": 0, "1/min": 1}
ARROWS = {"higher": "↑", "lower": "↓", "1": "→1"}
SENTENCE = 36  # characters; what is longer may be broken into lines
VERDICTS = {True: "reached", False: "missed", None: "n/a"}


def number(value: float | None, unit: str) -> str:
    """Format a value of a unit; None is n/a."""
    if value is None:
        return "n/a"
    text = f"{value:.{DECIMALS.get(unit, 3)}f}"
    return text.removeprefix("-") if float(text) == 0 else text


@dataclass(frozen=True)
class Column:
    """A heading with its unit, direction and definition."""

    name: str
    unit: str = ""
    better: str = ""
    definition: str = ""
    metric: str = ""  # what is defined, where several columns show it

    @property
    def heading(self) -> str:
        """The heading with unit and direction."""
        unit = f" [{self.unit}]" if self.unit not in ("", "1", "count") else ""
        arrow = ARROWS.get(self.better, "")
        return f"{self.name}{unit}{f' {arrow}' if arrow else ''}"


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, why it stands there if that is not plain, whether a bar is reached, and how it ranks."""

    text: str
    why: str = ""
    ok: bool | None = None
    rank: int = 0  # 1: the best of those that may be compared, 2: the second best, 0: neither
    grey: bool = False  # not measured here
    metric: str = ""  # whose definition explains the text


@dataclass
class Footnotes:
    """Reasons for cells without a number, each told once."""

    reasons: list[str] = field(default_factory=list)

    def cell(self, why: str) -> Cell:
        """Return an empty cell that points to its reason."""
        if why not in self.reasons:
            self.reasons.append(why)
        return Cell(f"n/a [{self.reasons.index(why) + 1}]", why)

    def notes(self) -> list[str]:
        """Return the reasons by their numbers."""
        return [f"[{position}] {why}" for position, why in enumerate(self.reasons, 1)]


@dataclass
class Table:
    """Rows of cells under columns; the notes say what the numbers were measured on."""

    name: str  # of the file
    title: str
    columns: list[Column]
    rows: list[list[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_csv(self) -> str:
        """Return the table with its notes in lines that begin with #."""
        buffer = io.StringIO()
        for note in self.notes:
            buffer.write(f"# {note}\n")
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([column.heading for column in self.columns])
        writer.writerows([[_with_why(cell) for cell in row] for row in self.rows])
        return buffer.getvalue()

    def as_markdown(self) -> str:
        """Return heading, table, notes and definitions."""
        lines = [f"## {self.title}", ""]
        lines.append("| " + " | ".join(_bar(column.heading) for column in self.columns) + " |")
        lines.append("|" + "---|" * len(self.columns))
        lines += ["| " + " | ".join(_marked(cell) for cell in row) + " |" for row in self.rows]
        lines += ["", *(f"* {note}" for note in self.notes)]
        lines += dict.fromkeys(f"* {c.metric or c.name}: {c.definition}" for c in self.columns if c.definition)
        return "\n".join(lines) + "\n"

    def as_page(self) -> str:
        """Return a page of its own with the table."""
        return PAGE.format(title=escape(self.title), table=self.as_html())

    def turned(self, keys: int, most: int = 6) -> Table:
        """Return the table with its metrics below each other, and a column for each of at most `most` rows.

        Args:
            keys: how many columns at the left tell the rows apart; they become one.
            most: with more rows they stay rows.
        """
        known = [{row[k].text for row in self.rows} for k in range(keys)]
        apart = [k for k in range(keys) if len(known[k]) > 1] or range(keys)
        names = [Cell(" / ".join(row[k].text for k in apart if row[k].text), row[keys - 1].why) for row in self.rows]
        metrics = self.columns[keys:]
        if len(self.rows) > most:
            rows = [[name, *row[keys:]] for name, row in zip(names, self.rows, strict=True)]
            return replace(self, columns=[Column(""), *metrics], rows=rows)
        first = [Cell(column.heading, column.definition, metric=column.metric) for column in metrics]
        rows = [[cell, *(row[keys + k] for row in self.rows)] for k, cell in enumerate(first)]
        return replace(
            self, columns=[Column(""), *(Column(name.text, definition=name.why) for name in names)], rows=rows
        )

    def as_html(self, defined: Collection[str] = ()) -> str:
        """Return the table in a box that scrolls sideways, its notes below.

        Args:
            defined: the metrics whose definitions stand on the same page, to which their names lead.
        """
        head = "".join(
            f'<th title="{escape(c.definition)}">{_linked(escape(c.heading), c.metric, defined)}</th>'
            for c in self.columns
        )
        body = "".join(f"<tr>{''.join(_html_cell(cell, defined) for cell in row)}</tr>\n" for row in self.rows)
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n' + (
            f'<ul class="notes">{notes}</ul>\n' if notes else ""
        )


def without_constants(table: Table) -> Table:
    """Return a table whose columns differ from row to row; those that do not are told in the first note.

    Of cells that hold several words between semicolons, those that stand in every row are told once, too.
    """
    if len(table.rows) < 2:
        return table
    columns = [[row[k].text.split("; ") for row in table.rows] for k in range(len(table.columns))]
    shared = [[word for word in cells[0] if word and all(word in cell for cell in cells)] for cells in columns]
    shown = [k for k, cells in enumerate(columns) if any(set(cell) - set(shared[k]) - {""} for cell in cells)]
    rows = [
        [replace(row[k], text="; ".join(word for word in columns[k][n] if word not in shared[k])) for k in shown]
        for n, row in enumerate(table.rows)
    ]
    once = [f"{column.name} {'; '.join(words)}" for column, words in zip(table.columns, shared, strict=True) if words]
    notes = [f"In every row: {', '.join(once)}.", *table.notes] if once else table.notes
    return replace(table, columns=[table.columns[k] for k in shown], rows=rows, notes=notes)


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title><style>
:root {{ --paper: #fff; --ink: #1c1c1c; --quiet: #636363; --line: #ddd; --ok: #17663a; --bad: #a02020; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #131417; --ink: #e9e9e6; --quiet: #a0a4ad; --line: #30333a; --ok: #7bd99c; --bad: #ff9a91; }}
}}
body {{ font: 0.95rem/1.45 system-ui, sans-serif; margin: 2rem; color: var(--ink); background: var(--paper); }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.25rem 0.8rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }}
th {{ border-bottom: 1.5px solid var(--quiet); }} .words {{ white-space: normal; min-width: 16rem; }}
.ok {{ color: var(--ok); }} .bad {{ color: var(--bad); }} .absent {{ color: var(--quiet); }}
.ok::before {{ content: "\\2713\\00a0"; }} .bad::before {{ content: "\\2717\\00a0"; }}
.scroll {{ overflow-x: auto; }} .notes {{ color: var(--quiet); font-size: 0.85rem; max-width: 60rem; }}
@media (max-width: 40rem) {{ body {{ margin: 1rem; }} }}
</style></head><body>
<h1>{title}</h1>
{table}</body></html>
"""


def _with_why(cell: Cell) -> str:
    return f"{cell.text}: {cell.why}" if cell.why and cell.text == "n/a" else cell.text


def _bar(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _marked(cell: Cell) -> str:
    """Return a cell of Markdown, which has no grey: what was not measured here is slanted."""
    text = _bar(_with_why(cell))
    text = {0: text, 1: f"**{text}**", 2: f"<u>{text}</u>"}[cell.rank]
    return f"*{text}*" if cell.grey and text else text


def _linked(text: str, metric: str, defined: Collection[str]) -> str:
    return f'<a href="#def-{escape(metric)}">{text}</a>' if metric in defined else text


def _html_cell(cell: Cell, defined: Collection[str]) -> str:
    verdict = "ok" if cell.ok else "bad" if cell.ok is False else "absent" if cell.text.startswith("n/a") else ""
    classes = ["published" if cell.grey else verdict, "words" if len(cell.text) > SENTENCE else ""]
    kind = f' class="{" ".join(filter(None, classes))}"' if any(classes) else ""
    kind += ' style="color: #767676"' if cell.grey else ""
    why = f' title="{escape(cell.why)}"' if cell.why else ""
    text = _linked(escape(cell.text), cell.metric, defined)
    return f"<td{kind}{why}>{ {0: text, 1: f'<b>{text}</b>', 2: f'<u>{text}</u>'}[cell.rank] }</td>"
