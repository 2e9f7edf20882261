"""Removes a speaker or a drive: record, footage, everything computed from it, and its name in params.yaml."""

from __future__ import annotations

import logging
from pathlib import Path

from models.errors import UsageError, did_you_mean
from tasks.importing import unlist
from tasks.imports import listed_imports
from tasks.lists import named_in_sections
from tasks.methods import METHODS
from tasks.params import read_yaml
from tasks.params_file import changing_params, names_written, replace_params, without_name
from tasks.places import GATHERED, Keys, Places, check_name
from tasks.private import remove_left
from tasks.registry import made_by_stage, remove
from tasks.stage import DRIVE_STAGES

OF_THE_PROJECT = ("bench", "log", "mlflow", "prefect", "private", "run", "table")
"""Folders of .work that are not ordered by speakers."""
log = logging.getLogger("gausstalk")


def belongings(places: Places, name: str) -> list[Path]:
    """Return the files and folders of a speaker that `remove_speaker` deletes.

    Raises:
        UsageError: the name is none, nothing is known of it, or its footage is made by a stage of dvc.yaml.
    """
    check_name(name, there=True)
    _refuse_made(places, "speaker", name, places.raw_speaker(name))
    data = places.root / "data"
    found = [places.speaker_record(name), places.raw_speaker(name)]
    found += [data / kind / name for kind in ("work", "preview", "metrics", "predictions", "raw/predictions")]
    found += [places.record(stage, Keys(speaker=name)) for stage in GATHERED]
    # Checkpoints lie in .work/<stage>/<speaker>[-<extractor>[-<drive>]], pages and pictures likewise; names have no
    # hyphen. What serves the project as a whole is nobody's, whatever somebody is called.
    scratch = [path for path in (places.root / ".work").glob("*/*") if path.parent.name not in OF_THE_PROJECT]
    found += sorted(path for path in scratch if path.name.partition("-")[0].partition(".")[0] == name)
    found += _left_by_killed(places.speaker_record(name), places.raw_speaker(name))
    return _known(places, "speaker", name, found)


def drive_belongings(places: Places, name: str) -> list[Path]:
    """Return the files and folders of a drive, and of what heads said with it, that `remove_drive` deletes.

    Raises:
        UsageError: the name is none, nothing is known of it, or its sound is made by a stage of dvc.yaml.
    """
    check_name(name, "drive", there=True)
    _refuse_made(places, "drive", name, places.raw_drive(name))
    data = places.root / "data"
    found = [places.drive_record(name), places.raw_drive(name)]
    for kind in ("work", "preview", "metrics"):
        found.append(data / kind / "drives" / name)
        found += [path for stage in sorted(DRIVE_STAGES) for path in sorted((data / kind).glob(f"*/{stage}/*/{name}"))]
    found += _left_by_killed(places.drive_record(name), places.raw_drive(name))
    return _known(places, "drive", name, found)


def _refuse_made(places: Places, what: str, name: str, raw: Path) -> None:
    if made_by_stage(places, raw):
        why = "its files would be made again by the next run"
        raise UsageError(f"the {what} {name!r} is made by a stage of dvc.yaml", why, f"take {name} out of params.yaml")


def _left_by_killed(*paths: Path) -> list[Path]:
    """Return what an addition that was killed has left beside these places."""
    return [left for path in paths for kind in ("new", "old") for left in path.parent.glob(f".{path.name}.{kind}-*")]


def _known(places: Places, what: str, name: str, found: list[Path]) -> list[Path]:
    """Return those that are there; refuse a name of which nothing is."""
    found = [path for path in found if path.exists()]
    if not found and name not in names_written(places.params, f"{what}s"):
        known = sorted(path.stem for path in (places.root / "data" / f"{what}s").glob("*.yaml"))
        raise UsageError(
            f"no {what} {name!r}", f"known: {', '.join(known) or 'none'}", did_you_mean(name, known, "check the name")
        )
    return found


def remove_speaker(places: Places, name: str) -> list[Path]:
    """Delete all of a speaker; return what was deleted or changed.

    The name, and what was imported for it, leave params.yaml first, so that a run after an interruption asks for
    nothing that is gone.

    Raises:
        UsageError: see `belongings`.
    """
    found = belongings(places, name)
    changed = _take_out(places, sorted({method.listed for method in METHODS.values()}), name)
    imported = [entry for entry in listed_imports(places).values() if entry.speaker == name]
    changed = unlist(places, imported) or changed
    _delete(places, name, found)
    return [*found, *changed]


def remove_drive(places: Places, name: str) -> list[Path]:
    """Delete all of a drive, its name in params.yaml first; return what was deleted or changed.

    Raises:
        UsageError: see `drive_belongings`.
    """
    found = drive_belongings(places, name)
    changed = _take_out(places, ["drives"], name)
    _delete(places, name, found)
    return [*found, *changed]


def _take_out(places: Places, lists: list[str], name: str) -> list[Path]:
    changed: list[Path] = []
    for key in lists:
        with changing_params(places):
            text = without_name(places.params, key, name)
            if text != places.params.read_text(encoding="utf-8"):
                replace_params(places.params, text)
                changed = [places.params]
    return changed


def _delete(places: Places, name: str, found: list[Path]) -> None:
    for path in found:
        remove(path)
    remove_left(places)  # a stage that was killed may have been at what is gone
    for place, listed in named_in_sections(read_yaml(places.params)):
        if listed == name:
            log.warning("params.yaml: take %s out of %s, too: no run begins while it stands there", name, place)
