"""Fills a table of variants: one run of the graph for each, with its params in the place of the project's.

DVC keeps what every variant gave, so that going back, or filling the table again, computes nothing twice.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import yaml

from flows import start
from tasks.locks import only_one
from tasks.methods import TALKING_GAUSSIAN
from tasks.params import merged, read_yaml
from tasks.params_file import changing_params
from tasks.places import Places
from tasks.put_away import put_away, table_lock
from tasks.trained import usual_extractor
from tasks.variants import PAPERS_EXTRACTORS, keep, variants_of

log = logging.getLogger("gausstalk")


def fill(places: Places, table: int, speaker: str, extractors: Sequence[str], jobs: int) -> dict[str, Any]:
    """Run every variant of a table on a speaker, then go back to the params of the project.

    A variant that fails leaves its row out; the others go on.

    Returns:
        As `flows.start.run`, with the states of the last run, and the errors and the worst exit code of all.

    Raises:
        UsageError: there is no such table, or see `flows.start.run`.
        BusyError: another table, or another run of this project, is going on.
    """
    variants = variants_of(table, extractors or ([usual_extractor(places)] if table == 5 else PAPERS_EXTRACTORS))
    errors, codes = [], [0]
    with only_one(table_lock(places), "a table"):
        for position, variant in enumerate(variants, 1):
            log.info("table %d, %d of %d: %s", table, position, len(variants), variant.name)
            with _params(places, merged(read_yaml(places.params), variant.changes)):
                outcome = start.run(places, [speaker], [variant.extractor], jobs, TALKING_GAUSSIAN)
            errors += outcome["errors"]
            codes.append(outcome["exit_code"])
            if not outcome["exit_code"]:
                keep(places, table, position, variant, speaker)
        outcome = start.run(places, [speaker], (), jobs, TALKING_GAUSSIAN)
    return {**outcome, "errors": errors + outcome["errors"], "exit_code": max(*codes, outcome["exit_code"])}


@contextmanager
def _params(places: Places, content: dict[str, Any]) -> Iterator[None]:
    """Let params.yaml have this content, then its own again; nobody can change it in between."""
    saved, draft = put_away(places), places.params.with_name(".params.yaml.new")
    with changing_params(places):
        draft.write_text(f"# Of a variant; what was here lies in {saved.relative_to(places.root)}.\n{_dump(content)}")
        whole = saved.with_name("params.yaml.new")
        whole.write_bytes(places.params.read_bytes())
        os.replace(whole, saved)
        os.replace(draft, places.params)
    try:
        yield
    finally:
        os.replace(saved, places.params)


def _dump(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
