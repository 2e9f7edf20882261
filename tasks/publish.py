"""Stage `publish`: puts every head's params, numbers, tables, pictures and videos into MLflow, each state once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.assets import candidates, read_assets, sha256_of
from tasks.params import read_yaml
from tasks.places import VARIANTS, Places
from tasks.stage import Context, NoParams, Stage, main
from tasks.tracking import DIGEST, KEY, STATE, brief, hand_in_pending, live_run, open_store

STAGE = Stage(name="publish", per=(), params=NoParams, folder="data/published")
LARGEST_ARTIFACT = 200_000_000
PICTURES = {".jpg", ".png", ".mp4"}
log = logging.getLogger("gausstalk")


@dataclass
class Entry:
    """What one MLflow run is to hold."""

    key: str  # speaker/method/extractor, with /drive behind it for a drive, or "project"
    parent: str = ""  # the key of the run that it belongs to
    rows: list[dict[str, Any]] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    files: list[tuple[str, Path]] = field(default_factory=list)  # folder within the run, file

    def metrics(self) -> dict[str, float]:
        """Return the numbers under names that MLflow can compare: split.region.metric[.variant]."""
        return {name_of(row): float(row["value"]) for row in self.rows if row.get("value") is not None}

    def digest(self) -> str:
        """Return a digest of all that is logged."""
        files = sorted((folder, path.name, sha256_of(path)) for folder, path in self.files)
        text = json.dumps([self.key, self.parent, self.rows, self.params, files], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def name_of(row: dict[str, Any]) -> str:
    """Return the name of a row's number within its run."""
    variant = row.get("variant")
    parts = [row.get("split"), row.get("region"), row.get("metric"), variant if variant != "full" else None]
    name = ".".join(str(part) for part in parts if part)
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in name)


def metric_rows(places: Places) -> Iterator[dict[str, Any]]:
    """Yield the rows of every metrics file of the project, in the order of the files' names.

    Copies that a table of variants keeps are left out: their numbers were published when they were measured.
    """
    base = places.root / "data" / "metrics"
    for path in sorted(path for path in base.rglob("*.json") if VARIANTS not in path.relative_to(base).parts):
        content = json.loads(path.read_text(encoding="utf-8"))
        yield from content.get("rows", []) if isinstance(content, dict) else []


def collect(places: Places) -> list[Entry]:
    """Return what is to be logged, parents before children."""
    params = dict(_flat(read_yaml(places.params)))
    params |= _asset_versions(places)
    entries: dict[str, Entry] = {}
    for row in metric_rows(places):
        parts = [row.get(name) for name in ("speaker", "method", "extractor", "drive")]
        own = "/".join(str(part) for part in parts[:3] if part)
        key = f"{own}/{parts[3]}" if parts[3] else own
        for name, parent in ((own, ""), (key, own if key != own else "")):
            if name not in entries:
                keys = {
                    label: str(part)
                    for label, part in zip(("speaker", "method", "extractor"), parts, strict=False)
                    if part
                }
                drive = {"drive": str(parts[3])} if name != own else {}
                entries[name] = Entry(name, parent, params={**keys, **drive, **({} if drive else params)})
                entries[name].files = list(_pictures(places, row, bool(drive)))
        entries[key].rows.append(row)
    project = Entry("project", params=params)
    for folder in ("tables", "report"):
        base = places.root / "data" / folder
        project.files += [
            (folder, path)
            for path in sorted(base.rglob("*"))
            if path.is_file() and path.stat().st_size < LARGEST_ARTIFACT
        ]
    return [*sorted(entries.values(), key=lambda entry: (entry.key.count("/"), entry.key)), project]


