"""Brings frames of another system into the project, and takes them out again: all of it or nothing."""

from __future__ import annotations

import logging
from pathlib import Path

from models.errors import InputError, UsageError
from models.records import Clip
from models.storage import RECORD_FILE
from tasks.comparable import DRAWN
from tasks.foreign import Foreign, look_at, part_of
from tasks.imports import Input, Listed, Predictions, check_method, item_name, listed_imports, with_imports
from tasks.params import names_listed
from tasks.params_file import changing_params, replace_params
from tasks.people import load_speaker, mark_of
from tasks.places import Keys, Places
from tasks.registry import put_in_place, remove

STAGES = ("predictions", "evaluate_predictions")
log = logging.getLogger("gausstalk")


def import_predictions(
    places: Places,
    method: str,
    speaker: str,
    full: Path,
    wrong_audio: Path | None = None,
    lossy: bool = False,
    note: str = "",
    replace: bool = False,
    drawn: str = "",
) -> list[Path]:
    """Copy rendered frames of another system into the project and put them into the list `imports` of params.yaml.

    Args:
        places: of the project.
        method: what the other system is called here.
        speaker: whose clip it has rendered.
        full: a folder of numbered PNGs, or a video: the test part, or the whole clip, with its own sound.
        wrong_audio: the same frames rendered with the sound of another moment, a control.
        lossy: the frames were compressed before, whatever they lie in now.
        note: which version and weights they are of.
        replace: put them in the place of those of this name.
        drawn: what the other system draws (`tasks.comparable.DRAWN`), the rest being the true frame's; "": not stated.

    Returns:
        The files and folders that were written or changed.

    Raises:
        UsageError: a name cannot be used, or frames of this name are there.
        ConsentError: there is no valid basis for using the speaker's likeness.
        InputError: the frames cannot be read, or do not fit the clip; the message says what mends it.
        MachineError: there is no room for a copy.
    """
    check_method(method)
    if drawn and drawn not in DRAWN:
        raise UsageError(
            f"--drawn {drawn!r} is none of {', '.join(DRAWN)}", "", "leave --drawn out where it is not known"
        )
    person = load_speaker(places, speaker)
    if speaker not in names_listed(places.params, "speakers"):
        raise UsageError(f"params.yaml does not list {speaker!r}", "", f"add {speaker} to speakers in params.yaml")
    record, raw = places.predictions_record(speaker, method), places.raw_predictions(speaker, method)
    if not replace and (record.exists() or raw.exists()):
        raise UsageError(
            f"there are frames of {method!r} for {speaker!r} already",
            f"{(record if record.exists() else raw).relative_to(places.root)} exists",
            "choose another name, or add --replace to put these frames in the place of the old ones",
        )
    folder = places.record("ingest", Keys(speaker))
    if not (folder / RECORD_FILE).is_file():
        why = "what is imported is held against its clip, and no stage has made that yet"
        raise InputError(f"{speaker} has no clip", why, f"dvc repro ingest@{speaker}")
    clip = Clip.load(folder)
    inputs: dict[str, Input] = {}
    files: dict[str, Path] = {}
    for variant, path in {"full": full, **({"wrong_audio": wrong_audio} if wrong_audio else {})}.items():
        found = look_at(path, lossy)
        copies = _copies(variant, found)
        files |= copies
        inputs[variant] = Input(
            file=next(iter(copies)).split("/")[0],
            source=str(path),
            sha256=found.digest(),
            frames=found.count,
            size=(found.width, found.height),
            part=part_of(found, clip, places.raw_speaker(speaker).relative_to(places.root)),
            how=found.how,
            lossless=found.lossless,
        )
        if not found.lossless:
            log.warning("%s is lossy (%s): its numbers are those of the compression, too", path, found.how)
    content = Predictions(name=method, speaker=speaker, basis=person.basis, note=note, drawn=drawn, **inputs)
    listed = Listed(speaker=speaker, method=method)
    with changing_params(places):
        params = with_imports(places.params, {**listed_imports(places), item_name(listed): listed})
        put_in_place(places, params, record, raw, content, files)
    log.info("added %s to params.yaml: imports", item_name(listed))
    if not drawn:
        log.warning(
            "what %s draws is not stated: --drawn mouth, face, head or frame gives compare more verdicts", method
        )
    if mark_of(person.basis):
        log.warning("%s: %s; so are these frames, and their videos are marked so", speaker, mark_of(person.basis))
    return [*(raw / entry.file for entry in inputs.values()), record, places.params]


def _copies(variant: str, found: Foreign) -> dict[str, Path]:
    """Return what is copied, by its name in the project."""
    if not found.files:
        return {f"{variant}{found.path.suffix.lower()}": found.path}
    return {f"{variant}/{number:06d}.png": file for number, file in enumerate(found.files)}


def predictions_of(places: Places, method: str, speaker: str) -> list[Path]:
    """Return the files and folders of imported frames that `remove_predictions` deletes.

    Raises:
        UsageError: nothing is known of them.
    """
    keys = Keys(speaker, method=method)
    found = [places.predictions_record(speaker, method), places.raw_predictions(speaker, method)]
    for stage in STAGES:
        found += [place(stage, keys) for place in (places.record, places.preview, places.metrics)]
    found += sorted((places.root / ".work").glob(f"*/{keys}"))
    found = [path for path in found if path.exists()]
    if not found and item_name(Listed(speaker=speaker, method=method)) not in listed_imports(places):
        known = ", ".join(f"{e.method} for {e.speaker}" for e in listed_imports(places).values())
        raise UsageError(f"no frames of {method!r} for {speaker!r}", f"imported: {known or 'none'}", "check both names")
    return found


def remove_predictions(places: Places, method: str, speaker: str) -> list[Path]:
    """Delete imported frames and all that was computed from them; return what was deleted or changed.

    Raises:
        UsageError: see `predictions_of`.
    """
    found = predictions_of(places, method, speaker)
    changed = unlist(places, [Listed(speaker=speaker, method=method)])
    for path in found:
        remove(path)
    return [*found, *changed]


def unlist(places: Places, gone: list[Listed]) -> list[Path]:
    """Take entries out of `imports` in params.yaml; return params.yaml if that changed it."""
    with changing_params(places):
        listed = listed_imports(places)
        names = {item_name(entry) for entry in gone} & listed.keys()
        if not names:
            return []
        text = with_imports(places.params, {name: entry for name, entry in listed.items() if name not in names})
        replace_params(places.params, text)
    return [places.params]
