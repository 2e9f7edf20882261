"""What the commands `run`, `ui` and `publish` do: hold the lock, start what has to run, leave nothing behind."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from flows.environment import for_children, prepare
from flows.graph import Plan, check_known, read_plan
from flows.processes import Children, interrupt_on_signals
from flows.servers import (
    Server,
    announced,
    prefect_for_a_run,
    running_prefect,
    start_mlflow,
    start_prefect,
    starting,
    wait_for,
)
from models.errors import ConsentError, MachineError, UsageError
from tasks.doctor import missing_networks, wrong_params
from tasks.locks import is_held, only_one
from tasks.methods import Method
from tasks.params import names_listed
from tasks.params_file import choose_preset
from tasks.people import load_speaker, unknown_people
from tasks.places import Places
from tasks.registry import enlist
from tasks.stage import threads

log = logging.getLogger("gausstalk")
WRITING_S = 1.0  # more than DVC takes to write a note


def run(
    places: Places,
    speakers: Sequence[str],
    extractors: Sequence[str],
    jobs: int,
    method: Method | None = None,
    preset: str = "",
) -> dict[str, Any]:
    """Bring the heads of `speakers` up to date; return states, seconds, errors and the exit code.

    A method that is named makes the heads of these speakers from now on, and a preset trains all: params.yaml says so.

    Raises:
        UsageError: see `read_plan`; there is no such preset; or a section of params.yaml is not valid.
        ConsentError: there is no valid basis for any speaker for whom there is something to do.
        MissingAssetError: a loss of a stage that has to run needs weights that are not here.
        BusyError: another run of this project is going on.
        MachineError: Prefect's server does not start.
    """
    prepare(places)
    folder = places.root / ".work" / "run"
    with only_one(folder / "lock", "a run"):
        stages, servers = Children(folder / "stages.json"), Children(folder / "server.json")
        left = stages.stop_leftovers() + servers.stop_leftovers()
        if left:
            log.warning("ended %d processes that an earlier run, itself killed, had left behind", left)
        interrupt_on_signals()
        _mend_lock(places)
        try:
            # Before params.yaml is changed for it.
            for what, wanted in (("speaker", speakers), ("extractor", extractors)):
                check_known(what, wanted, names_listed(places.params, f"{what}s"))
            if preset:
                choose_preset(places, preset)
            if method is not None:
                enlist(places, speakers, method)
            plan = read_plan(places.root, speakers, extractors, method)
            # Now, not in the stage that would meet it in an hour.
            todo = {item.stage for item in plan.items if item.changed}
            for error in [*wrong_params(places), *unknown_people(places)]:
                raise error
            for lacking in missing_networks(places, todo):
                raise lacking
            _check_consent(places, plan)
            return _conduct(places, plan, jobs, stages, servers)
        finally:
            stages.stop()
            servers.stop()


def _check_consent(places: Places, plan: Plan) -> None:
    """Refuse now what the speakers' own stages would refuse; where only some are, nobody else has to wait."""
    busy = [name for name, items in plan.of_speakers.items() if any(item.changed for item in items)]
    refused: list[ConsentError] = []
    for name in busy:
        try:
            load_speaker(places, name)
        except ConsentError as error:
            refused.append(error)
    if refused and len(refused) == len(busy):
        raise refused[0]


