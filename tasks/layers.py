"""Collect the empty rooms, and cut out torso and neck with what the head hides of them painted in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from models.records import Clip, Layers, Masks
from models.storage import FrameStore
from tasks.params import Params
from tasks.stage import Context, Stage, main

if TYPE_CHECKING:
    from models.layers import Plate


FIRST_LOOK = 8  # frames of a source by which its room is told from those of the others


class LayersParams(Params):
    """What may be set."""

    plate_frames: int = Field(default=120, ge=1)  # that a room is collected from
    plate_distance_px: float = Field(default=5.0, ge=0)  # a room pixel counts when the person is at least this far away
    neck_rows: float = Field(default=0.3, ge=0, le=1)  # how far the neck goes on behind the head, over sqrt(head area)
    cloth_rows: float = Field(default=0.08, ge=0, le=1)  # the same for cloth


STAGE = Stage(
    name="layers", per=("speaker",), params=LayersParams, reads=("ingest", "parse"), gives=Layers, preview=True
)


def run(context: Context[LayersParams]) -> Layers:
    """Give the plate of each room and the torso of every frame."""
    from models.layers import torso_layer
    from models.records import store_path
    from tasks.progress import track

    params = context.params
    clip = context.read(Clip, "ingest")
    masks = context.read(Masks, "parse")
    count = len(clip.frames)
    source_of = np.zeros(count, int)
    for source in clip.sources[1:]:
        source_of[source["first_frame"] :] += 1
    plates, room_of = _plates(clip, masks, source_of, params)

    def layers() -> Iterator[np.ndarray]:
        for frame, labels in zip(clip.frames, masks.labels, strict=True):
            yield torso_layer(frame, labels, params.neck_rows, params.cloth_rows)

    store = FrameStore.create(
        store_path(context.output, "torso"),
        track(layers(), f"layers {clip.speaker}", count),
        (*masks.labels.shape[1:], 4),
    )
    quality = {"plate_seen": float(np.mean([plate.seen.mean() for plate in plates])), "rooms": len(plates)}
    result = Layers(
        torso=store,
        plates=np.stack([plate.colours for plate in plates]),
        plate_of=room_of[source_of].astype(np.int32),
        quality=quality,
    )
    _preview(context, clip, masks, result)
    return result


def _plates(clip: Clip, masks: Masks, source_of: np.ndarray, params: LayersParams) -> tuple[list[Plate], np.ndarray]:
    """Return the plate of every room, and which room each source was recorded in."""
    from models.layers import collect_plate, same_room

    def collect(sources: list[int], most: int) -> Plate:
        # A frame without a face has no labels that tell room from person.
        seen = np.flatnonzero(masks.valid & np.isin(source_of, sources))
        few = seen[np.unique(np.linspace(0, len(seen) - 1, min(len(seen), most)).astype(int))]
        return collect_plate(((clip.frames[t], masks.labels[t]) for t in few), params.plate_distance_px)

    rooms: list[list[int]] = []
    room_of = np.zeros(int(source_of.max()) + 1, int)
    first_look: list[Plate] = []
    for source in range(len(room_of)):
        if not masks.valid[source_of == source].any():
            room_of[source] = max(0, len(rooms) - 1)
            continue
        look = collect([source], FIRST_LOOK)
        alike = [room for room, other in enumerate(first_look) if same_room(look, other)]
        if not alike:
            rooms.append([])
            first_look.append(look)
        room_of[source] = alike[0] if alike else len(rooms) - 1
        rooms[room_of[source]].append(source)
    return [collect(sources, params.plate_frames) for sources in rooms], room_of


def frames_to_show(valid: np.ndarray, room_of: np.ndarray, count: int = 7) -> np.ndarray:
    """Return `count` evenly spread frames with a face, and the first of each room that none of them shows."""
    seen = np.flatnonzero(valid)
    spread = seen[np.unique(np.linspace(0, len(seen) - 1, count).astype(int))]
    missed = np.setdiff1d(room_of[seen], room_of[spread])
    return np.union1d(spread, [seen[room_of[seen] == room][0] for room in missed]).astype(int)


def _preview(context: Context[LayersParams], clip: Clip, masks: Masks, layers: Layers) -> None:
    from tasks.pictures import mark_of_clip, over_checkerboard, save_strip

    tiles = list(layers.plates[:8])
    captions = ["the room"] if len(tiles) == 1 else [f"room {number + 1}" for number in range(len(tiles))]
    for t in frames_to_show(masks.valid, layers.plate_of):
        behind = np.round(layers.behind(int(t)) * 255).astype(np.uint8)
        tiles.append(np.concatenate([clip.frames[t], over_checkerboard(layers.torso[t]), behind]))
        captions.append(f"{t}: frame, torso, without head")
    save_strip(context.preview / "strip.jpg", tiles, mark_of_clip(clip), captions)


if __name__ == "__main__":
    main(STAGE, run)
