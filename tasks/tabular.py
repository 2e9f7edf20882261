"""A table as CSV, Markdown and HTML: one content, three forms."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from html import escape

DECIMALS = {"dB": 2, "px": 2, "1": 3, "%": 2, "s": 1, "ms": 1, "frames": 0, "frames off": 1, "count": 0, "1/min": 1}
ARROWS = {"higher": "↑", "lower": "↓", "1": "→1"}
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

    def as_html(self) -> str:
        """Return the table in a box that scrolls sideways, its notes below."""
        head = "".join(f'<th title="{escape(c.definition)}">{escape(c.heading)}</th>' for c in self.columns)
        body = "".join(f"<tr>{''.join(map(_html_cell, row))}</tr>\n" for row in self.rows)
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n' + (
            f'<ul class="notes">{notes}</ul>\n' if notes else ""
        )


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 0.95rem/1.45 system-ui, sans-serif; margin: 2rem; color: #1c1c1c; background: #fff; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 0.25rem 0.8rem; text-align: left; border-bottom: 1px solid #ddd; }}
th {{ border-bottom: 1.5px solid #555; }}
.ok {{ color: #17663a; }} .bad {{ color: #a02020; }} .absent {{ color: #767676; }}
.scroll {{ overflow-x: auto; }} .notes {{ color: #555; font-size: 0.85rem; max-width: 60rem; }}
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


def _html_cell(cell: Cell) -> str:
    absent = ' class="absent"' if cell.text.startswith("n/a") else ""
    kind = {True: ' class="ok"', False: ' class="bad"', None: absent}[cell.ok]
    kind = ' class="published" style="color: #767676"' if cell.grey else kind
    why = f' title="{escape(cell.why)}"' if cell.why else ""
    text = escape(cell.text)
    return f"<td{kind}{why}>{ {0: text, 1: f'<b>{text}</b>', 2: f'<u>{text}</u>'}[cell.rank] }</td>"
