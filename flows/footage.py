"""Commands about footage before the long run: check a video, preview a stage, remove a speaker or a drive."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.project import Json, project
from models.errors import InputError
from tasks.places import Places


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


class PreviewStage(StrEnum):
    """What can be previewed."""

    parse = "parse"
    track = "track"
    layers = "layers"


def preview(
    speaker: Annotated[str, typer.Argument(help="Who; add-speaker is enough, nothing has to have run.")],
    stage: Annotated[PreviewStage, typer.Option(help="Which stage.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The picture, .jpg; none: in .work/preview.")] = None,
    json: Json = False,
) -> None:
    """Draw what a stage makes of the first frame with a face, in seconds, before the long run."""
    from tasks.stage import limit_threads

    places = project()
    limit_threads()
    from flows.console import say, show_json
    from tasks.preview import preview as draw

    path = draw(places, speaker, stage.value, out)
    if json:
        show_json({"picture": str(path)})
    else:
        say(str(path))


Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def remove_speaker(
    name: Annotated[str, typer.Argument(help="Whom to remove.")], yes: Yes = False, json: Json = False
) -> None:
    """Remove a person: record, footage, everything computed from it, and the name in params.yaml."""
    from tasks.removal import belongings
    from tasks.removal import remove_speaker as remove

    _remove(name, belongings, remove, yes, json)


def remove_drive(
    name: Annotated[str, typer.Argument(help="Which recording to remove.")], yes: Yes = False, json: Json = False
) -> None:
    """Remove a drive: record, sound, all that heads were made to say with it, and the name in params.yaml."""
    from tasks.removal import drive_belongings
    from tasks.removal import remove_drive as remove

    _remove(name, drive_belongings, remove, yes, json)


def _remove(
    name: str,
    belongings: Callable[[Places, str], list[Path]],
    remove: Callable[[Places, str], list[Path]],
    yes: bool,
    json: bool,
) -> None:
    from flows.console import complain, say, show_json

    places = project()
    found = belongings(places, name)
    if not yes:
        complain("\n".join([f"this deletes for good all of {name}:", *(f"  {_short(places, p)}" for p in found)]))
        typer.confirm("go on? (--yes does not ask)", abort=True, err=True)
    removed = [_short(places, path) for path in remove(places, name)]
    if json:
        show_json({"removed": removed})
        return
    say("\n".join(f"changed {path}" if path == "params.yaml" else f"removed {path}" for path in removed))
    say(
        "what DVC has cached of it goes by: dvc gc --workspace\n"
        "report and tables still show it until the next: dvc repro\n"
        "what MLflow holds of it stays until it is deleted there: gausstalk ui"
    )


def _short(places: Places, path: Path) -> str:
    return str(path.relative_to(places.root))
