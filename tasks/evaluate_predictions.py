"""Measure frames of another system as our own heads are measured: same test part, metrics, controls and judge."""

from __future__ import annotations

from models.records import Rendering
from tasks.measuring import READS, EvaluateParams, measure
from tasks.scores import Scores
from tasks.stage import Context, Stage, main

STAGE = Stage(
    name="evaluate_predictions",
    per=("speaker", "method"),
    params=EvaluateParams,
    reads=(*READS, "predictions"),
    preview=True,
    metrics=True,
    section="evaluate",
)
COSTS = ("render_time", "fps", "model_size", "peak_memory", "training_time", "gaussians")


def run(context: Context[EvaluateParams]) -> None:
    """Write metrics.json, per_frame.parquet, windows.safetensors, curves.json and pictures of the worst frames."""
    rendering = context.read(Rendering, "predictions")
    imported = rendering.quality["imported"]
    told = {"preset": "of another system", "device": "of another system", "imported": imported}
    told["drawn"] = rendering.quality["drawn"]
    measure(context, rendering, "", add_costs, told, training=[])


def add_costs(scores: Scores) -> None:
    """Say that imported frames do not tell what they have cost."""
    for name in COSTS:
        scores.add(name, float("nan"), "", "", why="imported frames do not tell what they have cost")


if __name__ == "__main__":
    main(STAGE, run)
