"""The runner around every stage: params in, records in, record out, published whole or not at all.

A stage file declares `STAGE = Stage(...)` and `run(context) -> Record | None`, and ends with `main(STAGE, run)`.
DVC calls `python -m tasks.<stage> --speaker NAME ...`; a test calls `execute`.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import logging
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from models.errors import BusyError, GausstalkError, UsageError, of_the_machine
from models.records import Record
from models.storage import RECORD_FILE, read_header
from tasks.closure import closure
from tasks.params import AnyParams, Params, resolve_params
from tasks.people import Drive, Speaker, load_drive, load_speaker
from tasks.places import Keys, Places, check_name
from tasks.private import private_folder
from tasks.put_away import refuse_variant

AnyRecord = TypeVar("AnyRecord", bound=Record)
log = logging.getLogger("gausstalk")
INTERRUPTED = 130


class NoParams(Params):
    """For a stage that has nothing to set."""


@dataclass(frozen=True)
class Stage(Generic[AnyParams]):
    """What a stage is: its name, its keys, what it reads and what it gives."""

    name: str
    per: tuple[str, ...]  # of "speaker", "extractor", "drive", "method"
    params: type[AnyParams]
    reads: tuple[str, ...] = ()  # stages whose records it loads
    gives: type[Record] | None = None
    preview: bool = False  # also gives pictures or videos for a person
    metrics: bool = False  # also gives metric rows
    section: str = ""  # of params.yaml, when it is another stage's
    lists: tuple[str, ...] = ()  # of params.yaml that it reads besides: "speakers"
    raw: tuple[str, ...] = ()  # folders below data/raw that it makes
    folder: str = ""  # of the project, for plain files instead of a record: "data/tables"
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # what each sets in its section
    method: str = "talking_gaussian"  # whose curves its training gives


@dataclass
class Context(Generic[AnyParams]):
    """Everything a stage may touch. `output`, `preview` and `metrics` are private folders until the stage is done."""

    stage: Stage[AnyParams]
    keys: Keys
    params: AnyParams
    places: Places
    output: Path
    preview: Path
    metrics: Path
    scratch: Path  # checkpoints; outlives a kill, one folder for each state of inputs, params and code
    threads: int
    preset: str = ""  # which one the params come from, in words
    raw: dict[str, Path] = field(default_factory=dict)  # private folders of what the stage declares as `raw`
    _read: set[str] = field(default_factory=set)

    def read(self, record: type[AnyRecord], stage: str, **other: str) -> AnyRecord:
        """Load what another stage gave for the same keys (`other` overrides some).

        Raises:
            UsageError: the stage does not declare that it reads this one.
            InputError: the record is missing or damaged.
        """
        if stage not in self.stage.reads:
            raise UsageError(f"stage {self.stage.name} reads {stage} without declaring it")
        return record.load(self.places.record(stage, self.keys_of(stage, **other)))

    def keys_of(self, stage: str, **other: str) -> Keys:
        """Return this item's keys cut down to those that `stage` has."""
        keys = {**vars(self.keys), **other}
        return Keys(**{name: keys[name] for name in keys_per_stage(stage)})

    def speaker(self) -> Speaker:
        """Return the record of this item's speaker, its basis checked."""
        return load_speaker(self.places, str(self.keys.speaker))

    def drive(self) -> Drive:
        """Return the record of this item's drive."""
        return load_drive(self.places, str(self.keys.drive))

    def write_metrics(self, name: str, content: dict[str, Any]) -> None:
        """Write one JSON file into the stage's metrics."""
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
        (self.metrics / f"{name}.json").write_text(text + "\n", encoding="utf-8")


SPEAKER_EXTRACTOR_STAGES = {
    *("audio", "tg_motion", "tg_face", "tg_mouth", "tg_fuse", "render", "evaluate"),
    *("gt_motion", "gt_render", "gt_evaluate"),
}
DRIVE_STAGES = {"render_drive", "evaluate_drive", "gt_render_drive", "gt_evaluate_drive"}
METHOD_STAGES = {"predictions", "evaluate_predictions"}
PROJECT_STAGES = {"sync_house"}


def keys_per_stage(stage: str) -> tuple[str, ...]:
    """Return which keys the items of a stage have."""
    if stage == "audio_drive":
        return ("extractor", "drive")
    if stage == "drive_landmarks":
        return ("drive",)
    if stage in DRIVE_STAGES:
        return ("speaker", "extractor", "drive")
    if stage in METHOD_STAGES:
        return ("speaker", "method")
    if stage in PROJECT_STAGES:
        return ()
    return ("speaker", "extractor") if stage in SPEAKER_EXTRACTOR_STAGES else ("speaker",)


