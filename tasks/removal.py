"""Removes a speaker: record, footage, everything computed from it, and its name in params.yaml."""

from __future__ import annotations

import logging
from pathlib import Path

from models.errors import UsageError
from tasks.importing import unlist
from tasks.imports import listed_imports
from tasks.lists import named_in_sections
from tasks.methods import METHODS
from tasks.params import read_yaml
from tasks.params_file import changing_params, names_written, replace_params, without_name
from tasks.places import GATHERED, Keys, Places, check_name
from tasks.private import remove_left
from tasks.registry import made_by_stage, remove

OF_THE_PROJECT = ("bench", "log", "mlflow", "prefect", "private", "run", "table")
"""Folders of .work that are not ordered by speakers."""
log = logging.getLogger("gausstalk")


def belongings(places: Places, name: str) -> list[Path]:
    """Return the files and folders of a speaker that `remove_speaker` deletes.

    Raises:
        UsageError: the name is none, nothing is known of it, or its footage is made by a stage of dvc.yaml.
    """
    check_name(name, there=True)
    if made_by_stage(places, places.raw_speaker(name)):
        why = "its files would be made again by the next run"
        raise UsageError(f"the speaker {name!r} is made by a stage of dvc.yaml", why, f"take {name} out of params.yaml")
    data = places.root / "data"
    found = [places.speaker_record(name), places.raw_speaker(name)]
    found += [data / kind / name for kind in ("work", "preview", "metrics", "predictions", "raw/predictions")]
    found += [places.record(stage, Keys(speaker=name)) for stage in GATHERED]
    # Checkpoints lie in .work/<stage>/<speaker>[-<extractor>[-<drive>]], pages and pictures likewise; names have no
    # hyphen. What serves the project as a whole is nobody's, whatever somebody is called.
    scratch = [path for path in (places.root / ".work").glob("*/*") if path.parent.name not in OF_THE_PROJECT]
    found += sorted(path for path in scratch if path.name.partition("-")[0].partition(".")[0] == name)
    # What an addition that was killed has left.
    for path in (places.speaker_record(name), places.raw_speaker(name)):
        found += [left for kind in ("new", "old") for left in path.parent.glob(f".{path.name}.{kind}-*")]
    found = [path for path in found if path.exists()]
    if not found and name not in names_written(places.params, "speakers"):
        known = sorted(path.stem for path in (data / "speakers").glob("*.yaml"))
        raise UsageError(f"no speaker {name!r}", f"known: {', '.join(known) or 'none'}", "check the name")
    return found


def remove_speaker(places: Places, name: str) -> list[Path]:
    """Delete all of a speaker; return what was deleted or changed.

    The name, and what was imported for it, leave params.yaml first, so that a run after an interruption asks for
    nothing that is gone.

    Raises:
        UsageError: see `belongings`.
    """
    found = belongings(places, name)
    changed: list[Path] = []
    for key in sorted({method.listed for method in METHODS.values()}):
        with changing_params(places):
            text = without_name(places.params, key, name)
            if text != places.params.read_text(encoding="utf-8"):
                replace_params(places.params, text)
                changed = [places.params]
    imported = [entry for entry in listed_imports(places).values() if entry.speaker == name]
    changed = unlist(places, imported) or changed
    for path in found:
        remove(path)
    remove_left(places)  # a stage that was killed may have been at this speaker's
    for place, listed in named_in_sections(read_yaml(places.params)):
        if listed == name:
            log.warning("params.yaml: take %s out of %s, too: no run begins while it stands there", name, place)
    return [*found, *changed]
