"""The papers' tables in their own layout: what they print in grey, what was measured here below, each ranked by itself.

What is printed lies in tasks/papers.yaml; what was measured comes from the files that the stages of evaluation write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from models.metrics import all_metrics
from tasks.comparable import why_not_comparable
from tasks.measured import Measured, conditions_of, imported_words
from tasks.methods import METHODS, TALKING_GAUSSIAN
from tasks.params import Params, read_yaml, validate
from tasks.tabular import Cell, Column, Footnotes, Table, number
from tasks.variants import Kept

PUBLISHED = Path(__file__).with_name("papers.yaml")
OTHER_DATA = (
    "Grey: as printed in the paper. Not the same data: other people, split, size and tools of measuring. What was "
    "measured here may only be compared with what was measured here."
)
RANKS = "Bold: the best, underlined: the second best of those that were measured on the same frames."
OURS = {method.name: f"{method.title} (ours)" for method in METHODS.values()}
LANGUAGES = {"de": "German", "zh": "Chinese", "en": "English", "fr": "French"}


class PaperColumn(Params):
    """A column of a paper's table, and the metric that comes nearest to it."""

    name: str
    metric: str
    region: str
    language: str = ""  # of the drive that it is measured on
    gender: str = ""

    @property
    def key(self) -> str:
        """How rows name it."""
        return " ".join(part for part in (self.name, self.language, self.gender) if part)

    @property
    def drive(self) -> str:
        """The drive in words."""
        return f"{self.gender} {LANGUAGES.get(self.language, self.language)}".strip()


class PaperRow(Params):
    """A row as printed."""

    variant: str = ""
    extractor: str = ""
    method: str = ""
    values: dict[str, str]


class PaperTable(Params):
    """A table of a paper."""

    paper: str
    title: str
    data: str
    rows_of: str
    columns: list[PaperColumn] = Field(min_length=1)
    rows: list[PaperRow] = Field(min_length=1)
    gaps: str = ""


@dataclass(frozen=True)
class Line:
    """A row before it is ranked: the cells that name it, what was measured, and the figure of each column."""

    names: dict[str, str]
    measured: tuple[Measured, ...] = ()
    fix: str = ""  # why there is nothing

    @property
    def about(self) -> dict[str, Any]:
        """The conditions, of the first where there are several."""
        return self.measured[0].about if self.measured else {}


def read_papers() -> dict[str, PaperTable]:
    """Read tasks/papers.yaml.

    Raises:
        UsageError: it is missing or not valid.
    """
    content = read_yaml(PUBLISHED)
    return {name: validate(PaperTable, entry, f"{PUBLISHED.name}: {name}") for name, entry in content.items()}


def paper_tables(
    speakers: Sequence[str], heads: Sequence[Measured], drives: Sequence[Measured], kept: Sequence[Kept]
) -> list[Table]:
    """Return the tables of the papers with what was measured of these speakers.

    Args:
        speakers: whose results are shown.
        heads: on their test frames, ours and imported ones.
        drives: heads that say something else.
        kept: variants of heads.
    """
    papers = read_papers()
    lines: dict[str, Callable[[str], list[Line]]] = {
        "table_5": lambda speaker: _variants(speaker, kept),
        "table_6": lambda speaker: _extractors(speaker, heads, kept, papers["table_6"]),
        "table_7": lambda speaker: _drives(speaker, drives),
        "gaussian_talker_table_3": lambda speaker: _methods(speaker, heads),
    }
    return [_table(name, paper, {s: lines[name](s) for s in speakers}) for name, paper in papers.items()]


def _of(measured: Iterable[Measured], speaker: str) -> list[Measured]:
    return [one for one in measured if one.about["speaker"] == speaker]


def _variants(speaker: str, kept: Sequence[Kept]) -> list[Line]:
    own = [one for one in kept if (one.speaker, one.table) == (speaker, "table_5")]
    if not own:
        return [Line({"variant": "all"}, fix=f"not trained yet: gausstalk run --table 5 {speaker}")]
    return [Line({"variant": one.name}, (one.measured,)) for one in own]


def _extractors(speaker: str, heads: Sequence[Measured], kept: Sequence[Kept], paper: PaperTable) -> list[Line]:
    found = {
        one.measured.about["extractor"]: one.measured
        for one in kept
        if one.table == "table_6" and one.speaker == speaker
    }
    found |= {h.about["extractor"]: h for h in _of(heads, speaker) if h.about["method"] == TALKING_GAUSSIAN.name}
    lines = []
    for name in dict.fromkeys([*(row.extractor for row in paper.rows), *found]):
        measured = (found[name],) if name in found else ()
        fix = "" if measured else f"not trained yet: gausstalk run --table 6 {speaker} -e {name}"
        lines.append(Line({"extractor": name}, measured, fix))
    return lines


def _drives(speaker: str, drives: Sequence[Measured]) -> list[Line]:
    own: dict[tuple[str, str], list[Measured]] = {}
    for drive in _of(drives, speaker):
        own.setdefault((drive.about["extractor"], drive.about["method"]), []).append(drive)
    if not own:
        return [
            Line({"extractor": "all"}, fix=f"says nothing else yet: gausstalk add-drive, then gausstalk run {speaker}")
        ]
    return [Line({"extractor": e, "method": OURS.get(m, m)}, tuple(found)) for (e, m), found in sorted(own.items())]


