"""Adds speakers and drives to the project: all of it or nothing, and never without a basis for using the likeness."""

from __future__ import annotations

import datetime
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from models.errors import ConsentError, InputError, MachineError, UsageError, did_you_mean
from tasks.assets import sha256_of
from tasks.methods import Method
from tasks.params import Params, names_listed, read_yaml, validate
from tasks.params_file import changing_params, replace_params, with_name
from tasks.people import DRIVE_SECONDS, Basis, Consent, Drive, Research, Speaker, check_basis
from tasks.places import Places, check_name

Gender = Literal["female", "male", "unstated"]
SHORTEST_S = 0.2  # of a drive
log = logging.getLogger("gausstalk")


class ConsentFile(Params):
    """What `gausstalk add-speaker --consent FILE` reads."""

    basis: Basis
    who: str = ""  # consent: whose likeness it is
    scope: str = ""  # consent: what has been agreed to
    date: datetime.date | None = None
    expiry: datetime.date | None = None
    evidence: str = ""  # consent: the signed document, beside this file; only its sha256 is kept
    source: str = ""  # research: where the material was published
    reason: str = ""  # research: why a private evaluation needs it
    note: str = Field(default="", max_length=2000)


def read_consent(path: Path) -> tuple[Basis, Consent | None, Research | None, str]:
    """Read a consent file; return the basis, its record and a note.

    Raises:
        UsageError: it is no such file, or has unknown keys.
        ConsentError: something that the basis needs is missing, or the consent is not valid today.
    """
    data = validate(ConsentFile, read_yaml(path), str(path))
    needed = {
        "consent": ("who", "scope", "date", "expiry", "evidence"),
        "research": ("source", "reason"),
        "synthetic": (),
    }[data.basis]
    missing = [name for name in needed if not getattr(data, name)]
    if missing:
        raise ConsentError(
            f"{path}: {', '.join(missing)} missing",
            f"the basis '{data.basis}' needs {', '.join(needed)}",
            "add them; nobody's likeness is used without a basis",
        )
    if data.basis == "research":
        return data.basis, None, Research(source=data.source, reason=data.reason), data.note
    if data.basis == "synthetic":
        return data.basis, None, None, data.note
    evidence = path.parent / data.evidence
    if not evidence.is_file():
        raise ConsentError(
            f"{evidence}: no such file", "the consent names it as its evidence", "put the signed document there"
        )
    consent = validate(
        Consent,
        {
            "who": data.who,
            "scope": data.scope,
            "date": data.date,
            "expiry": data.expiry,
            "evidence_sha256": sha256_of(evidence),
        },
        str(path),
    )
    return data.basis, consent, None, data.note


def add_speaker(
    places: Places,
    name: str,
    videos: Sequence[Path],
    consent_file: Path,
    language: str = "en",
    gender: Gender = "unstated",
    replace: bool = False,
    head_model: str = "ict",
) -> list[Path]:
    """Copy `videos` into the project, write data/speakers/<name>.yaml, add the name to params.yaml.

    Returns:
        The files that were written or changed.

    Raises:
        UsageError: the name cannot be used or is taken, or the consent file is not valid.
        ConsentError: there is no valid basis.
        InputError: a video cannot be used.
        MachineError: there is no room for a copy.
    """
    from tasks.media import probe

    check_name(name)
    _check_free(places, "speaker", name, places.speaker_record(name), places.raw_speaker(name), replace)
    basis, consent, research, note = read_consent(consent_file)
    seen: dict[str, Path] = {}
    for video in videos:
        info = probe(video)
        if not info.has_sound:
            raise InputError(f"{video}: no sound", "a head learns its lips from the voice", "use a video with sound")
        first = seen.setdefault(sha256_of(video), video)
        if first is not video:
            why = f"it is {first} once more; a head would be tested on pictures that it was trained on"
            raise InputError(f"{video}: given twice", why, "name every recording once")
    files = {f"{number:02d}{video.suffix.lower()}": video for number, video in enumerate(videos, 1)}
    record = validate(
        Speaker,
        {
            "name": name,
            "basis": basis,
            "language": language,
            "gender": gender,
            "sources": list(files),
            "head_model": head_model,
            "consent": consent,
            "research": research,
            "note": note,
        },
        f"speaker {name}",
    )
    check_basis(record)
    with changing_params(places):
        listed = with_name(places.params, "speakers", name)
        written = put_in_place(places, listed, places.speaker_record(name), places.raw_speaker(name), record, files)
    log.info("added %s to params.yaml: speakers", name)
    return written


