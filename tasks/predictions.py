"""Frames of another system as a rendering of the test part, so that they are measured like those of our own heads."""

from __future__ import annotations

import itertools

import numpy as np

from models.errors import InputError
from models.records import TEST, Clip, Rendering, store_path
from models.storage import FrameStore
from tasks.foreign import look_at, part_of
from tasks.imports import load_predictions
from tasks.rendering import RenderParams, write_previews
from tasks.stage import Context, Stage, main

STAGE = Stage(
    name="predictions",
    per=("speaker", "method"),
    params=RenderParams,
    reads=("ingest",),
    gives=Rendering,
    preview=True,
    section="render",
)


def run(context: Context[RenderParams]) -> Rendering:
    """Read the test part of what was imported.

    Raises:
        ConsentError: there is no valid basis for using the speaker's likeness any more.
        InputError: the frames are not those that were imported, or fit the clip no more.
    """
    person, clip = context.speaker(), context.read(Clip, "ingest")
    speaker, method = str(context.keys.speaker), str(context.keys.method)
    record = load_predictions(context.places, speaker, method)
    frames = clip.indices(TEST)
    stores = {}
    for variant, told in record.inputs.items():
        found = look_at(context.places.raw_predictions(speaker, method) / told.file)
        if found.digest() != told.sha256:
            fix = f"gausstalk import-predictions {method} DIR_OR_VIDEO --speaker {speaker} --replace"
            raise InputError(f"{found.path}: not what was imported", "its sha256 is another one", fix)
        part = part_of(found, clip, context.places.raw_speaker(speaker).relative_to(context.places.root))
        first = int(frames[0]) if part == "clip" else 0
        rendered = itertools.islice(found.frames(), first, first + len(frames))
        stores[variant] = FrameStore.create(store_path(context.output, variant), rendered, clip.frames.shape[1:])
    write_previews(context.preview, clip, frames, stores["full"], [person], context.params)
    imported = {variant: {"how": told.how, "lossless": told.lossless} for variant, told in record.inputs.items()}
    return Rendering(
        method=method,
        variants=list(stores),
        frame_index=frames.astype(np.int32),
        quality={"imported": imported, "drawn": record.drawn},
        **stores,
    )


if __name__ == "__main__":
    main(STAGE, run)
