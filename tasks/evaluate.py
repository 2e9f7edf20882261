"""Measure a trained head on the test frames against the truth and against controls that do not hear the sound."""

from __future__ import annotations

from models.records import Rendering, Weights
from tasks.costs import add_costs, presets_in, training_curves
from tasks.measuring import READS, EvaluateParams, measure
from tasks.scores import device_of
from tasks.stage import Context, Stage, main

PHASES = ("tg_motion", "tg_face", "tg_mouth", "tg_fuse")
DRAWN = "head"  # see tasks.comparable
STAGE = Stage(
    name="evaluate",
    per=("speaker", "extractor"),
    params=EvaluateParams,
    reads=(*READS, *PHASES, "render"),
    preview=True,
    metrics=True,
)


def run(context: Context[EvaluateParams]) -> None:
    """Write metrics.json, per_frame.parquet, windows.safetensors, curves.json and pictures of the worst frames."""
    rendering = context.read(Rendering, "render")
    weights = {phase: context.read(Weights, phase) for phase in PHASES}
    fuse = weights["tg_fuse"].quality
    gaussians = sum(float(fuse.get(f"{branch}_gaussians", "nan")) for branch in ("face", "mouth"))
    measure(
        context,
        rendering,
        str(context.keys.extractor),
        lambda scores: add_costs(scores, rendering, weights, ("tg_fuse",), gaussians),
        {"preset": presets_in(weights), "device": device_of(rendering), "drawn": DRAWN},
        training_curves(weights),
    )


if __name__ == "__main__":
    main(STAGE, run)