def _flat(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def _asset_versions(places: Places) -> dict[str, str]:
    found = {}
    for name, asset in read_assets(places).items():
        path = next((path for path in candidates(places, asset) if path.is_file()), None)
        found[f"asset.{name}"] = f"sha256:{sha256_of(path)}" if path else "absent"
    return found


def _pictures(places: Places, row: dict[str, Any], driven: bool) -> Iterator[tuple[str, Path]]:
    speaker, extractor = row.get("speaker"), row.get("extractor")
    if not speaker:
        return
    base = places.root / "data" / "preview" / str(speaker)
    if driven:
        folders: Iterable[Path] = base.glob(f"*drive/{extractor}/{row['drive']}")
    elif extractor:
        folders = [path for path in base.glob(f"*/{extractor}") if "drive" not in path.parent.name]
    else:
        folders = [path for path in base.glob("*") if path.is_dir()]
    for folder in sorted(folders):
        stage = folder.relative_to(base).parts[0]
        for path in sorted(folder.iterdir()):
            if path.suffix in PICTURES and path.stat().st_size < LARGEST_ARTIFACT:
                yield f"{'videos' if path.suffix == '.mp4' else 'pictures'}/{stage}", path


def publish(places: Places) -> dict[str, Any]:
    """Log everything that is not logged yet; return what was done. MLflow out of order gives the state "pending"."""
    entries = collect(places)
    try:
        client, experiment = open_store(places)
        # Without it MLflow opens the experiment with its pages for language models.
        client.set_experiment_tag(experiment, "mlflow.experimentKind", "custom_model_development")
        points = hand_in_pending(places, client, experiment)
        runs: dict[str, dict[str, Any]] = {}
        for entry in entries:
            runs[entry.key] = _log(places, client, experiment, entry, runs.get(entry.parent, {}).get("run_id", ""))
        _close_others(client, experiment, set(runs))
    except Exception as error:  # noqa: BLE001 - MLflow only mirrors; whatever is wrong with it stops nothing
        log.warning("MLflow takes nothing (%s); `gausstalk publish` tries again", brief(error))
        return {"state": "pending", "why": brief(error), "runs": []}
    new = sum(run["new"] for run in runs.values())
    log.info("MLflow: %d runs, %d of them new, %d points of curves handed in", len(runs), new, points)
    return {"state": "complete", "why": "", "experiment": experiment, "runs": list(runs.values())}


def _log(places: Places, client: Any, experiment: str, entry: Entry, parent: str) -> dict[str, Any]:
    """Log one entry, unless a run with its digest is there; a run is marked as published only when it is whole."""
    from mlflow.entities import Metric, Param, RunTag

    digest = entry.digest()
    metrics = entry.metrics()
    done = {"key": entry.key, "digest": digest, "metrics": len(metrics), "files": len(entry.files)}
    query = f"tags.`{KEY}` = '{entry.key}' and tags.`{DIGEST}` = '{digest}' and tags.`{STATE}` = 'published'"
    found = client.search_runs([experiment], query, max_results=1)
    if found:
        return {**done, "run_id": found[0].info.run_id, "new": False}
    run = live_run(places, client, experiment, entry.key)
    tags = {DIGEST: digest, "mlflow.note.content": _note(entry)}
    if parent:
        tags["mlflow.parentRunId"] = parent
    known = client.get_run(run).data.params  # of an earlier try; MLflow refuses to change a param
    params = [Param(name, value) for name, value in entry.params.items() if name not in known]
    for start in range(0, max(1, len(params)), 100):
        client.log_batch(run, params=params[start : start + 100])
    client.log_batch(run, [Metric(name, value, 0, 0) for name, value in metrics.items()])
    client.log_batch(run, tags=[RunTag(name, value) for name, value in tags.items()])
    for folder, path in entry.files:
        client.log_artifact(run, str(path), artifact_path=folder)
    if entry.rows and not any(item.path == "tables" for item in client.list_artifacts(run)):
        client.log_table(run, _columns(entry.rows), "tables/metrics.json")
    client.set_tag(run, STATE, "published")
    client.set_terminated(run)
    return {**done, "run_id": run, "new": True}


def _close_others(client: Any, experiment: str, keys: set[str]) -> None:
    """Close runs that hold curves of a step before the head (it has no numbers), so that the next one opens another."""
    for run in client.search_runs([experiment], f"tags.`{STATE}` = 'live'"):
        key = run.data.tags[KEY]
        if key not in keys and any(other.startswith(f"{key}/") for other in keys):
            client.set_tag(run.info.run_id, STATE, "curves")
            client.set_terminated(run.info.run_id)


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def _note(entry: Entry) -> str:
    if entry.key == "project":
        return "The tables and the report of the whole project: see Artifacts."
    lines = [
        f"`{name_of(row)}` {row['value']} {row.get('unit', '')}, better: {row.get('better', '')}" for row in entry.rows
    ]
    return "Pictures, videos and tables: see Artifacts. Report: `data/report`.\n\n" + "\n".join(
        f"* {line}" for line in lines
    )


def run(context: Context[NoParams]) -> None:
    """Publish, and write down what is in MLflow under which run."""
    result = publish(context.places)
    text = json.dumps(result, indent=1, sort_keys=True)
    (context.output / "published.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(STAGE, run)
