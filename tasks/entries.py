"""What MLflow is to hold: a run for each speaker, in it one for each head, in that one for each drive.

A run is one state of these: it is known by the params and outputs that dvc.lock records of the stages behind it, by its
numbers, and by the bytes of its files. As long as these stay the run stays, whatever else changes in the project.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tasks.assets import candidates, read_assets, sha256_of
from tasks.measured import read_json
from tasks.methods import METHODS, method_of
from tasks.params import read_yaml
from tasks.places import VARIANTS, Keys, Places, keys_of

LARGEST_ARTIFACT = 200_000_000
PICTURES = {".jpg", ".png", ".mp4"}
LISTS = {*("extractors", "drives", "imports"), *(method.listed for method in METHODS.values())}
"""Lists of params.yaml: what there is, not how it is made."""
PARTS = ("speaker", "method", "extractor", "drive")
TOLD = ("language", "gender", "basis", "preset", "device", "judge", "size", "split")
PROJECT = "project"


@dataclass
class Entry:
    """What one MLflow run is to hold."""

    key: str  # speaker, speaker/method[/extractor], the same with /drive behind it, or "project"
    parent: Entry | None = None
    tags: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    bars: list[dict[str, Any]] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    assets: dict[str, str] = field(default_factory=dict)  # logged, but a new one of no use here makes no new state
    lock: dict[str, Any] = field(default_factory=dict)  # params and outputs of the stages behind it, as dvc.lock has it
    files: list[tuple[str, Path]] = field(default_factory=list)  # folder within the run, file

    def metrics(self) -> dict[str, float]:
        """Return the numbers under names that MLflow can compare: split.region.metric[.variant]."""
        return {name_of(row): float(row["value"]) for row in self.rows if row.get("value") is not None}

    @cached_property
    def digest(self) -> str:
        """A digest of the state: a child's changes with its parent's, so that it lies below the right one."""
        files = sorted((folder, path.name, sha256_of(path)) for folder, path in self.files)
        above = self.parent.digest if self.parent else ""
        text = json.dumps([self.key, above, self.rows, self.params, self.lock, files], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def name_of(row: dict[str, Any]) -> str:
    """Return the name of a row's number within its run."""
    variant = row.get("variant")
    parts = [row.get("split"), row.get("region"), row.get("metric"), variant if variant != "full" else None]
    name = ".".join(str(part) for part in parts if part)
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in name)


