"""Records of speakers and drives: whose likeness and voice this is, and on what basis it may be used."""

from __future__ import annotations

import datetime
import locale
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from models.errors import ConsentError, UsageError, did_you_mean
from tasks.params import Params, names_listed, read_yaml, validate
from tasks.places import Places

Basis = Literal["consent", "synthetic", "research"]
MARKS: dict[Basis, str] = {"consent": "", "synthetic": "", "research": "research - private evaluation only"}


_SHORT_NAMES = {"flame": "flame2023_open", "bfm": "bfm2009", "procedural": "synthetic"}


def _full_name(value: Any) -> Any:
    return _SHORT_NAMES.get(value, value) if isinstance(value, str) else value


HeadModelName = Annotated[
    Literal["ict", "flame2020", "flame2023", "flame2023_open", "bfm2009", "synthetic"], BeforeValidator(_full_name)
]
"""The head model that is fitted to a speaker.

    ict              ICT-FaceKit Light (MIT): named expressions; the default
    flame2020        FLAME, a release of the Max Planck Society for non-commercial research: a jaw joint
    flame2023        the same, the release of 2023
    flame2023_open   the same under CC-BY-4.0; `flame` is short for it
    bfm2009          the Basel Face Model with Guo's expressions, for non-commercial research; `bfm` is short for it
    synthetic        the demo's own head, for speakers made by the stage `demo`
"""


LANGUAGES = frozenset(
    """
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el
    en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu
    ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na
    nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so
    sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
    """.split()
)
"""The codes of ISO 639-1."""


def _language(value: Any) -> Any:
    if value is False:
        return "no"  # what YAML makes of Norwegian's code
    if not isinstance(value, str) or value in LANGUAGES or not value:
        return value
    plain = value.strip().lower()
    names = sorted((name, code) for name, code in locale.locale_alias.items() if len(name) > 3 and "_" not in name)
    known = [plain] if plain[2:3] in ("", "-", "_") else []  # EN, en-GB
    known += [code for name, code in names if plain and name.startswith(plain)]  # english
    near = next((code[:2] for code in known if code[:2] in LANGUAGES), "")
    fix = f"did you mean {near!r}?" if near else "look it up in ISO 639-1; '' leaves it unsaid"
    raise PydanticCustomError("language", "no code of ISO 639-1, as are en, de, zh", {"fix": fix})


Language = Annotated[str, BeforeValidator(_language)]
"""A code of ISO 639-1: the matrix and the tables compare languages by it. Empty: not said."""


class Consent(Params):
    """Who agreed to what, and until when."""

    who: str = Field(min_length=1)
    scope: str = Field(min_length=1)
    date: datetime.date
    expiry: datetime.date
    evidence_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Research(Params):
    """Where published material comes from, and why a private evaluation may use it."""

    source: str = Field(min_length=1)
    reason: str = Field(min_length=1)


class Speaker(Params):
    """data/speakers/<id>.yaml."""

    name: str = Field(min_length=1)
    basis: Basis
    language: Language = "en"
    gender: Literal["female", "male", "unstated"] = "unstated"
    sources: list[str] = Field(min_length=1)  # files in data/raw/speakers/<id>/, in order
    landmarks: Literal["mediapipe", "truth"] = "mediapipe"
    head_model: HeadModelName = "ict"
    consent: Consent | None = None
    research: Research | None = None
    note: str = ""


DRIVE_SECONDS = 1800.0  # the longest recording that heads are made to say


class Drive(Params):
    """data/drives/<id>.yaml: a recording that a head is made to say."""

    name: str = Field(min_length=1)
    basis: Basis
    language: Language
    gender: Literal["female", "male", "unstated"] = "unstated"
    kind: Literal["speech", "singing"] = "speech"
    source: str  # the file in data/raw/drives/<id>/
    landmarks: Literal["mediapipe", "truth"] = "mediapipe"  # of who says it, where the file has a picture
    note: str = ""