def execute(
    stage: Stage[AnyParams],
    run: Callable[[Context[AnyParams]], Record | None],
    keys: Keys,
    places: Places | None = None,
    params: AnyParams | None = None,
) -> Path:
    """Run one item of a stage and publish what it gives; return the folder of the record or of the plain files.

    Nothing is published when the stage fails; what was there before stays.
    """
    places = places or Places.here()
    preset = ""
    if params is None:
        refuse_variant(places)
        params, preset = resolve_params(places.params, stage.section or stage.name, stage.params, stage.presets)
    targets = _targets(stage, keys, places)
    with _private_folders(targets, places) as private:
        scratch = places.scratch(stage.name, keys, _scratch_key(stage, keys, places, params))
        context = Context(
            stage, keys, params, places, private["output"], private["preview"], private["metrics"], scratch, threads(),
            preset,
        )  # fmt: skip
        context.raw.update({name: private[f"raw/{name}"] for name in stage.raw})
        started = time.monotonic()
        record = run(context)
        if (record is None) != (stage.gives is None) or (stage.gives and not isinstance(record, stage.gives)):
            raise UsageError(f"stage {stage.name} gave a {type(record).__name__}, not a {stage.gives}")
        if record is not None:
            record.save(private["output"])
        for name, target in targets.items():
            _publish(private[name], target)
    shutil.rmtree(scratch, ignore_errors=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    item = f"{stage.name} {keys}".strip()
    log.info("%s: done in %.1f s, peak memory %.1f GB", item, time.monotonic() - started, peak)
    return targets.get("output", places.record(stage.name, keys))


def threads() -> int:
    """Return how many threads this process may use ($GAUSSTALK_THREADS or all cores).

    Raises:
        UsageError: $GAUSSTALK_THREADS is no number.
    """
    wanted = os.environ.get("GAUSSTALK_THREADS", "") or "0"
    if not wanted.isdecimal():
        raise UsageError(f"GAUSSTALK_THREADS is {wanted!r}", "it is how many threads may run at once", "unset it")
    return int(wanted) or len(os.sched_getaffinity(0))


def limit_threads() -> None:
    """Tell our own kernels, before Numba is imported, how many threads they may use; keep freed memory.

    They share their work out among the threads and sleep while they wait. The other libraries stay on one thread each
    (`tasks/__init__.py`).
    """
    os.environ.setdefault("NUMBA_NUM_THREADS", str(threads()))
    _keep_memory()


def _keep_memory() -> None:
    """Let glibc keep what is freed instead of returning it: a step of training takes and frees the same megabytes.

    Fresh pages for them cost a tenth of its time. Other C libraries are left as they are.
    """
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    if change:
        change(-1, 128 * 2**20)  # M_TRIM_THRESHOLD
        change(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, the largest allowed


def main(stage: Stage[AnyParams], run: Callable[[Context[AnyParams]], Record | None]) -> None:
    """Entry point of `python -m tasks.<stage>`; exits with the documented code."""
    parser = argparse.ArgumentParser(prog=f"python -m tasks.{stage.name}", description=sys.modules["__main__"].__doc__)
    for key in stage.per:
        parser.add_argument(f"--{key}", required=True)
    parser.add_argument("-v", "--verbose", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    limit_threads()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(INTERRUPTED))
    try:
        keys = Keys(**{key: check_name(getattr(arguments, key), key, there=True) for key in stage.per})
        execute(stage, run, keys)
    except KeyboardInterrupt:
        log.info("%s: interrupted; its checkpoints are kept, run the same command again to go on", stage.name)
        sys.exit(INTERRUPTED)
    except GausstalkError as error:
        if arguments.verbose:
            traceback.print_exc()
        log.error("%s", error)
        sys.exit(error.exit_code)
    except OSError as error:
        failure = of_the_machine(error)
        if failure is None:
            raise
        log.error("%s", failure)
        sys.exit(failure.exit_code)


def _targets(stage: Stage[Any], keys: Keys, places: Places) -> dict[str, Path]:
    targets: dict[str, Path] = {}
    if stage.gives:
        targets["output"] = places.record(stage.name, keys)
    if stage.folder:
        targets["output"] = places.root / stage.folder
    if stage.preview:
        targets["preview"] = places.preview(stage.name, keys)
    if stage.metrics:
        targets["metrics"] = places.metrics(stage.name, keys)
    targets |= {f"raw/{name}": places.root / "data" / "raw" / name for name in stage.raw}
    return targets


@contextmanager
def _private_folders(targets: dict[str, Path], places: Places) -> Iterator[dict[str, Path]]:
    """Give a fresh folder for every kind of output, on the same file system as its target, and clean up."""
    with private_folder(places) as base:
        folders = {name: base / name for name in {"output", "preview", "metrics", *targets}}
        for folder in folders.values():
            folder.mkdir(parents=True)
        yield folders


def _publish(folder: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    old = folder.with_name(f"{folder.name}.old")  # goes with the private folder
    try:
        if target.exists():
            os.replace(target, old)
        os.replace(folder, target)
    except BaseException:
        if old.exists() and not target.exists():
            os.replace(old, target)
        raise


def _scratch_key(stage: Stage[Any], keys: Keys, places: Places, params: Params) -> str:
    digest = hashlib.sha256(params.model_dump_json().encode())
    for read in stage.reads:
        own = Keys(**{name: getattr(keys, name) for name in keys_per_stage(read)})
        path = places.record(read, own) / RECORD_FILE
        digest.update(json.dumps(read_header(path)).encode() if path.is_file() else b"absent")
    code = Path(sys.modules[stage.params.__module__].__file__ or __file__)
    for file in closure(code.resolve(), Path(__file__).resolve().parents[1]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


__all__ = ["BusyError", "Context", "NoParams", "Stage", "execute", "limit_threads", "main", "threads"]
