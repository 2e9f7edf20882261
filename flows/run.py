"""`gausstalk run`: DVC's graph as Prefect flows, as parallel as the graph allows.

One flow run for the whole, in it one flow run a speaker, in that one task run a stage. What is out of date was decided
by DVC (flows/graph.py); what has to be done is done by DVC, one stage at a time: `dvc repro --single-item`.
This module only decides when. Prefect watches, shows and retries.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.events.worker import EventsWorker
from prefect.futures import PrefectFuture
from prefect.logging.handlers import APILogWorker
from prefect.states import Cancelled, Completed, Failed, State
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

from flows.environment import for_children
from flows.graph import Item, Plan
from flows.processes import Children
from models.errors import GausstalkError
from tasks.places import Places
from tasks.words import counted

RETRY_AFTER_S = 2.0
TAIL_LINES = 40
EXIT_CODE = re.compile(r"exited with (-?\d+)")
BUSY = ("it is being blocked by", "Unable to acquire lock")
# What DVC says to somebody who works with it by hand.
CHATTER = (
    "To track the changes with git",
    "git add",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push`",
)
NOTHING_TO_DO = ("didn't change, skipping", "is cached - skipping run")
KILLED = {137, 139, 134}  # as a shell reports the signals 9, 11 and 6


class StageFailedError(GausstalkError):
    """A stage failed; carries the stage's own words and the class of its exit code."""

    def __init__(self, name: str, exit_code: int, words: str, passing: bool) -> None:
        super().__init__(f"stage {name} failed")
        self.name, self.exit_code, self.words, self.passing = name, exit_code, words, passing

    def __reduce__(self) -> tuple[type, tuple[str, int, str, bool]]:  # type: ignore[override]
        return type(self), (self.name, self.exit_code, self.words, self.passing)

    def __str__(self) -> str:
        return f"{self.name} failed:\n{self.words}"


