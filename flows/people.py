"""Options of the commands that add somebody: whose voice it is, and on what basis."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

CONSENT_HELP = (
    "YAML file with the basis of using this likeness. consent: who, scope, date, expiry, evidence (a file beside it); "
    "research: source, reason; synthetic."
)


class Gender(StrEnum):
    """As the tables group by it."""

    female = "female"
    male = "male"
    unstated = "unstated"


def _gender(text: str) -> Gender:
    name = {"f": "female", "m": "male"}.get(text, text)
    if name not in list(Gender):
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(Gender)}, f, m")
    return Gender(name)


class BasisName(StrEnum):
    """On what basis a voice is used."""

    consent = "consent"
    synthetic = "synthetic"
    research = "research"


Replace = Annotated[bool, typer.Option("--replace", help="Put the files in the place of those of this name.")]
Language = Annotated[str, typer.Option(help="Language that is spoken, as in ISO 639-1: en, de, zh.")]
GenderOption = Annotated[
    Gender,
    typer.Option(
        help="Of the voice, f and m for short; the tables group by it.",
        parser=_gender,
        metavar="female|male|unstated",
    ),
]
