"""Stage `publish`: puts params, numbers, tables, pictures and videos into MLflow, each state of a result once."""

from __future__ import annotations

import json
import logging
from typing import Any

from tasks.entries import PROJECT, Entry, collect, name_of
from tasks.people import why_not_shown
from tasks.places import Places
from tasks.stage import Context, NoParams, Stage, main
from tasks.tabular import number
from tasks.tracking import DIGEST, KEY, STATE, alone, brief, hand_in_pending, live_run, open_store

STAGE = Stage(name="publish", per=(), params=NoParams, folder="data/published")
MOST = 100  # params that MLflow takes at once
log = logging.getLogger("gausstalk")


def publish(places: Places) -> dict[str, Any]:
    """Log everything that is not logged yet; return what was done. MLflow out of order gives the state "pending"."""
    entries = collect(places)
    try:
        with alone(places, "publishing"):  # of two at once the second finds everything done
            client, experiment = open_store(places)
            # Without it MLflow opens the experiment with its pages for language models.
            client.set_experiment_tag(experiment, "mlflow.experimentKind", "custom_model_development")
            points = hand_in_pending(places, client, experiment)
            runs: dict[str, dict[str, Any]] = {}
            for entry in entries:
                if _refused(places, entry):
                    continue
                parent = runs[entry.parent.key]["run_id"] if entry.parent else ""
                runs[entry.key] = _log(places, client, experiment, entry, parent)
            _close_others(client, experiment, set(runs))
    except Exception as error:  # noqa: BLE001 - MLflow only mirrors; whatever is wrong with it stops nothing
        log.warning("MLflow takes nothing (%s); `gausstalk publish` tries again", brief(error))
        return {"state": "pending", "why": brief(error), "runs": []}
    new = sum(run["new"] for run in runs.values())
    log.info("MLflow: %d runs, %d of them new, %d points of curves handed in", len(runs), new, points)
    return {"state": "complete", "why": "", "experiment": experiment, "runs": list(runs.values())}


def _refused(places: Places, entry: Entry) -> bool:
    """Return whether there is no valid basis for showing whose run it would be, and say so."""
    why = why_not_shown(places, entry.key.split("/")[0])
    if why:
        log.warning("MLflow gets nothing of %s: %s", entry.key, why.what)
    return why is not None


def _log(places: Places, client: Any, experiment: str, entry: Entry, parent: str) -> dict[str, Any]:
    """Log one entry, unless a run with its digest is there; a run is marked as published only when it is whole."""
    from mlflow.entities import Metric, Param, RunTag

    digest = entry.digest
    metrics = entry.metrics()
    done = {"key": entry.key, "digest": digest, "metrics": len(metrics), "files": len(entry.files)}
    query = f"tags.`{KEY}` = '{entry.key}' and tags.`{DIGEST}` = '{digest}' and tags.`{STATE}` = 'published'"
    found = client.search_runs([experiment], query, max_results=1)
    if found:
        return {**done, "run_id": found[0].info.run_id, "new": False}
    run = _begun(places, client, experiment, entry)
    params = entry.params | entry.assets
    known = client.get_run(run).data.params  # of an earlier try
    tags = {"mlflow.note.content": _note(entry)}
    tags |= {f"gausstalk.{name}": value for name, value in entry.tags.items()}
    if parent:
        tags["mlflow.parentRunId"] = parent
    missing = [Param(name, value) for name, value in params.items() if name not in known]
    for start in range(0, len(missing), MOST):
        client.log_batch(run, params=missing[start : start + MOST])
    client.log_batch(run, [Metric(name, value, 0, 0) for name, value in metrics.items()])
    client.log_batch(run, tags=[RunTag(name, value) for name, value in tags.items()])
    for folder, path in entry.files:
        client.log_artifact(run, str(path), artifact_path=folder)
    written = {item.path for item in client.list_artifacts(run, "tables")}
    for name, rows in (("tables/metrics.json", entry.rows), ("tables/bars.json", entry.bars)):
        if rows and name not in written:  # logging it again would double its rows
            client.log_table(run, _columns(rows), name)
    client.set_tag(run, STATE, "published")
    client.set_terminated(run)
    return {**done, "run_id": run, "new": True}


def _begun(places: Places, client: Any, experiment: str, entry: Entry) -> str:
    """Return the run that takes a result: one that a publish, cut short, has begun with it, or the one with its curves.

    From here on no curves go there: a later training opens a run of its own.
    """
    query = f"tags.`{KEY}` = '{entry.key}' and tags.`{STATE}` = 'begun'"
    for run in client.search_runs([experiment], query):
        if run.data.tags[DIGEST] == entry.digest:
            return run.info.run_id
        _keep_curves(client, run.info.run_id)  # another result has come; MLflow refuses to change a param
    run_id = live_run(places, client, experiment, entry.key)
    client.set_tag(run_id, DIGEST, entry.digest)
    client.set_tag(run_id, STATE, "begun")
    return run_id


def _close_others(client: Any, experiment: str, keys: set[str]) -> None:
    """Close runs that hold curves of a step before the head (it has no numbers), so that the next one opens another."""
    for run in client.search_runs([experiment], f"tags.`{STATE}` = 'live'"):
        key = run.data.tags[KEY]
        if key not in keys and any(other.startswith(f"{key}/") for other in keys):
            _keep_curves(client, run.info.run_id)


def _keep_curves(client: Any, run: str) -> None:
    """Close a run that no result will complete; its name says that it is none."""
    client.set_tag(run, "mlflow.runName", f"{client.get_run(run).info.run_name} (curves only)")
    client.set_tag(run, STATE, "curves")
    client.set_terminated(run)


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def _note(entry: Entry) -> str:
    if entry.key == PROJECT:
        return "The tables and the report of the whole project: see Artifacts."
    lines = [
        f"`{name_of(row)}` {_told(row.get('value'), row.get('unit', ''), row.get('better', ''))}"
        for row in entry.rows
        if row.get("variant", "full") == "full"
    ]
    return "Pictures, videos and tables: see Artifacts. Report: `data/report`.\n\n" + "\n".join(
        f"* {line}" for line in lines
    )


def _told(value: float | None, unit: str, better: str) -> str:
    """Return a number with its unit and direction, where it has them."""
    text = number(value, unit)
    text = f"{value:.2g}" if value and float(text) == 0 else text  # too small for the digits of its unit
    text += "" if value is None or unit in ("", "1", "count") else f" {unit}"
    return f"{text}, better: {'nearer to 1' if better == '1' else better}" if better else text


def run(context: Context[NoParams]) -> None:
    """Publish, and write down what is in MLflow under which run."""
    result = publish(context.places)
    text = json.dumps(result, indent=1, sort_keys=True)
    (context.output / "published.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(STAGE, run)
