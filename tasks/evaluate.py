"""Measure a trained head on the test frames against the truth and against controls that do not hear the sound."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.records import Rendering, Weights
from tasks.measuring import READS, EvaluateParams, measure
from tasks.scores import Scores, device_of
from tasks.stage import Context, Stage, main

PHASES = ("tg_motion", "tg_face", "tg_mouth", "tg_fuse")
STAGE = Stage(
    name="evaluate",
    per=("speaker", "extractor"),
    params=EvaluateParams,
    reads=(*READS, *PHASES, "render"),
    preview=True,
    metrics=True,
)
CURVE_POINTS = 200  # of a training curve


def run(context: Context[EvaluateParams]) -> None:
    """Write metrics.json, per_frame.parquet, windows.safetensors, curves.json and pictures of the worst frames."""
    rendering = context.read(Rendering, "render")
    weights = {phase: context.read(Weights, phase) for phase in PHASES}
    measure(
        context,
        rendering,
        str(context.keys.extractor),
        lambda scores: add_system_rows(scores, rendering, weights),
        {"preset": presets_in(weights), "device": device_of(rendering)},
        training_curves(weights),
    )


def presets_in(weights: dict[str, Weights]) -> str:
    """Return the preset that a head was trained with, in words; its phases' where they differ."""
    named = {phase: str(found.quality.get("preset", "")) for phase, found in weights.items()}
    if len(set(named.values())) == 1:
        return named[PHASES[0]]
    return "; ".join(f"{phase} {preset or 'unknown'}" for phase, preset in named.items())


def add_system_rows(scores: Scores, rendering: Rendering, weights: dict[str, Weights]) -> None:
    """Add what the head costs, as far as its stages have told it."""
    why = "its stage does not tell it"
    seconds = sum(float(record.quality.get("seconds", "nan")) for record in weights.values())
    fuse = weights["tg_fuse"].quality
    gaussians = sum(float(fuse.get(f"{branch}_gaussians", "nan")) for branch in ("face", "mouth"))
    milliseconds = float(rendering.quality.get("milliseconds_a_frame", "nan"))
    memory = [float(record.quality.get("peak_memory_gb", "nan")) for record in weights.values()]
    size = sum(tensor.nbytes for tensor in weights["tg_fuse"].tensors.values()) / 1e6
    scores.add("render_time", milliseconds, "ms", "lower", why=why)
    scores.add("fps", 1000 / milliseconds if milliseconds else float("nan"), "1/s", "higher", why=why)
    scores.add("model_size", size, "MB", "lower")
    scores.add("peak_memory", float(np.max(memory)), "GB", "lower", why=why)
    scores.add("training_time", seconds, "s", "lower", why=why)
    scores.add("gaussians", gaussians, "count", "", why=why)


def training_curves(weights: dict[str, Weights]) -> list[dict[str, Any]]:
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


if __name__ == "__main__":
    main(STAGE, run)