@dataclass
class Outcome:
    """What became of a run: how each item ended, how long it took, and the errors of those that failed."""

    states: dict[str, str] = field(default_factory=dict)  # "done", "cached", "failed" or "skipped"
    seconds: dict[str, float] = field(default_factory=dict)
    errors: list[StageFailedError] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0, or the class of the first failure."""
        return self.errors[0].exit_code if self.errors else 0


def failure(name: str, code: int, lines: Sequence[str]) -> StageFailedError:
    """Read from what DVC and the stage have printed why a stage failed, and whether that can pass by itself."""
    text = "\n".join(lines)
    found = EXIT_CODE.findall(text)
    stage_code = int(found[-1]) if found else None
    busy = stage_code is None and any(mark in text for mark in BUSY)
    killed = code < 0 or (stage_code is not None and (stage_code < 0 or stage_code in KILLED))
    words = _words(name, lines)
    exit_code = 6 if busy else stage_code if stage_code in (2, 3, 4, 5, 6, 130) else 1
    return StageFailedError(name, exit_code, words, passing=busy or killed or stage_code == 6)


def _words(name: str, lines: Sequence[str]) -> str:
    """Return the error as the stage has put it; of a traceback, what was raised and where."""
    starts = [position for position, line in enumerate(lines) if line.startswith("error: ")]
    if starts:
        return "\n".join(line for line in lines[starts[-1] :] if re.match(r"(error|why|fix): |\s", line))
    raised = [line for line in lines if re.match(r"[A-Za-z_.]+(Error|Exception|Interrupt|Exit)\b", line)]
    places = [line.strip() for line in lines if line.startswith('  File "')]
    if raised and places:
        return str(GausstalkError(raised[-1], places[-1], f"see all of it: dvc repro --single-item {name}"))
    return "\n".join([line for line in lines if line.strip()][-12:])


def priorities(plan: Plan) -> dict[str, int]:
    """Return for every item how many others wait for it, directly or not: the more, the sooner it should start."""
    followers: dict[str, set[str]] = {item.name: set() for item in plan.items}
    for item in reversed(plan.items):
        for need in item.needs:
            followers[need] |= {item.name} | followers[item.name]
    return {name: len(names) for name, names in followers.items()}


class Conductor:
    """Starts every item of a plan as soon as what it needs is there and one of `jobs` slots is free."""

    def __init__(self, places: Places, plan: Plan, jobs: int, threads: int, children: Children) -> None:
        self.places, self.plan, self.jobs, self.children = places, plan, jobs, children
        self.outcome = Outcome()
        self._environment = for_children(threads)
        self._priority = priorities(plan)
        self._free = jobs
        self._futures: dict[str, PrefectFuture[Any]] = {}
        self._good: dict[str, bool] = {}  # finished items, and whether what they give is there
        self._changed = threading.Condition()
        self._task = task(retries=1, retry_delay_seconds=RETRY_AFTER_S, cache_policy=NO_CACHE, persist_result=False)(
            self._stage
        )

    def run(self) -> Outcome:
        """Run the plan as a Prefect flow; on an interrupt stop every child, then raise it again."""
        speakers = list(self.plan.of_speakers)
        runner: Any = ThreadPoolTaskRunner(max_workers=max(4, len(self.plan.items)))
        self._speaker_flow = flow(name="speaker", flow_run_name="{speaker}", task_runner=runner, persist_result=False)(
            self._one_speaker
        )
        title = "run " + " ".join(speakers)
        whole = flow(name="run", flow_run_name=title, task_runner=runner, persist_result=False)(self._whole)
        try:
            whole(speakers=speakers, jobs=self.jobs, return_state=True)
        except BaseException:
            self._stop()
            raise
        finally:
            # Prefect writes logs and events from threads of its own; the server may end right after this.
            APILogWorker.drain_all(timeout=5)
            EventsWorker.drain_all(timeout=5)
        return self.outcome

    def _stop(self) -> None:
        self.children.stop()
        with self._changed:
            self._changed.notify_all()

    def _whole(self, speakers: list[str], jobs: int) -> State[Any]:
        """Make the chosen speakers' heads, `jobs` stages at a time."""
        with ThreadPoolExecutor(max_workers=max(1, len(speakers)), thread_name_prefix="speaker") as pool:
            try:
                runs = [self._in_thread(pool, self._speaker_flow, speaker) for speaker in speakers]
                self._dispatch(self.plan.shared, in_spite=True)
                for speaker_run in runs:
                    speaker_run.result()
            except BaseException:
                self._stop()
                raise
        complete = [name for name, items in self.plan.of_speakers.items() if all(self._good[i.name] for i in items)]
        if 0 < len(complete) < len(speakers):
            missing = ", ".join(name for name in speakers if name not in complete)
            get_run_logger().warning("the tables and the report hold what was there before for: %s", missing)
        self._dispatch(self.plan.closing, in_spite=bool(complete))
        return self._state_of(self.plan.items)

    def _in_thread(self, pool: ThreadPoolExecutor, call: Callable[..., Any], speaker: str) -> Future[Any]:
        # The copied context is what tells Prefect that this flow run belongs to the one that is going on.
        return pool.submit(contextvars.copy_context().run, call, speaker=speaker, return_state=True)

    def _one_speaker(self, speaker: str) -> State[Any]:
        """Make one speaker's head."""
        items = self.plan.of_speakers[speaker]
        try:
            self._dispatch(items)
        except InterruptedError as stopped:
            return Cancelled(message=str(stopped))
        return self._state_of(items)

    def _state_of(self, items: Sequence[Item]) -> State[Any]:
        names = {item.name for item in items}
        errors = [error for error in self.outcome.errors if error.name in names]
        if errors:
            return Failed(message="\n\n".join(str(error) for error in errors))
        if not all(self._good.get(name) for name in names):
            return Failed(message="not everything could be done because a stage of another flow run failed")
        if all(self.outcome.states[name] == "cached" for name in names):
            return Completed(name="Cached", message="everything was up to date")
        return Completed(message=f"{counted(len(names), 'stage')} brought up to date")

    def _dispatch(self, items: Sequence[Item], in_spite: bool = False) -> None:
        """Submit `items` as they become possible, and wait until all have ended.

        An item whose needs have failed is submitted too, so that Prefect shows it as not ready. With `in_spite` only
        failures among `items` count, unless nothing that an item needs is there: what gathers something of all speakers
        does without those that failed.
        """
        counted = {item.name for item in items} if in_spite else set(self._priority)
        waiting = sorted(items, key=lambda item: -self._priority[item.name])
        while waiting:
            with self._changed:
                item = self._next(waiting)
                while item is None:
                    self._changed.wait(1.0)
                    if self.children.stopping:
                        raise InterruptedError("the run is being stopped")
                    item = self._next(waiting)
                self._free -= 1
            waiting.remove(item)
            nothing = not any(self._good[need] for need in item.needs)
            self._submit(item, [self._futures[need] for need in item.needs if need in counted or nothing])
        for item in items:
            self._futures[item.name].wait()
        with self._changed:
            while not all(item.name in self._good for item in items):
                self._changed.wait(1.0)

    def _next(self, waiting: Sequence[Item]) -> Item | None:
        if self._free <= 0:
            return None
        return next((item for item in waiting if all(need in self._good for need in item.needs)), None)

    def _submit(self, item: Item, needs: list[PrefectFuture[Any]]) -> None:
        one: Any = self._task.with_options(
            name=item.stage,
            task_run_name=item.name,
            retry_condition_fn=lambda *_: self._can_retry(item.name),
        )
        future = one.submit(item.name, item.changed, wait_for=needs)
        self._futures[item.name] = future
        future.add_done_callback(lambda done: self._ended(item, done))

    def _ended(self, item: Item, future: PrefectFuture[Any]) -> None:
        with contextlib.suppress(Exception):  # a crashed task run has no state to wait for; it counts as failed
            future.wait()
        state = future.state
        with self._changed:
            self._free += 1
            self._good[item.name] = state.is_completed()
            if state.is_completed():
                self.outcome.states[item.name] = "cached" if state.name == "Cached" else "done"
            else:
                self.outcome.states[item.name] = "failed" if item.name in self.outcome.seconds else "skipped"
            self._changed.notify_all()

    def _stage(self, name: str, changed: bool) -> State[Any] | None:
        """Bring one stage of dvc.yaml up to date."""
        if not changed:
            return Completed(name="Cached", message="DVC has nothing to do")
        started = time.monotonic()
        logger = get_run_logger()
        lines: list[str] = []

        def keep(line: str) -> None:
            if line.strip() and not line.strip().startswith(CHATTER):
                logger.info("%s", line)
                lines.append(line)
                del lines[:-TAIL_LINES]

        command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", name]
        try:
            code = self.children.run(command, self.places.root, self._environment, keep)
        except InterruptedError as stopped:
            return Cancelled(message=str(stopped))
        if code and self.children.stopping:
            return Cancelled(message="the run is being stopped")
        seconds = time.monotonic() - started
        with self._changed:
            self.outcome.seconds[name] = self.outcome.seconds.get(name, 0.0) + seconds
            self.outcome.errors = [error for error in self.outcome.errors if error.name != name]
            if code:
                self.outcome.errors.append(failure(name, code, lines))
                raise self.outcome.errors[-1]
        if any(mark in line for line in lines for mark in NOTHING_TO_DO):
            return Completed(name="Cached", message="DVC found the same inputs in its cache")
        return None

    def _can_retry(self, name: str) -> bool:
        """Return whether doing it again can help: a lock or a signal passes, a bad input does not."""
        passing = any(error.name == name and error.passing for error in self.outcome.errors)
        return passing and not self.children.stopping


def _say_skipped(record: logging.LogRecord) -> bool:
    """Put plainly what Prefect reports as an error with a number, once for every stage behind one that failed."""
    if str(record.msg).startswith("Finished in state NotReady"):
        record.msg, record.args = "skipped: a stage that it needs has failed", ()
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True


def _go_on_unread(self: Console) -> None:
    """Say nothing more where nobody reads; rich would end whichever thread writes, and with it what waits for that."""
    self.quiet = True


Console.on_broken_pipe = _go_on_unread
logging.getLogger("prefect.task_runner").setLevel(logging.WARNING)
logging.getLogger("prefect.task_runs").addFilter(_say_skipped)