def _methods(speaker: str, heads: Sequence[Measured]) -> list[Line]:
    lines = []
    for head in _of(heads, speaker):
        method, told = str(head.about["method"]), imported_words(head.about) or str(head.about.get("extractor", ""))
        name = OURS.get(method, method)
        lines.append(Line({"method": f"{name}, {told}" if told else name}, (head,)))
    return lines or [Line({"method": "all"}, fix=f"not trained yet: gausstalk run {speaker}")]


def _table(name: str, paper: PaperTable, lines: dict[str, list[Line]]) -> Table:
    metrics = all_metrics()
    labels = [key for key in ("variant", "extractor", "method") if any(getattr(row, key) for row in paper.rows)]
    columns = [Column("data"), *(Column(label) for label in labels)]
    for column in paper.columns:
        metric = metrics[column.metric]
        heading = f"{column.name} {column.drive}".strip()
        columns.append(Column(heading, metric.unit, metric.better, metric.words, column.name))
    table, notes = Table(name, f"{paper.title}: {paper.paper}", columns), Footnotes()
    block = []
    for row in paper.rows:
        names = [Cell("published", paper.data), *(Cell(getattr(row, label)) for label in labels)]
        absent = "not printed, or not recovered"
        cells = [Cell(row.values[c.key]) if c.key in row.values else notes.cell(absent) for c in paper.columns]
        block.append([replace(cell, grey=True) for cell in (*names, *cells)])
    table.rows += ranked(block, columns, 1 + len(labels))
    shown: list[Measured] = []
    apart: list[str] = []
    for speaker, own in lines.items():
        block = []
        for line in own:
            names = [Cell(speaker), *(Cell(line.names.get(label, "")) for label in labels)]
            block.append([*names, *(_cell(line, column, notes) for column in paper.columns)])
            shown += line.measured
        why = _why_apart(own)
        apart += [f"{speaker}: not ranked: {why}"] if why else []
        table.rows += block if why else ranked(block, columns, 1 + len(labels))
    table.notes += [OTHER_DATA, f"Published: {paper.data}.", *([f"{paper.gaps}."] if paper.gaps else []), RANKS]
    table.notes += [*apart, *notes.notes(), *conditions_of(shown)]
    return table


def _why_apart(lines: Sequence[Line]) -> str:
    """Return why lines of one speaker must not be ranked against each other, "" if they may be."""
    measured = [one for line in lines for one in line.measured]
    if any(one.about.get("drive") for one in measured):  # a column is of one drive; the heads all say the same ones
        by_drive = {one.about["drive"]: one for one in reversed(measured)}
        return next(
            filter(None, (why_not_comparable(one.about, by_drive[one.about["drive"]].about) for one in measured)), ""
        )
    return next(filter(None, (why_not_comparable(measured[0].about, one.about) for one in measured[1:])), "")


def _cell(line: Line, column: PaperColumn, notes: Footnotes) -> Cell:
    """Return what was measured, the mean where several drives are of one language and gender."""
    if not line.measured:
        return notes.cell(line.fix)
    asked = {"language": column.language, "gender": column.gender} if column.language else {}
    fitting = [one for one in line.measured if all(one.about.get(key) == value for key, value in asked.items())]
    if asked:  # the papers' voices speak
        fitting = [one for one in fitting if one.about.get("kind", "speech") != "singing"]
    if not fitting:
        add = f"gausstalk add-drive NAME FILE --language {column.language} --gender {column.gender} --basis BASIS"
        return notes.cell(f"no {column.drive} drive: {add}")
    rows = [one.find(column.metric, column.region, "full") for one in fitting]
    values = [row["value"] for row in rows if row is not None]
    if len(values) < len(fitting):
        return notes.cell(f"{column.metric}: {fitting[0].cell(column.metric, column.region).why}")
    unit = next(row["unit"] for row in rows if row is not None)
    return Cell(number(sum(values) / len(values), unit), f"mean of {len(values)} drives" if len(values) > 1 else "")


def ranked(rows: list[list[Cell]], columns: Sequence[Column], first: int) -> list[list[Cell]]:
    """Return rows in which the best figure of every column from `first` on has rank 1, the second best 2.

    A figure needs another one to be the best, and two others to be the second best; equal figures share a rank.
    """
    result = [list(row) for row in rows]
    for position in range(first, len(columns)):
        better = columns[position].better
        figures = {k: float(row[position].text) for k, row in enumerate(rows) if _is_figure(row[position].text)}
        if better not in ("higher", "lower") or len(figures) < 2:
            continue
        order = sorted(set(figures.values()), reverse=better == "higher")
        for k, value in figures.items():
            rank = order.index(value) + 1
            if rank == 1 or (rank == 2 and len(figures) > 2):
                result[k][position] = replace(rows[k][position], rank=rank)
    return result


def _is_figure(text: str) -> bool:
    return text.replace(".", "", 1).removeprefix("-").isdigit()
