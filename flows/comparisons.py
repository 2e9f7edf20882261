"""Commands that set results side by side: frames of other systems, the papers' tables, two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.project import Json, project
from models.errors import UsageError
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
    drawn: Annotated[
        str, typer.Option(help="What it draws, the rest being the true frame's own: mouth, face, head or frame.")
    ] = "",
    json: Json = False,
) -> None:
    """Bring frames of another system into the same tables: the test part of a speaker's clip, or the whole clip."""
    from tasks.importing import import_predictions as bring

    places = project()
    written = bring(places, name, speaker, frames, wrong_audio, lossy, note, replace, drawn)
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
        typer.confirm("go on? (--yes does not ask)", abort=True, err=True)
    _tell(places, "removed", take_out(places, name, speaker), json, "tables and report show it until: dvc repro")


def matrix(json: Json = False) -> None:
    """Show how well every head says every drive: same language, other language, other gender, singing."""
    from flows import console
    from tasks.matrix import read_matrix
    from tasks.matrix_told import ONCE, told

    content = read_matrix(project())
    if json:
        console.show_json(content)
        return
    for table in told(content):
        console.show_table(table, ONCE)


def tables(json: Json = False) -> None:
    """Write the papers' tables with what was measured here beside what they print, as CSV, Markdown and HTML."""
    from flows.console import say, show_json, show_table
    from flows.start import run_one
    from tasks.tables import read_results

    places = project()
    measured = places.root / "data" / "metrics"
    if not measured.is_dir():
        raise UsageError(
            "nothing has been measured yet", f"{measured} does not exist", "gausstalk run   (or dvc repro)"
        )
    run_one(places, "tables")
    folder = places.root / "data" / "tables"
    found = read_results(places).papers()
    files = [folder / f"{table.name}.{form}" for table in found for form in ("csv", "md", "html")]
    if json:
        show_json({"written": [_short(places, path) for path in files]})
        return
    for table in found:
        show_table(table)
    say("\n".join(["", *(f"wrote {_short(places, path)}" for path in files)]))


def compare(
    first: Annotated[
        str,
        typer.Argument(metavar="RUN", help="speaker/method/extractor[/drive], speaker/system, or how an id begins."),
    ],
    second: Annotated[str, typer.Argument(metavar="RUN", help="The one to compare it with.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The page; none: in .work/compare.")] = None,
    json: Json = False,
) -> None:
    """Set two published results side by side: numbers, what is chance in them, and a page with videos in step."""
    from flows.console import say, show_json, show_table
    from flows.environment import prepare
    from tasks import side_by_side
    from tasks.outputs import make_way

    places = project()
    if out is not None:
        make_way(out)  # now, not when all is compared
    prepare(places)
    one, other = (side_by_side.open_run(places, name) for name in (first, second))
    differences = side_by_side.compare(one, other)
    table = side_by_side.table_of(one, other, differences)
    speaker = one.key.partition("/")[0]
    path = out or places.root / ".work" / "compare" / f"{speaker}-{one.run_id[:8]}-{other.run_id[:8]}.html"
    make_way(path)
    path.write_text(side_by_side.page_of(one, other, table), encoding="utf-8")
    if json:
        show_json({"page": str(path), "rows": [side_by_side.as_row(told) for told in differences]})
        return
    show_table(table)
    say(f"\nwrote {path}")


def _tell(places: Places, what: str, paths: list[Path], json: bool, after: str) -> None:
    from flows.console import say, show_json

    names = [_short(places, path) for path in paths]
    if json:
        show_json({what: names})
        return
    say("\n".join([*(f"{'changed' if name == 'params.yaml' else what} {name}" for name in names), after]))


def _short(places: Places, path: Path) -> str:
    return str(path.relative_to(places.root))
