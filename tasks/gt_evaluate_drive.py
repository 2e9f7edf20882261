"""GaussianTalker: measure a head that says a drive's sound as every other one is measured."""

from __future__ import annotations

from models.records import Rendering
from tasks.measuring_drive import READS, measure_drive
from tasks.stage import Context, NoParams, Stage, main

STAGE = Stage(
    name="gt_evaluate_drive",
    per=("speaker", "extractor", "drive"),
    params=NoParams,
    reads=(*READS, "gt_render_drive"),
    metrics=True,
    method="gaussian_talker",
)


def run(context: Context[NoParams]) -> None:
    """Write metrics.json, per_frame.parquet and windows.safetensors of one drive."""
    measure_drive(context, context.read(Rendering, "gt_render_drive"))


if __name__ == "__main__":
    main(STAGE, run)
