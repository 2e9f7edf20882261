"""What the command line shows a person: tables, the plan of a run and its outcome. Nothing here decides anything."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from textwrap import fill
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.progress import clock

STATES = {"ok": "green", "pass": "green", "warn": "yellow", "fail": "red"}
STATES |= {"done": "green", "cached": "dim", "failed": "red"}
GAP = 2  # between columns
LONGEST_WORD = 30  # that is never broken; addresses of files and hosts are, where need be


def show_json(content: Any) -> None:
    """Write JSON, and nothing else, to stdout."""
    sys.stdout.write(json.dumps(content, indent=1, default=str, allow_nan=False) + "\n")


def show_rows(rows: Iterable[Sequence[object]], heads: Sequence[str], once: Collection[str] = ()) -> None:
    """Write a table to stdout; words that name a state are coloured.

    Args:
        rows: what stands in the cells.
        heads: of the columns.
        once: heads of columns that are left out, and told above the table, where they say the same in every row.
    """
    _print(heads, [[Text(str(cell), STATES.get(str(cell), "")) for cell in row] for row in rows], once)


def show_table(content: Any, once: Collection[str] = ()) -> None:
    """Write a table, its title and notes: the best bold, the second best underlined, what is not measured here dim."""
    say(f"\n{content.title}")
    rows = [[Text(cell.text, _style_of(cell)) for cell in row] for row in content.rows]
    _print([column.heading for column in content.columns], rows, once)
    say("\n".join(_filled(note, "  ") for note in content.notes))


def _print(heads: Sequence[str], rows: Sequence[Sequence[Text]], once: Collection[str]) -> None:
    same = {k: rows[0][k].plain for k in range(len(heads)) if len({row[k].plain for row in rows}) == 1}
    same = {k: text for k, text in same.items() if heads[k] in once}
    if told := ", ".join(f"{heads[k]} {text}" for k, text in same.items() if text):
        say(told)
    shown = [k for k in range(len(heads)) if k not in same]
    console = _console()
    widths = _widths([[heads[k], *(row[k].plain for row in rows)] for k in shown], console.width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for k, width in zip(shown, widths, strict=True):
        table.add_column(Text(heads[k]), overflow="fold", width=width)
    for row in rows:
        table.add_row(*(row[k] for k in shown))
    console.width = max(console.width, sum(widths) + GAP * len(widths))
    console.print(table)


def _filled(text: str, indent: str = "") -> str:
    """Return a text in lines that the window does not break within words."""
    width = _console().width
    return fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _console() -> Console:
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 160  # a log file has no edge; do not break its lines at 80
    return console


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return how wide columns of texts are: the widest give way until all fit, but words and numbers stay whole."""
    widths = [max(map(len, texts)) for texts in columns]
    words = [[word for text in texts for word in text.split() if not _is_address(word)] for texts in columns]
    least = [min(LONGEST_WORD, max(map(len, texts), default=8)) for texts in words]
    while sum(widths) + GAP * len(widths) > room:
        wider = [k for k, width in enumerate(widths) if width > least[k]]
        if not wider:
            break
        widths[max(wider, key=widths.__getitem__)] -= 1
    return widths


def _is_address(word: str) -> bool:
    return "/" in word or word.count(".") > 1


def _style_of(cell: Any) -> str:
    return f"{ {0: '', 1: 'bold', 2: 'underline'}[cell.rank] } {'dim' if cell.grey else ''}".strip()


def show_plan(plan: Any, json: bool) -> None:
    """Show what a run would do."""
    rows = [
        {"name": item.name, "stage": item.stage, **vars(item.keys), "changed": item.changed, "needs": list(item.needs)}
        for item in plan.items
    ]
    if json:
        show_json(rows)
        return
    show_rows([(row["name"], "to do" if row["changed"] else "cached") for row in rows], ["stage", "state"])
    say(f"{sum(row['changed'] for row in rows)} of {len(rows)} stages to do")


def show_phase(explained: dict[str, Any], json: bool) -> None:
    """Show what a stage of training does when."""
    if json:
        show_json(explained)
        return
    from tasks import explain

    say("\n".join(map(_filled, explain.headline(explained).splitlines())))
    show_rows(explain.table(explained), explain.HEADS)
    if legend := explain.legend(explained):
        say(_filled(f"→: falls or rises to; {legend}."))


def short(value: object) -> object:
    """Return what stands in a cell: numbers with four digits, nothing for None."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else value


def say(text: str) -> None:
    """Write a line for a person to stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """Write an error or a warning to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def summary(states: dict[str, str], seconds: dict[str, float]) -> str:
    """Return one line on how a run went."""
    counts = {state: list(states.values()).count(state) for state in ("done", "cached", "failed", "skipped")}
    text = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    slowest = sorted(seconds.items(), key=lambda item: -item[1])[:3]
    longest = "; longest: " + ", ".join(f"{name} {clock(value)}" for name, value in slowest) if slowest else ""
    return f"{len(states)} stages: {text}{longest}"