def check_basis(speaker: Speaker, today: datetime.date | None = None, known_as: str = "") -> None:
    """Refuse a speaker whose likeness may not be used.

    Args:
        speaker: the record.
        today: None: today.
        known_as: in the project; empty: by the name of the record.

    Raises:
        ConsentError: the basis is consent and its record is missing, not yet valid or expired; or it is research, and
            nobody says where the material comes from.
    """
    if speaker.basis == "research" and speaker.research is None:
        raise ConsentError(
            f"{speaker.name}: nobody says where the material comes from",
            "the basis is 'research': published material, for a private evaluation only",
            "add `research: {source: WHERE IT IS FROM, reason: WHY IT MAY BE USED}` to the speaker's record",
        )
    if speaker.basis != "consent":
        return
    today = today or datetime.date.today()
    add = f"gausstalk add-speaker {known_as or speaker.name} VIDEO --consent FILE --replace"
    fix = f"{add}, with a consent that is valid today"
    if speaker.consent is None:
        raise ConsentError(
            f"{speaker.name}: no consent record", "the basis is 'consent' but nobody's consent is recorded", fix
        )
    if speaker.consent.expiry < today:
        raise ConsentError(
            f"{speaker.name}: the consent expired on {speaker.consent.expiry}",
            "no head is trained or driven without a valid basis",
            fix,
        )
    if speaker.consent.date > today:
        raise ConsentError(
            f"{speaker.name}: the consent begins on {speaker.consent.date}", "that is in the future", fix
        )


def load_speaker(places: Places, speaker: str) -> Speaker:
    """Read a speaker's record and check its basis.

    Raises:
        UsageError: there is no such record, or it is not valid.
        ConsentError: see `check_basis`.
    """
    path = places.speaker_record(speaker)
    record = validate(Speaker, _read(places, path, "speaker", speaker), str(path.relative_to(places.root)))
    check_basis(record, known_as=speaker)
    return record


def load_teachers(places: Places, names: Iterable[str], taught: str) -> tuple[Speaker, ...]:
    """Read the records of all who taught the head of a speaker besides the speaker: their marks are on it, too.

    Raises:
        UsageError, ConsentError: as `load_speaker` says.
    """
    return tuple(load_speaker(places, name) for name in names if name != taught)


def why_not_shown(places: Places, speaker: str) -> ConsentError | None:
    """Return why nothing of a speaker's likeness may be shown any more, None where it may or nobody is recorded."""
    if not places.speaker_record(speaker).is_file():
        return None
    try:
        load_speaker(places, speaker)
    except ConsentError as error:
        return error
    return None


def load_drive(places: Places, drive: str) -> Drive:
    """Read a drive's record.

    Raises:
        UsageError: there is no such record, or it is not valid.
    """
    path = places.drive_record(drive)
    return validate(Drive, _read(places, path, "drive", drive), str(path.relative_to(places.root)))


def unknown_people(places: Places) -> list[UsageError]:
    """Return an error for each speaker and drive of params.yaml that has no record, or none that is valid."""
    wrong: list[UsageError] = []
    for key, load in (("speakers", load_speaker), ("drives", load_drive)):
        for name in names_listed(places.params, key):
            try:
                load(places, name)
            except UsageError as error:
                wrong.append(error)
            except ConsentError:
                continue  # the speaker's own stages refuse it; nobody else has to wait
    return wrong


def mark_of(*bases: Basis) -> str:
    """Return the note that everything made from these people carries visibly, empty if none is needed."""
    return next((MARKS[basis] for basis in bases if MARKS[basis]), "")


def _read(places: Places, path: Path, what: str, name: str) -> dict[str, object]:
    if not path.is_file():
        known = sorted(other.stem for other in path.parent.glob("*.yaml"))
        rest = "VIDEO --consent FILE" if what == "speaker" else "AUDIO --language CODE --basis BASIS"
        listed = places.params.is_file() and name in names_listed(places.params, f"{what}s")
        add = f"gausstalk add-{what} {name} {rest}; or "
        fix = add + f"take {name} out of params.yaml" if listed else did_you_mean(name, known, f"{add}correct the name")
        raise UsageError(f"no {what} {name!r}", f"known: {', '.join(known) or 'none'}", fix)
    return read_yaml(path)