def metric_files(places: Places) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield every file of the project's metrics that has rows, in the order of their names.

    Copies that a table of variants keeps are left out: their numbers were published when they were measured.
    """
    base = places.root / "data" / "metrics"
    for path in sorted(path for path in base.rglob("*.json") if VARIANTS not in path.relative_to(base).parts):
        content = read_json(path)
        if content.get("rows"):
            yield path, content


def metric_rows(places: Places) -> Iterator[dict[str, Any]]:
    """Yield the rows of every metrics file of the project, see `metric_files`."""
    for _, content in metric_files(places):
        yield from content["rows"]


def collect(places: Places) -> list[Entry]:
    """Return what is to be logged, parents before children."""
    lock, assets = read_lock(places), _asset_versions(places)
    entries: dict[str, Entry] = {}

    def entry_of(parts: dict[str, str]) -> Entry:
        key = "/".join(parts.values())
        if key not in entries:
            above = _above(parts)
            entries[key] = _entry(places, key, parts, entry_of(above) if above else None, lock)
            entries[key].assets = assets
        return entries[key]

    for path, content in metric_files(places):
        row = content["rows"][0]
        entry = entry_of({name: str(row[name]) for name in PARTS if row.get(name)})
        entry.rows += content["rows"]
        entry.bars += content.get("bars", [])
        about = content.get("about", {})
        entry.tags |= {name: str(about[name]) for name in TOLD if about.get(name)}
        if about.get("data"):
            entry.tags["split_sha256"] = about["data"]["split"]
        entry.files += [(f"metrics/{_stage_of(places, path)}", file) for file in sorted(path.parent.glob("*.*"))]
    project = Entry(PROJECT, tags={"level": PROJECT}, params=_plain_params(places), assets=assets)
    for folder in ("tables", "report"):
        base = places.root / "data" / folder
        found = (path for path in sorted(base.rglob("*")) if path.is_file())
        project.files += [(folder, path) for path in found if path.stat().st_size < LARGEST_ARTIFACT]
    return [*sorted(entries.values(), key=lambda entry: (entry.key.count("/"), entry.key)), project]


def _above(parts: dict[str, str]) -> dict[str, str]:
    """Return the parts of the run that one belongs to: a drive's of its head, a head's of its speaker."""
    if "drive" in parts:
        return {name: part for name, part in parts.items() if name != "drive"}
    return {"speaker": parts["speaker"]} if len(parts) > 1 else {}


def _entry(places: Places, key: str, parts: dict[str, str], parent: Entry | None, lock: list[Locked]) -> Entry:
    imported = "method" in parts and "extractor" not in parts
    keys = Keys(parts.get("speaker"), parts.get("extractor"), parts.get("drive"), parts["method"] if imported else None)
    method = METHODS.get(parts.get("method", ""))
    own = {item.name: item.state for item in lock if item.belongs_to(keys) and method_of(item.stage) in (None, method)}
    params: dict[str, str] = {}
    for state in own.values():
        params |= dict(_flat(state["params"]))
    level = "drive" if "drive" in parts else "head" if "method" in parts else "speaker"
    entry = Entry(key, parent, {"level": level, **parts}, lock=own)
    entry.params = {**parts, **({} if level == "drive" else params or _plain_params(places))}
    record = places.speaker_record(parts["speaker"])
    if level == "speaker" and record.is_file():
        told = read_yaml(record)
        entry.tags |= {name: str(told[name]) for name in ("language", "gender", "basis", "head_model") if name in told}
    entry.files = list(_pictures(places, parts, level))
    return entry


@dataclass(frozen=True)
class Locked:
    """What dvc.lock records of one item of a stage."""

    name: str
    keys: Keys
    state: dict[str, Any]  # params and outs

    @property
    def stage(self) -> str:
        """Which stage it is of."""
        return self.name.partition("@")[0]

    def belongs_to(self, keys: Keys) -> bool:
        """Return whether the item is one of those that what has these keys was made by."""
        own = {name: value for name, value in vars(self.keys).items() if value is not None}
        return bool(own) and all(getattr(keys, name) == value for name, value in own.items())


def read_lock(places: Places) -> list[Locked]:
    """Return the items of dvc.lock; none without one."""
    path = places.root / "dvc.lock"
    if not path.is_file():
        return []
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=loader) or {}  # noqa: S506 - a safe loader
    items = []
    for name, entry in (content.get("stages") or {}).items():
        outs = {out["path"]: out.get("md5", "") for out in entry.get("outs", [])}
        state = {"params": (entry.get("params") or {}).get("params.yaml", {}), "outs": outs}
        items.append(Locked(name, keys_of(str(entry["cmd"])), state))
    return items


def _flat(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def _plain_params(places: Places) -> dict[str, str]:
    return dict(_flat({name: value for name, value in read_yaml(places.params).items() if name not in LISTS}))


def _asset_versions(places: Places) -> dict[str, str]:
    found = {}
    for name, asset in read_assets(places).items():
        path = next((path for path in candidates(places, asset) if path.is_file()), None)
        found[f"asset.{name}"] = f"sha256:{sha256_of(path)}" if path else "absent"
    return found


def _stage_of(places: Places, path: Path) -> str:
    return path.relative_to(places.root / "data" / "metrics").parts[1]


def _pictures(places: Places, parts: dict[str, str], level: str) -> Iterator[tuple[str, Path]]:
    base = places.root / "data" / "preview" / parts["speaker"]
    if level == "drive":
        folders: Iterable[Path] = base.glob(f"*drive/{parts['extractor']}/{parts['drive']}")
    elif level == "speaker":
        folders = [path for path in base.glob("*") if path.is_dir()]
    elif "extractor" in parts:
        folders = [path for path in base.glob(f"*/{parts['extractor']}") if _is_of_a_head(path)]
        folders += [path for path in base.glob("*") if method_of(path.name)]  # those that hear nothing
    else:
        folders = base.glob(f"*predictions/{parts['method']}")
    for folder in sorted(folders):
        stage = folder.relative_to(base).parts[0]
        if method_of(stage) not in (None, METHODS.get(parts.get("method", ""))):
            continue
        for path in sorted(folder.iterdir()):
            if path.suffix in PICTURES and path.stat().st_size < LARGEST_ARTIFACT:
                yield f"{'videos' if path.suffix == '.mp4' else 'pictures'}/{stage}", path


def _is_of_a_head(folder: Path) -> bool:
    return not folder.parent.name.endswith(("drive", "predictions"))
