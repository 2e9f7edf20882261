"""Measure a head that says a drive's sound: no truth is known, so lips are held against sound, talker and speaker."""

from __future__ import annotations

from models.records import Rendering
from tasks.measuring_drive import READS, measure_drive
from tasks.stage import Context, NoParams, Stage, main

STAGE = Stage(
    name="evaluate_drive",
    per=("speaker", "extractor", "drive"),
    params=NoParams,
    reads=(*READS, "render_drive"),
    metrics=True,
)


def run(context: Context[NoParams]) -> None:
    """Write metrics.json, per_frame.parquet and windows.safetensors of one drive."""
    measure_drive(context, context.read(Rendering, "render_drive"))


if __name__ == "__main__":
    main(STAGE, run)
