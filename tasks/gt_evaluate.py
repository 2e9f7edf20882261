"""GaussianTalker: measure a trained head on the same frames, and in the same way, as every other one."""

from __future__ import annotations

from models.records import Rendering, Weights
from tasks.costs import add_costs, presets_in, training_curves
from tasks.measuring import READS, EvaluateParams, measure
from tasks.scores import device_of
from tasks.stage import Context, Stage, main

MODULES = ("gt_motion", "gt_renderer", "gt_inpaint")
DRAWN = "face"  # see tasks.comparable
STAGE = Stage(
    name="gt_evaluate",
    per=("speaker", "extractor"),
    params=EvaluateParams,
    section="evaluate",
    reads=(*READS, *MODULES, "gt_render"),
    preview=True,
    metrics=True,
    method="gaussian_talker",
)


def run(context: Context[EvaluateParams]) -> None:
    """Write metrics.json, per_frame.parquet, windows.safetensors, curves.json and pictures of the worst frames."""
    rendering = context.read(Rendering, "gt_render")
    weights = {module: context.read(Weights, module) for module in MODULES}
    gaussians = float(weights["gt_renderer"].quality.get("gaussians", "nan"))
    measure(
        context,
        rendering,
        str(context.keys.extractor),
        lambda scores: add_costs(scores, rendering, weights, MODULES, gaussians),
        {"preset": presets_in(weights), "device": device_of(rendering), "drawn": DRAWN},
        training_curves(weights),
    )


if __name__ == "__main__":
    main(STAGE, run)
