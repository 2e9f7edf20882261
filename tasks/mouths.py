"""Cut a speaker's mouth out of the footage, for the network that learns from all speakers how lips go with sound."""

from __future__ import annotations

import numpy as np

from models.records import Clip, Landmarks, Mouths
from tasks.stage import Context, NoParams, Stage, main

STAGE = Stage(name="mouths", per=("speaker",), params=NoParams, reads=("ingest", "landmarks"), gives=Mouths)


def run(context: Context[NoParams]) -> Mouths:
    """Give the mouths of a speaker."""
    from models.sync.mouths import mouths

    clip, landmarks = context.read(Clip, "ingest"), context.read(Landmarks, "landmarks")
    points = np.where(landmarks.valid[:, None, None], landmarks.points, np.nan)
    pictures, seen = mouths(clip.frames, points, landmarks.cuts)
    cuts = np.array(sorted({*landmarks.cuts, *clip.cuts.tolist()}), np.int32)
    return Mouths(clip.speaker, pictures, seen & clip.intact, clip.split, clip.sound, cuts)


if __name__ == "__main__":
    main(STAGE, run)
