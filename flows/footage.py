"""Commands about footage before the long run: check a video, preview a stage, remove a speaker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.project import Json, project
from models.errors import InputError


def check(
    video: Annotated[Path, typer.Argument(help="The video to look at; nothing of it is kept.")],
    picture: Annotated[Path | None, typer.Option(help="Draw a timeline of it: OUT.png or OUT.jpg.")] = None,
    json: Json = False,
) -> None:
    """Say in under a minute whether a video is fit to train on, and what to do about what is not.

    Exit code 0: fit, also with warnings. 3: unfit.
    """
    from tasks.stage import limit_threads

    places = project()
    limit_threads()
    from tasks.check import check as look

    result = look(places, video, picture)
    if json:
        from flows.console import show_json

        show_json(result)
    else:
        _show(result, picture)
    if result["verdict"] == "unfit":
        raise typer.Exit(InputError.exit_code)


def _show(result: dict[str, Any], picture: Path | None) -> None:
    from flows.console import say, show_rows
    from tasks.fitness import told

    say(f"{result['video']}: {result['verdict']}")
    rows = [(finding["level"], finding["what"], finding["fix"]) for finding in result["findings"]]
    if rows:
        say("")
        show_rows(rows, ["", "found", "what to do"])
    say("")
    show_rows(told(result["figures"]), ["figure", "value"])
    if picture is not None:
        say(f"\nwrote {picture}")
