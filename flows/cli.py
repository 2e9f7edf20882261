"""`gausstalk`: the command line. Exit codes: see models/errors.py; 130 after an interrupt.

Everything heavy is imported by the command that needs it, so that --help is there at once.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import comparisons, footage, speaking
from flows.people import CONSENT_HELP, BasisName, Gender, GenderOption, Language, Replace
from flows.project import Json, project
from models.errors import GausstalkError, MachineError, UsageError, did_you_mean, of_the_machine
from tasks.places import Places

INTERRUPTED = 130
INTERRUPTED_NOTE = "interrupted"
KEPT_NOTE = "; what is finished is kept, the same command goes on from there"
GO_ON = ("run", "fetch", "publish")  # what KEPT_NOTE is true of
app = typer.Typer(
    name="gausstalk",
    help="Turns consented videos of people speaking into Gaussian-splat talking heads, and measures them.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
log = logging.getLogger("gausstalk")


@app.callback()
def common(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")] = False,
) -> None:
    """Turns consented videos of people speaking into Gaussian-splat talking heads, and measures them."""
    global _verbose
    _verbose = verbose


_verbose = False


@app.command("add-speaker", short_help="Add a person: videos, consent, params.yaml.")
def add_speaker(
    name: Annotated[str, typer.Argument(help="What the speaker is called here: a-z, 0-9 and _.")],
    videos: Annotated[list[Path], typer.Argument(help="Videos of this one person speaking, with sound.")],
    consent: Annotated[Path, typer.Option(help=CONSENT_HELP)],
    language: Language = "en",
    gender: GenderOption = Gender.unstated,
    head_model: Annotated[str, typer.Option(help="ict, flame, flame2020, flame2023, bfm: docs/head_models.md")] = "ict",
    replace: Replace = False,
    json: Json = False,
) -> None:
    """Add a person: copy the videos, record the consent, put the name into params.yaml."""
    from tasks.registry import add_speaker as add

    places = project()
    written = add(places, name, videos, consent, language, gender.value, replace, head_model)
    _tell_written(places, written, json, f"next: gausstalk run {name}   (or dvc repro)")


@app.command("add-drive", short_help="Add a recording that every head is made to say.")
def add_drive(
    name: Annotated[str, typer.Argument(help="What the recording is called here: a-z, 0-9 and _.")],
    audio: Annotated[
        Path, typer.Argument(help="One voice that every head is made to say; of a video the lips are compared, too.")
    ],
    language: Language,
    basis: Annotated[
        BasisName, typer.Option(help="On what basis the voice is used; research marks everything made of it.")
    ] = BasisName.research,
    gender: GenderOption = Gender.unstated,
    note: Annotated[str, typer.Option(help="Where the recording comes from.")] = "",
    singing: Annotated[bool, typer.Option("--singing", help="It is sung; the matrix keeps it apart.")] = False,
    replace: Replace = False,
    json: Json = False,
) -> None:
    """Add a recording that every head is made to say."""
    from tasks.registry import add_drive as add

    places = project()
    kind = "singing" if singing else "speech"
    written = add(places, name, audio, language, basis.value, gender.value, note, replace, kind)
    _tell_written(places, written, json, "next: gausstalk run   (or dvc repro)")


app.command(short_help="Say whether a video is fit to train on.")(footage.check)
app.command(short_help="Draw what a stage makes of one frame, in seconds.")(footage.preview)
app.command("remove-speaker", short_help="Remove a person and all that was computed of them.")(footage.remove_speaker)
app.command("remove-drive", short_help="Remove a drive and all that was said with it.")(footage.remove_drive)
app.command("import-predictions", short_help="Bring frames of another system into the tables.")(
    comparisons.import_predictions
)
app.command("remove-predictions", short_help="Take frames of another system out again.")(comparisons.remove_predictions)
app.command(short_help="Write the papers' tables with our numbers beside.")(comparisons.tables)
app.command(short_help="Set two published results side by side.")(comparisons.compare)


def _tell_written(places: Places, written: list[Path], json: bool, after: str) -> None:
    from flows.console import say, show_json

    names = [str(path.relative_to(places.root)) for path in written]
    if json:
        show_json({"written": names})
    else:
        say("\n".join([*(f"wrote {name}" for name in names), after]))


@app.command(short_help="Bring the heads of speakers up to date.")
def run(
    speakers: Annotated[list[str] | None, typer.Argument(help="Whose heads to make; none: all of params.yaml.")] = None,
    extractor: Annotated[list[str] | None, typer.Option("--extractor", "-e", help="Only these; none: all.")] = None,
    method: Annotated[
        str, typer.Option(help="Only its heads: talkinggaussian or gaussiantalker; a speaker new to it is listed.")
    ] = "",
    preset: Annotated[str, typer.Option(help="Train by it from now on: cpu, best, demo, released, paper.")] = "",
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Stages that run side by side.")] = 2,
    device: speaking.DeviceOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would run.")] = False,
    table: Annotated[
        int, typer.Option(help="Fill table 5 (what moves) or 6 (extractors) of the supplement.", show_default=False)
    ] = 0,
    explain: Annotated[str, typer.Option(help="Only show what this stage of training does when: tg_face, ...")] = "",
    json: Json = False,
) -> None:
    """Bring the heads of speakers up to date: what `dvc repro` does, in parallel and watched by Prefect."""
    from flows import console, start
    from models.methods.talking_gaussian_presets import PRESETS
    from tasks.lists import check_lists
    from tasks.methods import TALKING_GAUSSIAN, find_method
    from tasks.params import check_preset

    chosen = find_method(method) if method else None
    places = project()
    if preset:
        check_preset(preset, PRESETS)
    if preset and (explain or dry_run or table):
        raise UsageError(
            "a preset is chosen by a whole run", "--explain, --dry-run and --table change nothing", "leave --preset out"
        )
    if explain:
        from tasks.explain import explain as told

        console.show_phase(told(places, explain), json)
        return
    check_lists(places)
    if dry_run:
        from flows.graph import read_plan
        from tasks.registry import check_enlisted

        if chosen is not None:
            check_enlisted(places, speakers or (), chosen)
        console.show_plan(read_plan(places.root, speakers or (), extractor or (), chosen), json)
        return
    from flows import variants
    from tasks.device import VARIABLE, choose_device
    from tasks.put_away import put_back

    wanted = device.value if device is not None else os.environ.get(VARIABLE)
    if wanted:  # checked now, not by the first stage that trains
        os.environ[VARIABLE] = choose_device(wanted)
    put_back(places)
    if table:
        if chosen not in (None, TALKING_GAUSSIAN):
            raise UsageError(f"table {table} is of TalkingGaussian alone", "", "leave out --method")
        outcome = variants.fill(places, table, _only(speakers, table), extractor or (), jobs)
    else:
        outcome = start.run(places, speakers or (), extractor or (), jobs, chosen, preset)
    if json:
        console.show_json(outcome)
    else:
        console.say(console.summary(outcome["states"], outcome["seconds"]))
        for error in outcome["errors"]:
            console.complain(f"\n{error['stage']}:\n{error['text']}")
        if not outcome["exit_code"]:
            _show_results(places)
    if outcome["exit_code"]:
        raise typer.Exit(outcome["exit_code"])


def _only(speakers: list[str] | None, table: int) -> str:
    if not speakers or len(speakers) > 1:
        raise UsageError("a table is of one speaker", "", f"gausstalk run --table {table} SPEAKER")
    return speakers[0]


app.command(short_help="Make a trained head say something.")(speaking.say)
app.command(short_help="Write a head as .ply and as one file for `say`.")(speaking.export)


@app.command(short_help="Show Prefect and MLflow in the browser.")
def ui() -> None:
    """Show Prefect (what runs) and MLflow (what came out) in the browser, until Ctrl-C."""
    from flows.console import say as tell
    from flows.start import serve

    serve(project(), tell)


@app.command(short_help="Download weights and head models, verified.")
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Assets of data/assets.toml.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show all assets and whether they are here.")] = False,
    accept: Annotated[bool, typer.Option("--accept", help="I have read the licence and accept it.")] = False,
    json: Json = False,
) -> None:
    """Download weights and head models, verified by their sha256."""
    from flows import console
    from tasks.fetch import fetch_all, overview

    places = project()
    if not names and not list_:
        raise UsageError("no asset named", "", "gausstalk fetch --list shows them")
    if names:
        found = fetch_all(places, names, accept)
        if json:
            console.show_json({name: str(path) for name, path in found.items()})
        return
    rows = overview(places)
    if json:
        console.show_json(rows)
        return
    cells = [[row[key] for key in ("name", "state", "size", "licence", "use", "where")] for row in rows]
    console.show_rows(cells, ["name", "state", "to download", "licence", "for", "where"])


@app.command(short_help="Check this machine and this project.")
def doctor(json: Json = False) -> None:
    """Check this machine and this project, and say what mends what is wrong."""
    from flows import console
    from tasks.doctor import as_rows, examine

    findings = examine(project())
    failed = any(finding.state == "fail" for finding in findings)
    if json:
        console.show_json({"ok": not failed, "findings": as_rows(findings)})
    else:
        rows = [(finding.state, finding.name, finding.found, finding.fix) for finding in findings]
        console.show_rows(rows, ["state", "check", "found", "fix"])
    if failed:
        raise typer.Exit(MachineError.exit_code)


@app.command(short_help="Measure how fast this machine's kernels are.")
def bench(
    part: Annotated[str, typer.Argument(help="raster, grid, bound, ssim, iteration, render or all.")] = "all",
    head: Annotated[str, typer.Option(help="Render this speaker's trained head, too.")] = "",
    extractor: speaking.Extractor = None,
    device: speaking.DeviceOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write into; none: .work/bench.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Fail when a bar does not hold.")] = False,
    json: Json = False,
) -> None:
    """Measure how much faster the fast kernels are than plain torch on this machine (a few minutes)."""
    from tasks.stage import limit_threads

    places = project()
    limit_threads()
    from tasks.bench.run import bench as measure
    from tasks.trained import usual_extractor

    extractor = extractor or usual_extractor(places)
    result = measure(places, part, wanted=device and device.value, speaker=head, extractor=extractor, folder=out)
    _show_bench(result, json)
    if check and any(bar["state"] == "fail" for bar in result["bars"]):
        raise typer.Exit(GausstalkError.exit_code)


def _show_bench(result: Any, json: bool) -> None:
    from flows import console
    from tasks.bench import tables

    if json:
        console.show_json(result)
        return
    for rows, heads in (
        (tables.figure_rows(result), tables.FIGURE_HEADS),
        (tables.bar_rows(result), tables.BAR_HEADS),
        (tables.profile_rows(result), tables.PROFILE_HEADS),
    ):
        if rows:
            console.show_rows(rows, heads)
            console.say("")
    console.say("\n".join([*tables.lines(result), *(f"wrote {path}" for path in result["files"].values())]))


@app.command()
def report(
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False, json: Json = False
) -> None:
    """Say where the report and the videos are."""
    places = project()
    path = places.root / "data" / "report" / "report.html"
    if not path.is_file():
        raise UsageError("there is no report yet", f"{path} does not exist", "dvc repro   (or gausstalk run)")
    if json:
        from flows.console import show_json
        from tasks.methods import videos_made

        show_json({"report": str(path), "videos": [str(video) for video in videos_made(places)]})
    else:
        _show_results(places)
    if open_:
        import webbrowser

        webbrowser.open(path.as_uri())


def _show_results(places: Places) -> None:
    from flows.console import say as tell
    from tasks.methods import videos_made

    page = places.root / "data" / "report" / "report.html"
    if page.is_file():
        tell(f"report: {page}")
    for video in videos_made(places):
        tell(f"video:  {video}")


@app.command()
def metrics(
    speakers: Annotated[list[str] | None, typer.Argument(help="Whose; none: everybody's.")] = None,
    json: Json = False,
) -> None:
    """Show every number that has been measured."""
    from flows import console
    from tasks.entries import metric_rows
    from tasks.tables import ROW_KEYS

    # What was measured before training has no method or split; a program finds the same keys in every row.
    rows = [{**dict.fromkeys(ROW_KEYS, ""), **row} for row in metric_rows(project())]
    known = sorted({row["speaker"] for row in rows})
    for name in speakers or ():
        if name not in known:
            why = f"measured: {', '.join(known) or 'nobody'}"
            fix = did_you_mean(name, known, f"gausstalk run {name}")
            raise UsageError(f"nothing has been measured of {name!r}", why, fix)
    rows = [row for row in rows if not speakers or row["speaker"] in speakers]
    if json:
        console.show_json(rows)
        return
    of_what = ROW_KEYS[: ROW_KEYS.index("region")]
    for _, some in groupby(rows, lambda row: [row[key] for key in of_what]):
        console.show_rows([[console.short(row[head]) for head in ROW_KEYS] for row in some], ROW_KEYS, of_what)
        console.say("")
    if not rows:
        console.complain("nothing has been measured yet: gausstalk run   (or dvc repro)")


app.command(short_help="Show how well every head says every drive.")(comparisons.matrix)


@app.command()
def publish() -> None:
    """Put everything that is not in MLflow yet there."""
    from flows.console import say as tell
    from flows.start import publish as publish_again

    result = publish_again(project())
    new = sum(entry["new"] for entry in result["runs"])
    tell(f"{len(result['runs'])} runs in MLflow, {new} of them new; gausstalk ui shows them")


@app.command(short_help="Check that dvc.yaml lists the code of every stage.")
def dag(
    check: Annotated[bool, typer.Option("--check", help="Fail when dvc.yaml is not up to date (default).")] = False,
    write: Annotated[bool, typer.Option("--write", help="Bring dvc.yaml up to date.")] = False,
) -> None:
    """Compare the code that every stage of dvc.yaml depends on with what the stage imports."""
    from flows.console import say as tell
    from tasks import dag as lists

    if check and write:
        raise UsageError("--check and --write exclude each other", "one looks, the other writes", "leave one out")
    places = project()
    changed = lists.write(places) if write else lists.check(places)
    if changed and not write:
        raise UsageError(
            f"dvc.yaml: the code of {', '.join(changed)} is not what they import",
            "a change in that code would not run them again",
            "gausstalk dag --write",
        )
    tell(f"dvc.yaml: {'wrote ' + ', '.join(changed) if changed else 'every stage depends on the code that it imports'}")


def main() -> None:
    """Run the command line; whatever goes wrong ends as what, why and fix on stderr, and a documented exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    sys.exit(_guarded())


