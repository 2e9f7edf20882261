"""Choose who judges a speaker's faces, true and rendered, once for all that evaluates.

A personal judge learns the face here, and either kind reads some frames of the speaker's own, because that is the same
work for every drive.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from pydantic import Field

from models.heads.mediapipe_points import LANDMARK_COUNT
from models.records import TEST, TRAIN, Clip, Judge, Landmarks
from tasks.judging import known_points, open_judge
from tasks.params import Params
from tasks.stage import Context, Stage, main

OWN_FRAMES = 400  # read of either part of the speaker's own


class JudgeParams(Params):
    """Section `judge`."""

    source: Literal["auto", "mediapipe", "personal"] = "auto"  # auto: personal for synthetic speakers, else mediapipe
    enlarge: int = Field(2, ge=1, le=4)  # MediaPipe reads small faces better when the frames are enlarged


STAGE = Stage(name="judge", per=("speaker",), params=JudgeParams, reads=("ingest", "landmarks"), gives=Judge)


def run(context: Context[JudgeParams]) -> Judge:
    """Give the judge of a speaker.

    Raises:
        MissingAssetError: MediaPipe is wanted and its model is not on this machine.
        InputError: a personal judge is wanted and too few training frames have landmarks.
    """
    clip, landmarks = context.read(Clip, "ingest"), context.read(Landmarks, "landmarks")
    source = context.params.source
    if source == "auto":
        source = "personal" if context.speaker().basis == "synthetic" else "mediapipe"
    learnt = learn(clip, known_points(clip, landmarks, context.places)) if source == "personal" else {}
    # Neighbouring frames, so that blinks and head motion can be told.
    own, unseen = (clip.indices(part)[:OWN_FRAMES].astype(np.int32) for part in (TRAIN, TEST))
    unread = (np.full((len(frames), LANDMARK_COUNT, 2), np.nan, np.float32) for frames in (own, unseen))
    judge = Judge(source, context.params.enlarge, learnt, own, next(unread), unseen, next(unread))
    with open_judge(judge, context.places) as reader:
        points = reader.measure((clip.frames[t] for t in own), len(own), "the speaker")
        unseen_points = reader.measure((clip.frames[t] for t in unseen), len(unseen), "the speaker's test part")
    return dataclasses.replace(judge, own_points=points, unseen_points=unseen_points)


def learn(clip: Clip, points: np.ndarray) -> dict[str, np.ndarray]:
    """Return what a landmarker learns from the training frames of a clip and their points `[T, 478, 2]`, pixels.

    Raises:
        InputError: too few of them have landmarks.
    """
    from models.landmarks.personal import PersonalLandmarks

    training = np.where((clip.split == TRAIN)[:, None, None], points, np.nan)
    return PersonalLandmarks(clip.frames, training).state()


if __name__ == "__main__":
    main(STAGE, run)
