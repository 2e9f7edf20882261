"""What the command line shows a person: tables, the plan of a run and its outcome. Nothing here decides anything."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.progress import clock

STATES = {"ok": "green", "pass": "green", "warn": "yellow", "fail": "red"}
STATES |= {"done": "green", "cached": "dim", "failed": "red"}


def show_json(content: Any) -> None:
    """Write JSON, and nothing else, to stdout."""
    sys.stdout.write(json.dumps(content, indent=1, default=str, allow_nan=False) + "\n")


def show_rows(rows: Iterable[Sequence[object]], heads: Sequence[str]) -> None:
    """Write a table to stdout; words that name a state are coloured."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(_styled(str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = 160  # a log file has no edge; do not break its lines at 80
    console.print(table)


def show_table(content: Any) -> None:
    """Write a table, its title and notes: the best bold, the second best underlined, what is not measured here dim."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in content.columns:
        table.add_column(Text(column.heading), overflow="fold")
    for row in content.rows:
        table.add_row(*(Text(cell.text, _style_of(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = 160
    say(f"\n{content.title}")
    console.print(table)
    say("\n".join(f"  {note}" for note in content.notes))


def _style_of(cell: Any) -> str:
    return f"{ {0: '', 1: 'bold', 2: 'underline'}[cell.rank] } {'dim' if cell.grey else ''}".strip()


def _styled(text: str) -> str:
    from rich.markup import escape

    colour = STATES.get(text)
    return f"[{colour}]{text}[/{colour}]" if colour else escape(text)


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

    say(explain.headline(explained))
    show_rows(explain.table(explained), explain.HEADS)


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