def _conduct(places: Places, plan: Plan, jobs: int, stages: Children, servers: Children) -> dict[str, Any]:
    todo = sum(item.changed for item in plan.items)
    if not todo and running_prefect(places) is None:
        # Starting a server takes longer than everything else; nobody waits for one that only says "Cached".
        return {"states": {item.name: "cached" for item in plan.items}, "seconds": {}, "errors": [], "exit_code": 0}
    share = max(1, threads() // jobs)
    log.info("%d of %d stages to do", todo, len(plan.items))
    with prefect_for_a_run(places, servers) as url:
        from flows.run import Conductor

        log.info("watch it at %s/runs", url)
        outcome = Conductor(places, plan, jobs, share, stages).run()
    unfinished = set(outcome.states.values()) & {"failed", "skipped"}
    return {
        "states": outcome.states,
        "seconds": {name: round(seconds, 2) for name, seconds in outcome.seconds.items()},
        "errors": [
            {"stage": error.name, "exit_code": error.exit_code, "text": error.words} for error in outcome.errors
        ],
        "exit_code": outcome.exit_code or (1 if unfinished else 0),
    }


def serve(places: Places, tell: Callable[[str], None]) -> None:
    """Run Prefect's and MLflow's servers, `tell` their addresses, and go on until interrupted.

    Raises:
        BusyError: they are running already.
        MachineError: one of them does not start, or has ended.
    """
    prepare(places)
    folder = places.root / ".work" / "run"
    with only_one(folder / "ui_lock", "the user interface"):
        children = Children(folder / "ui.json")
        children.stop_leftovers()
        interrupt_on_signals()
        try:
            with starting():
                servers = [start_prefect(places, children), start_mlflow(places, children)]
                for server in servers:
                    wait_for(server)
            with announced(places, servers):
                for server in servers:
                    tell(f"{server.name:8s}{server.page}")
                tell("Ctrl-C ends both.")
                try:
                    _watch(servers)
                except KeyboardInterrupt as asked:
                    # A run that reports to this Prefect would break off with it.
                    if asked.args != (signal.SIGINT,) or not is_held(folder / "lock"):
                        raise
                    tell("A run is going on; both end with it. Ctrl-C again ends them now, and breaks the run off.")
                    _watch(servers, lambda: is_held(folder / "lock"))
                    raise
            ended = next(server for server in servers if server.process.poll() is not None)
            raise MachineError(f"the {ended.name} server has ended", f"its log is {ended.log}")
        finally:
            children.stop()


def _watch(servers: Sequence[Server], wanted: Callable[[], bool] = lambda: True) -> None:
    """Return when one of the servers has ended, or is wanted no more."""
    while wanted() and all(server.process.poll() is None for server in servers):
        time.sleep(0.5)


def publish(places: Places) -> dict[str, Any]:
    """Run the stage `publish` although DVC finds nothing changed; return what it has written down.

    Raises:
        UsageError: there is nothing to publish yet.
        StageFailedError: the stage failed.
        MachineError: MLflow takes nothing.
    """
    for needed in ("tables", "report"):
        folder = places.root / "data" / needed
        if not folder.is_dir():
            raise UsageError(
                "there is nothing to publish yet", f"{folder} does not exist", "gausstalk run   (or dvc repro)"
            )
    run_one(places, "publish", "--force")
    written = (places.root / "data" / "published" / "published.json").read_text(encoding="utf-8")
    result: dict[str, Any] = json.loads(written)
    if result["state"] != "complete":
        raise MachineError("MLflow takes nothing", result["why"], "gausstalk doctor; then gausstalk publish again")
    return result


def _mend_lock(places: Places) -> None:
    """Remove DVC's note of who reads and writes what if a kill has cut it off: DVC does nothing as long as it is there.

    It forgets by itself who is no longer alive, but only from a whole note.
    """
    note = places.root / ".dvc" / "tmp" / "rwlock"
    for _ in range(2):
        try:
            json.loads(note.read_text(encoding="utf-8"))
            return
        except FileNotFoundError:
            return
        except ValueError:
            time.sleep(WRITING_S)  # somebody may be at it
    log.warning("removed %s, which somebody who was killed had not finished writing", note)
    note.unlink(missing_ok=True)


def run_one(places: Places, stage: str, *options: str) -> None:
    """Bring one stage up to date by itself, with what the others have given so far.

    Raises:
        StageFailedError: the stage failed.
    """
    prepare(places)
    interrupt_on_signals()
    _mend_lock(places)
    children = Children(places.root / ".work" / "run" / f"{stage}.json")
    lines: list[str] = []
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", *options, stage]
    try:
        code = children.run(command, places.root, for_children(threads()), lines.append)
    finally:
        children.stop()
    if code:
        from flows.run import failure

        raise failure(stage, code, lines)
