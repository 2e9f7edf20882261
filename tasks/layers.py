"""Collect the empty room, and cut out torso and neck with what the head hides of them painted in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from models.records import Clip, Layers, Masks
from models.storage import FrameStore
from tasks.params import Params
from tasks.stage import Context, Stage, main


class LayersParams(Params):
    """What may be set."""

    plate_frames: int = Field(default=120, ge=1)  # of the clip that the room is collected from
    plate_distance_px: float = Field(default=5.0, ge=0)  # a room pixel counts when the person is at least this far away
    neck_rows: float = Field(default=0.3, ge=0, le=1)  # how far the neck goes on behind the head, over sqrt(head area)
    cloth_rows: float = Field(default=0.08, ge=0, le=1)  # the same for cloth


STAGE = Stage(
    name="layers", per=("speaker",), params=LayersParams, reads=("ingest", "parse"), gives=Layers, preview=True
)


def run(context: Context[LayersParams]) -> Layers:
    """Give plate and torso for every frame."""
    from models.layers import collect_plate, torso_layer
    from models.records import store_path
    from tasks.progress import track

    params = context.params
    clip = context.read(Clip, "ingest")
    masks = context.read(Masks, "parse")
    count = len(clip.frames)
    # A frame without a face has no labels that tell room from person.
    seen = np.flatnonzero(masks.valid)
    few = seen[np.unique(np.linspace(0, len(seen) - 1, min(len(seen), params.plate_frames)).astype(int))]
    plate = collect_plate(((clip.frames[t], masks.labels[t]) for t in few), params.plate_distance_px)

    def layers() -> Iterator[np.ndarray]:
        for frame, labels in zip(clip.frames, masks.labels, strict=True):
            yield torso_layer(frame, labels, params.neck_rows, params.cloth_rows)

    store = FrameStore.create(
        store_path(context.output, "torso"),
        track(layers(), f"layers {clip.speaker}", count),
        (*masks.labels.shape[1:], 4),
    )
    quality = {"plate_seen": float(plate.seen.mean()), "plate_frames": len(few)}
    result = Layers(torso=store, plate=plate.colours, quality=quality)
    _preview(context, clip, masks, result)
    return result


def _preview(context: Context[LayersParams], clip: Clip, masks: Masks, layers: Layers) -> None:
    from tasks.pictures import mark_of_clip, over_checkerboard, save_strip

    seen = np.flatnonzero(masks.valid)
    tiles, captions = [layers.plate], ["the room"]
    for t in seen[np.unique(np.linspace(0, len(seen) - 1, 7).astype(int))]:
        behind = np.round(layers.behind(int(t)) * 255).astype(np.uint8)
        tiles.append(np.concatenate([clip.frames[t], over_checkerboard(layers.torso[t]), behind]))
        captions.append(f"{t}: frame, torso, without head")
    save_strip(context.preview / "strip.jpg", tiles, mark_of_clip(clip), captions)


if __name__ == "__main__":
    main(STAGE, run)
