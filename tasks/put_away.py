"""The project's params.yaml while a table of variants is filled: put away, as a variant's lies in its place."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from models.errors import UsageError
from tasks.locks import is_held, only_one
from tasks.places import Places

log = logging.getLogger("gausstalk")


def table_lock(places: Places) -> Path:
    """Return the lock of whoever fills a table."""
    return places.root / ".work" / "table" / "lock"


def put_away(places: Places) -> Path:
    """Return where the project's params.yaml lies while a variant's is in its place; no file at other times."""
    return places.root / ".work" / "table" / "params.yaml"


def put_back(places: Places) -> None:
    """Put the params back that a table, itself killed, had put away.

    Raises:
        BusyError: the table is still being filled, and params.yaml is a variant's.
    """
    if put_away(places).is_file():
        with only_one(table_lock(places), "a table"), contextlib.suppress(FileNotFoundError):  # it may just have ended
            os.replace(put_away(places), places.params)
            log.warning("params.yaml was a variant's: a table was killed while it was being filled; put back")


def refuse_variant(places: Places) -> None:
    """Keep a stage from making a head of the project by the params of a variant whose table is filled no more.

    Raises:
        UsageError: params.yaml is such a variant's.
    """
    if put_away(places).is_file() and not is_held(table_lock(places)):
        raise UsageError(
            f"{places.params} is a variant's",
            "a table was killed while it was being filled",
            f"mv {put_away(places).relative_to(places.root)} params.yaml, then start again",
        )
