"""What a stage of training will do, step by step, by the params in force: the phase as rows of a table."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import asdict, is_dataclass
from typing import Any

from models.errors import UsageError
from models.schedule import describe
from tasks.params import resolve_params
from tasks.places import Places

TRAINED = ("pose_refine", "tg_motion", "tg_face", "tg_mouth", "tg_fuse", "gt_motion", "gt_renderer", "gt_inpaint")
HEADS = ("what", "steps", "how much")
LEGEND = {
    "rates": "rates of learning",
    "density": "where Gaussians are added, removed and cleared of green",
    "windows": "which frames are drawn, from 0, those with the least of it, to 1, the most",
}


def explain(places: Places, stage: str) -> dict[str, Any]:
    """Return the preset, the rows (what is on from which step to which) and the constant values of a stage's phase.

    Raises:
        UsageError: the stage has no phase, or the params are not valid.
    """
    if stage not in TRAINED:
        near = difflib.get_close_matches(stage, TRAINED, n=1)
        fix = f"gausstalk run --explain {near[0] if near else TRAINED[0]}"
        raise UsageError(f"{stage!r} does not train", f"those that do are {', '.join(TRAINED)}", fix)
    declared = importlib.import_module(f"tasks.{stage}").STAGE
    params, preset = resolve_params(places.params, stage, declared.params, declared.presets)
    rows, constants = describe(params.phase)
    others = {name: value for name, value in params if name != "phase"}
    return {
        "stage": stage,
        "preset": preset,
        "steps": params.phase.steps,
        "rows": [row._asdict() for row in rows],
        "phase": asdict(params.phase),
        "constants": {name: _plain(value) for name, value in {**others, **constants}.items() if name != "steps"},
    }


def table(explained: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the rows as a person reads them, in the order of what they are about."""
    return [(row["name"], f"{row['first']}-{row['last']}", row["says"]) for row in explained["rows"]]


def headline(explained: dict[str, Any]) -> str:
    """Return what the table is of, and what holds throughout, in two lines."""
    constants = ", ".join(f"{name} {_words(value)}" for name, value in explained["constants"].items())
    return f"{explained['stage']}: {explained['steps']} steps, preset {explained['preset']}\n{constants}"


def legend(explained: dict[str, Any]) -> str:
    """Return what the rows are whose names do not say it, in a line; "" where there are none."""
    groups = {row["name"].partition(":")[0] for row in explained["rows"]}
    return "; ".join(f"{name}: {words}" for name, words in LEGEND.items() if name in groups)


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple) and value and not isinstance(value[0], str):
        return (" to " if len(value) == 2 else ", ").join(map(_words, value))
    return (", ".join(map(str, value)) or "none") if isinstance(value, list | tuple) else str(value)


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
