"""MLflow as a mirror: training curves go there while they arise. Nothing ever waits for it, and nothing fails by it.

One MLflow run stands for one trained head, found by its tag `gausstalk.key` (speaker/method/extractor). Curves go to
the run in the state "live", which the stage `publish` completes; a later training opens a new one, so that both can be
compared.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tasks.places import Keys, Places

EXPERIMENT = "gausstalk"
KEY, STATE, DIGEST = "gausstalk.key", "gausstalk.state", "gausstalk.digest"
FLUSH_EVERY_S = 5.0
LEAVE_WITHIN_S = 0.9
BATCH = 1000  # MLflow takes no more at once
log = logging.getLogger("gausstalk")

Point = tuple[int, int, str, float]  # milliseconds since 1970, step, name, value


def store_file(places: Places) -> Path:
    """Return MLflow's database."""
    return places.root / ".work" / "mlflow" / "mlflow.db"


def store_address(places: Places) -> str:
    """Return the address of MLflow's database."""
    return f"sqlite:///{store_file(places)}"


def artifact_folder(places: Places) -> Path:
    """Return the folder of MLflow's files."""
    return places.root / ".work" / "mlflow" / "artifacts"


@contextmanager
def alone(places: Places, what: str = "lock") -> Iterator[None]:
    """Keep others out: creating the database, or a run, twice at once would break or double it."""
    folder = places.root / ".work" / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / what).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def open_store(places: Places) -> tuple[Any, str]:
    """Return an MLflow client and the id of the project's experiment, both created when they are not there.

    Raises:
        Exception: whatever MLflow raises when it is missing, damaged or locked.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    with alone(places):
        if not store_file(places).exists():
            _create_store(places)
        client = MlflowClient(tracking_uri=store_address(places))
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            _follow(places, found)
            return client, found.experiment_id
        return client, client.create_experiment(EXPERIMENT, artifact_location=artifact_folder(places).as_uri())


def _follow(places: Places, experiment: Any) -> None:
    """Let MLflow find and write files where the project is now: it keeps whole paths, and projects are moved."""
    old, new = experiment.artifact_location, artifact_folder(places).as_uri()
    if old == new:
        return
    with closing(sqlite3.connect(store_file(places))) as database, database:
        database.execute(
            "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
            "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
            (new, len(old) + 1, experiment.experiment_id, len(old), old),
        )
        database.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (new, experiment.experiment_id)
        )


def _create_store(places: Places) -> None:
    """Make the database beside its place and put it there whole: MLflow never mends one that was cut short."""
    from mlflow.tracking import MlflowClient

    target = store_file(places)
    draft = target.with_name("mlflow.db.new")
    for left in target.parent.glob(f"{draft.name}*"):
        left.unlink()
    client = MlflowClient(tracking_uri=f"sqlite:///{draft}")
    client.create_experiment(EXPERIMENT, artifact_location=artifact_folder(places).as_uri())
    os.replace(draft, target)


def brief(error: BaseException) -> str:
    """Return the kind and the first line of an error; those of databases go on for a page."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def key_of(keys: Keys, method: str) -> str:
    """Return what identifies a head: speaker/method/extractor."""
    return "/".join(part for part in (keys.speaker, method, keys.extractor) if part)


def live_run(places: Places, client: Any, experiment: str, key: str) -> str:
    """Return the id of the key's run in the state "live"; open one when there is none."""
    with alone(places):
        found = client.search_runs([experiment], f"tags.`{KEY}` = '{key}' and tags.`{STATE}` = 'live'", max_results=1)
        if found:
            return found[0].info.run_id
        parts = dict(zip(("speaker", "method", "extractor"), key.split("/"), strict=False))
        tags = {KEY: key, STATE: "live", **{f"gausstalk.{name}": value for name, value in parts.items()}}
        return client.create_run(experiment, run_name=key.replace("/", " "), tags=tags).info.run_id


def log_points(client: Any, run: str, points: list[Point]) -> None:
    """Write points of curves into a run; writing one twice leaves it once."""
    from mlflow.entities import Metric

    for start in range(0, len(points), BATCH):
        part = points[start : start + BATCH]
        client.log_batch(run, [Metric(name, value, stamp, step) for stamp, step, name, value in part])


def pending_folder(places: Places) -> Path:
    """Return the folder of curves that MLflow has not taken yet; the stage `publish` hands them in."""
    return places.root / ".work" / "mlflow_pending"


class Curves:
    """Collects points and hands them to MLflow from a thread of its own."""

    def __init__(self, places: Places, key: str, phase: str) -> None:
        self._places, self._key, self._phase = places, key, phase
        self._points: list[Point] = []
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._warned = False
        self._thread = threading.Thread(target=self._work, name="curves", daemon=True)
        self._thread.start()

    def log(self, step: int, **values: float) -> None:
        """Add one point to every named curve; what is no finite number is left out."""
        stamp = int(time.time() * 1000)
        try:
            points = [(stamp, int(step), f"{self._phase}/{name}", float(value)) for name, value in values.items()]
        except (TypeError, ValueError) as error:
            self._warn(error)
            return
        with self._lock:
            self._points += [point for point in points if math.isfinite(point[3])]

    def close(self) -> None:
        """Hand in the rest; what MLflow does not take at once is kept for the stage `publish`."""
        self._end.set()
        self._thread.join(LEAVE_WITHIN_S)
        with self._lock:
            left, self._points = self._points, []
        if left:
            try:
                folder = pending_folder(self._places)
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"{self._key.replace('/', '-')}-{os.getpid()}-{time.time_ns()}.json"
                draft = path.with_suffix(".new")
                draft.write_text(json.dumps({"key": self._key, "points": left}), encoding="utf-8")
                os.replace(draft, path)
            except OSError as error:
                self._warn(error)

    def _work(self) -> None:
        try:
            client, experiment = open_store(self._places)
            run = live_run(self._places, client, experiment, self._key)
            while not self._end.wait(FLUSH_EVERY_S):
                self._flush(client, run)
            self._flush(client, run)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with MLflow, training goes on
            self._warn(error)

    def _flush(self, client: Any, run: str) -> None:
        with self._lock:
            batch = list(self._points)
        log_points(client, run, batch)
        with self._lock:
            del self._points[: len(batch)]

    def _warn(self, error: BaseException) -> None:
        if not self._warned:
            self._warned = True
            log.warning("no live curves in MLflow (%s); training goes on", brief(error))


@contextmanager
def live_curves(keys: Keys, method: str, phase: str, places: Places | None = None) -> Iterator[Curves]:
    """Give an object whose `log(step, loss=...)` adds to the curves `<phase>/<name>` of this head's MLflow run.

    It never raises and never holds up its caller: MLflow missing, damaged or locked is one warning in the log, and the
    curves wait in .work/ until the stage `publish` hands them in.

    Args:
        keys: whose head it is.
        method: for example talking_gaussian.
        phase: for example tg_face.
        places: the project, by default the one that the process stands in.
    """
    curves = Curves(places or Places.here(), key_of(keys, method), phase)
    try:
        yield curves
    finally:
        curves.close()


def hand_in_pending(places: Places, client: Any, experiment: str) -> int:
    """Write the curves that MLflow had not taken into their runs; return how many points there were."""
    count = 0
    for path in sorted(pending_folder(places).glob("*.json")):
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        points: list[Point] = [(int(a), int(b), str(c), float(d)) for a, b, c, d in content["points"]]
        log_points(client, live_run(places, client, experiment, content["key"]), points)
        path.unlink()
        count += len(points)
    return count
