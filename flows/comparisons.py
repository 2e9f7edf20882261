"""Commands that set results side by side: frames of other systems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.project import Json, project
from tasks.places import Places

Method = Annotated[str, typer.Argument(help="What the other system is called here: a-z, 0-9 and _.")]
SpeakerOption = Annotated[str, typer.Option(help="Whose clip it has rendered.")]


def import_predictions(
    name: Method,
    frames: Annotated[
        Path, typer.Argument(metavar="DIR_OR_VIDEO", help="Numbered PNGs or a video, 25 frames a second.")
    ],
    speaker: SpeakerOption,
    wrong_audio: Annotated[
        Path | None, typer.Option(help="The same frames rendered with the sound of another moment, as a control.")
    ] = None,
    lossy: Annotated[bool, typer.Option("--lossy", help="PNGs, but taken out of a compressed video.")] = False,
    note: Annotated[str, typer.Option(help="Version, weights and settings of the other system.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Put these in the place of those of this name.")] = False,
    json: Json = False,
) -> None:
    """Bring frames of another system into the same tables: the test part of a speaker's clip, or the whole clip."""
    from tasks.importing import import_predictions as bring

    places = project()
    written = bring(places, name, speaker, frames, wrong_audio, lossy, note, replace)
    _tell(places, "wrote", written, json, f"next: gausstalk run {speaker}   (or dvc repro)")


def remove_predictions(
    name: Method,
    speaker: SpeakerOption,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Take frames of another system out again, with all that was computed from them."""
    from flows.console import complain
    from tasks.importing import predictions_of
    from tasks.importing import remove_predictions as take_out

    places = project()
    found = predictions_of(places, name, speaker)
    if not yes:
        complain("\n".join([f"this deletes all of {name} for {speaker}:", *(f"  {_short(places, p)}" for p in found)]))
        typer.confirm("go on?", abort=True, err=True)
    _tell(places, "removed", take_out(places, name, speaker), json, "tables and report show it until: dvc repro")


def _tell(places: Places, what: str, paths: list[Path], json: bool, after: str) -> None:
    from flows.console import say, show_json

    names = [_short(places, path) for path in paths]
    if json:
        show_json({what: names})
        return
    say("\n".join([*(f"{'changed' if name == 'params.yaml' else what} {name}" for name in names), after]))


def _short(places: Places, path: Path) -> str:
    return str(path.relative_to(places.root))