def add_drive(
    places: Places,
    name: str,
    sound: Path,
    language: str,
    basis: Basis,
    gender: Gender = "unstated",
    note: str = "",
    replace: bool = False,
    kind: Literal["speech", "singing"] = "speech",
) -> list[Path]:
    """Copy a recording into the project, write data/drives/<name>.yaml, add the name to params.yaml.

    Returns:
        The files that were written or changed.

    Raises:
        UsageError: the name cannot be used or is taken.
        InputError: the sound cannot be used.
        MachineError: there is no room for a copy.
    """
    from tasks.media import SAMPLE_RATE, read_sound, warn_if_cut_off

    check_name(name, "drive")
    _check_free(places, "drive", name, places.drive_record(name), places.raw_drive(name), replace)
    samples = read_sound(sound, max_seconds=DRIVE_SECONDS)
    heard = len(samples) / SAMPLE_RATE
    if heard < SHORTEST_S:
        raise InputError(
            f"{sound}: {heard:.2f} s of sound", "nothing can be said in that time", "use a longer recording"
        )
    warn_if_cut_off(sound, heard)
    if not samples.any():
        log.warning("%s: silent from beginning to end; lips will rest", sound)
    file = f"speech{sound.suffix.lower()}"
    content = {
        "name": name,
        "basis": basis,
        "language": language,
        "gender": gender,
        "kind": kind,
        "source": file,
        "note": note,
    }
    record = validate(Drive, content, f"drive {name}")
    with changing_params(places):
        listed = with_name(places.params, "drives", name)
        written = put_in_place(places, listed, places.drive_record(name), places.raw_drive(name), record, {file: sound})
    log.info("added %s to params.yaml: drives", name)
    return written


def enlist(places: Places, speakers: Sequence[str], method: Method) -> list[str]:
    """Put speakers (none given: all) into the list of params.yaml that says whose heads a method makes.

    Returns:
        Those that were not in it.

    Raises:
        UsageError: one of them is no speaker of the project.
    """
    added = _not_enlisted(places, speakers, method)
    for name in added:
        with changing_params(places):
            replace_params(places.params, with_name(places.params, method.listed, name))
        log.info("added %s to params.yaml: %s", name, method.listed)
    return added


def check_enlisted(places: Places, speakers: Sequence[str], method: Method) -> None:
    """Refuse speakers (none given: all) whose heads a method is not to make.

    Raises:
        UsageError: one of them is not in its list.
    """
    missing = _not_enlisted(places, speakers, method)
    if missing:
        names = " ".join(missing)
        raise UsageError(
            f"{method.title} is not to make heads of {names}",
            f"params.yaml: {method.listed} does not list {names}; a run without --dry-run does that",
            f"gausstalk run {names} --method {method.name.replace('_', '')}",
        )


def _not_enlisted(places: Places, speakers: Sequence[str], method: Method) -> list[str]:
    known = names_listed(places.params, "speakers")
    for name in speakers:
        if name not in known:
            raise UsageError(
                f"no speaker {name!r} in this project",
                f"params.yaml: speakers lists {', '.join(known) or 'none'}",
                did_you_mean(name, known, f"gausstalk add-speaker {name} VIDEO --consent FILE; or correct the name"),
            )
    enlisted = names_listed(places.params, method.listed)
    return [name for name in speakers or known if name not in enlisted]


def _check_free(places: Places, what: str, name: str, record: Path, raw: Path, replace: bool) -> None:
    if made_by_stage(places, raw):
        why = "its files would be overwritten again"
        raise UsageError(f"the {what} {name!r} is made by a stage of dvc.yaml", why, "choose another name")
    if not replace and (record.exists() or raw.exists()):
        raise UsageError(
            f"the {what} {name!r} is there already",
            f"{record.relative_to(places.root) if record.exists() else raw.relative_to(places.root)} exists",
            "choose another name, or add --replace to put these files in the place of the old ones",
        )


def made_by_stage(places: Places, raw: Path) -> bool:
    """Return whether a stage of dvc.yaml gives this folder of footage."""
    graph = places.root / "dvc.yaml"
    made = f"- {raw.relative_to(places.root).as_posix()}"
    return graph.is_file() and any(line.strip() == made for line in graph.read_text(encoding="utf-8").splitlines())


def put_in_place(
    places: Places, params: str, record: Path, raw: Path, content: Params, files: dict[str, Path]
) -> list[Path]:
    """Write a folder of copies, a record and the text of params.yaml; whatever fails, all three are as they were.

    Returns:
        The files that were written or changed.

    Raises:
        MachineError: there is no room for the copies.
    """
    needed = sum(path.stat().st_size for path in files.values())
    free = shutil.disk_usage(places.root).free
    if needed > free:
        raise MachineError(
            f"{needed / 1e6:.1f} MB do not fit on the disk", f"{free / 1e6:.1f} MB are free", "free some space"
        )
    text = yaml.safe_dump(
        content.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True, width=110
    )
    with ExitStack() as undo:
        undo.enter_context(_in_place(raw, lambda draft: _copy(files, draft)))
        undo.enter_context(_in_place(record, lambda draft: _write(draft, text)))
        replace_params(places.params, params)  # last: nothing has to put it back, so it is there all the time
    return [*(raw / file for file in files), record, places.params]


@contextmanager
def _in_place(target: Path, make: Callable[[Path], None]) -> Iterator[None]:
    """Make `target` anew beside it and put it there; if what follows in the context fails, put the old one back."""
    draft, old = (target.with_name(f".{target.name}.{kind}-{os.getpid()}") for kind in ("new", "old"))
    draft.parent.mkdir(parents=True, exist_ok=True)
    placed = False
    try:
        make(draft)
        if target.exists():
            os.replace(target, old)
        os.replace(draft, target)
        placed = True
        yield
    except BaseException:
        remove(target if placed else draft)
        if old.exists():
            os.replace(old, target)
        raise
    remove(old)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _copy(files: dict[str, Path], folder: Path) -> None:
    folder.mkdir()
    for name, source in files.items():
        # A copy that shares nothing with the original: editing one must never change the other.
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