def _guarded() -> int:
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
        if code == INTERRUPTED:  # what Typer makes of a KeyboardInterrupt
            sys.stderr.write(_interrupted() + "\n")
        return code
    except GausstalkError as error:
        return _fail(error, str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output has gone
        return 0
    except Exception as error:  # noqa: BLE001 - the last guard: no user is shown a traceback unasked
        explain = getattr(error, "format_message", None)
        if explain:  # the argument parser's own errors
            words = " ".join(str(explain()).split())
            asked = getattr(error, "ctx", None)
            fix = f"gausstalk {asked.info_name} --help" if asked and asked.parent else "gausstalk --help"
            return _fail(error, str(UsageError(words or "no command", "", fix)), UsageError.exit_code)
        if type(error).__name__ == "Abort":  # what older Typers make of one
            return _fail(error, _interrupted(), INTERRUPTED)
        machine = of_the_machine(error)
        if machine:
            return _fail(error, str(machine), machine.exit_code)
        text = GausstalkError(f"{type(error).__name__}: {error}", "this is a fault of gausstalk", "report it with -v")
        return _fail(error, str(text), 1)


def _interrupted() -> str:
    return INTERRUPTED_NOTE + (KEPT_NOTE if set(GO_ON) & set(sys.argv[1:3]) else "")


def _fail(error: BaseException, text: str, code: int) -> int:
    if _verbose:
        traceback.print_exception(error)
    sys.stderr.write(text + "\n")
    return code


if __name__ == "__main__":
    main()
