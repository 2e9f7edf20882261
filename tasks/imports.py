"""Which frames of other systems a project holds: the list in params.yaml and the record of each."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from models.errors import UsageError
from tasks.params import Params, read_yaml, validate
from tasks.people import Basis
from tasks.places import Places, check_name

KEY = "imports"  # of params.yaml
OWN_METHODS = ("talking_gaussian", "gaussian_talker")


class Listed(Params):
    """An entry of `imports` in params.yaml."""

    speaker: str
    method: str


class Input(Params):
    """Frames as they were imported."""

    file: str  # in data/raw/predictions/<speaker>/<method>/: a folder of PNGs or a video
    source: str  # where they were copied from
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    frames: int = Field(ge=1)
    size: tuple[int, int]
    part: Literal["test", "clip"]
    how: str  # png, or codec and pixel format
    lossless: bool


class Predictions(Params):
    """data/predictions/<speaker>/<method>.yaml: what another system has made of a speaker."""

    name: str = Field(min_length=1)
    speaker: str
    basis: Basis  # on which the speaker's likeness was used when the frames were imported
    note: str = ""
    drawn: str = Field("", pattern="^(mouth|face|head|frame)?$")  # the rest is the true frame's own; "": not stated
    full: Input  # driven by the test part's own sound
    wrong_audio: Input | None = None  # by the sound of another moment: the control that tells whether it hears

    @property
    def inputs(self) -> dict[str, Input]:
        """What was imported, by variant."""
        return {"full": self.full, **({"wrong_audio": self.wrong_audio} if self.wrong_audio else {})}


def load_predictions(places: Places, speaker: str, method: str) -> Predictions:
    """Read the record of imported frames.

    Raises:
        UsageError: there is none, or it is not valid.
    """
    path = places.predictions_record(speaker, method)
    if not path.is_file():
        raise UsageError(
            f"no frames of {method!r} for {speaker!r}",
            f"{path.relative_to(places.root)} does not exist",
            f"gausstalk import-predictions {method} DIR_OR_VIDEO --speaker {speaker}",
        )
    return validate(Predictions, read_yaml(path), str(path.relative_to(places.root)))


def listed_imports(places: Places) -> dict[str, Listed]:
    """Return what params.yaml lists, by the name of its items in dvc.yaml.

    Raises:
        UsageError: it is no mapping, an entry is not valid, or has another name than its speaker and method give.
    """
    found: dict[str, Listed] = {}
    entries = read_yaml(places.params).get(KEY, {})
    if not isinstance(entries, dict):
        what = "is empty" if entries is None else f"is {entries!r}"
        why = "gausstalk import-predictions writes its entries"
        raise UsageError(f"params.yaml: {KEY} {what}, no mapping", why, f"write {KEY}: {{}}")
    for name, entry in entries.items():
        found[name] = listed = validate(Listed, entry, f"params.yaml: {KEY}.{name}")
        if name != item_name(listed):
            raise UsageError(f"params.yaml: {KEY}: {name!r} is no name for it", "", f"call it {item_name(listed)}")
    return found


def wrong_imports(places: Places) -> list[UsageError]:
    """Return an error for each entry of `imports` that is not valid, of no listed speaker, or without a record."""
    wrong: list[UsageError] = []
    try:
        listed = listed_imports(places)
    except UsageError as error:
        return [error]
    speakers = [str(name) for name in read_yaml(places.params).get("speakers") or []]
    for listing in listed.values():
        try:
            if listing.speaker not in speakers:
                raise UsageError(
                    f"params.yaml: imports: no speaker {listing.speaker!r} in this project",
                    f"speakers lists {', '.join(speakers) or 'none'}",
                    f"gausstalk remove-predictions {listing.method} --speaker {listing.speaker}",
                )
            load_predictions(places, listing.speaker, listing.method)
        except UsageError as error:
            wrong.append(error)
    return wrong


def item_name(listed: Listed) -> str:
    """Return what DVC's items of these frames are called behind the @."""
    return f"{listed.speaker}-{listed.method}"


def check_method(name: str) -> str:
    """Return `name` if another system can be called so.

    Raises:
        UsageError: it cannot, or one of our own methods is.
    """
    if check_name(name, "method") in OWN_METHODS:
        raise UsageError(
            f"{name!r} is a method of this project", "its rows could not be told apart", f"{name}_official"
        )
    return name


def with_imports(params: Path, entries: Mapping[str, Listed]) -> str:
    """Return the text of params.yaml with these `imports`; comments and order stay.

    Raises:
        UsageError: params.yaml has no mapping `imports`.
    """
    from ruamel.yaml import YAML

    text = params.read_text(encoding="utf-8")
    if not isinstance(read_yaml(params).get(KEY), dict):
        raise UsageError(f"{params}: no mapping {KEY!r}", "", f"add '{KEY}: {{}}'")
    line = re.search(rf"^{KEY}:[ \t]*\{{([^#\n]*)\}}", text, re.MULTILINE)
    if line:  # on one line: the editor below would move the comment behind it
        listed = (f"{name}: {{speaker: {e.speaker}, method: {e.method}}}" for name, e in entries.items())
        return text[: line.start(1)] + ", ".join(listed) + text[line.end(1) :]
    editor: Any = YAML()
    editor.preserve_quotes = True
    editor.width = 4096
    data = editor.load(text)
    for name in [name for name in data[KEY] if name not in entries]:
        del data[KEY][name]
    for name, entry in entries.items():
        if name not in data[KEY]:
            data[KEY][name] = entry.model_dump()
    buffer = io.StringIO()
    editor.dump(data, buffer)
    return buffer.getvalue()
