"""What a trained head has cost, the curves of its training and the preset that it was trained with: for `measure`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.records import Rendering, Weights
from tasks.scores import Scores

CURVE_POINTS = 200  # of a training curve


def add_costs(
    scores: Scores, rendering: Rendering, weights: Mapping[str, Weights], kept: Sequence[str], gaussians: float
) -> None:
    """Add what the head costs, as far as its stages have told it.

    Args:
        scores: to add to.
        rendering: of the test part.
        weights: what each stage of training has given.
        kept: stages whose weights the trained head consists of.
        gaussians: how many it has.
    """
    why = "its stage does not tell it"
    seconds = sum(float(record.quality.get("seconds", "nan")) for record in weights.values())
    milliseconds = float(rendering.quality.get("milliseconds_a_frame", "nan"))
    memory = [float(record.quality.get("peak_memory_gb", "nan")) for record in weights.values()]
    size = sum(tensor.nbytes for stage in kept for tensor in weights[stage].tensors.values()) / 1e6
    scores.add("render_time", milliseconds, "ms", "lower", why=why)
    scores.add("fps", 1000 / milliseconds if milliseconds else float("nan"), "1/s", "higher", why=why)
    scores.add("model_size", size, "MB", "lower")
    scores.add("peak_memory", float(np.max(memory)), "GB", "lower", why=why)
    scores.add("training_time", seconds, "s", "lower", why=why)
    scores.add("gaussians", gaussians, "count", "", why=why)


def presets_in(weights: Mapping[str, Weights]) -> str:
    """Return the preset that a head was trained with, in words; its phases' where they differ."""
    named = {phase: str(found.quality.get("preset", "")) for phase, found in weights.items()}
    if len(set(named.values())) == 1:
        return next(iter(named.values()))
    return "; ".join(f"{phase} {preset or 'unknown'}" for phase, preset in named.items())


def training_curves(weights: Mapping[str, Weights]) -> list[dict[str, Any]]:
    """Return the curves of every phase, in order, with at most `CURVE_POINTS` points each."""
    phases: list[dict[str, Any]] = []
    for phase, record in weights.items():
        lengths = [len(values) for values in record.curves.values()]
        if not lengths or not min(lengths):
            continue
        kept = np.unique(np.linspace(0, min(lengths) - 1, min(CURVE_POINTS, min(lengths))).round().astype(int))
        curves = {name: [round(float(values[k]), 6) for k in kept] for name, values in record.curves.items()}
        phases.append({"phase": phase, "curves": curves})
    return phases
