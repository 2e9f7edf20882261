"""The judge: one landmarker that reads true and rendered frames alike, and the params of all that evaluates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from models.records import TRAIN, Clip, Landmarks
from tasks.assets import find_asset
from tasks.params import Params
from tasks.people import Speaker
from tasks.places import Places
from tasks.progress import track


class Bar(Params):
    """What a trained head must reach: a metric's value, or its difference or ratio against a control."""

    name: str
    metric: str
    region: str
    variant: str = "full"
    compare: Literal["value", "difference", "ratio"] = "value"
    against: str = ""  # wrong_audio, static (the strongest of the three that do not hear) or another variant
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Bar:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give either at_least or at_most")
        if (self.compare == "value") == bool(self.against):
            raise ValueError("'against' belongs to a difference or a ratio, and only to them")
        return self


class JudgingParams(Params):
    """Section `evaluate`, of the stages evaluate and evaluate_drive."""

    judge: Literal["auto", "mediapipe", "personal"] = "auto"  # auto: personal for synthetic speakers, else mediapipe
    enlarge: int = Field(2, ge=1, le=4)  # MediaPipe reads small faces better when the frames are enlarged
    mouth_margin_px: int = Field(2, ge=0)  # added to half the side of the mouth box
    block_seconds: float = Field(1.0, gt=0)  # frames drawn together for an interval
    draws: int = Field(1000, ge=100)
    worst: int = Field(6, ge=1, le=24)  # frames a metric shown in the gallery of failures
    bars: tuple[Bar, ...] = ()  # what a trained head must reach


@dataclass(frozen=True)
class Judge:
    """A landmarker by name: `find(frame)` gives points `[478, 2]` in pixels of the frame, NaN without a face."""

    name: str
    find: Callable[[np.ndarray], np.ndarray]

    def measure(self, frames: Iterable[np.ndarray], count: int, label: str) -> np.ndarray:
        """Return the points `[count, 478, 2]` float32 of RGB uint8 frames."""
        return np.stack([self.find(frame) for frame in track(frames, f"judging {label}", count)]).astype(np.float32)


def judge_name(choice: str, speaker: Speaker) -> str:
    """Return which judge `choice` means for this speaker."""
    if choice != "auto":
        return choice
    return "personal" if speaker.basis == "synthetic" else "mediapipe"


@contextmanager
def open_judge(
    params: JudgingParams, speaker: Speaker, clip: Clip, landmarks: Landmarks, places: Places
) -> Iterator[Judge]:
    """Give the judge of a speaker.

    Raises:
        MissingAssetError: MediaPipe is wanted and its model is not on this machine.
        InputError: a personal judge is wanted and too few training frames have landmarks.
    """
    if judge_name(params.judge, speaker) == "personal":
        yield Judge("personal", _learn(clip, landmarks))
        return
    from models.landmarks.mediapipe import face_finder

    with face_finder(find_asset(places, "face_landmarker")) as finder:

        def find(frame: np.ndarray) -> np.ndarray:
            faces = finder.find(_enlarged(frame, params.enlarge))
            return faces[0].points / params.enlarge if faces else np.full((478, 2), np.nan, np.float32)

        yield Judge("mediapipe", find)


def _learn(clip: Clip, landmarks: Landmarks) -> Callable[[np.ndarray], np.ndarray]:
    from models.landmarks.personal import MAX_FRAMES, PersonalLandmarks

    usable = np.array([t for t in clip.indices(TRAIN) if landmarks.valid[t]], int)
    if len(usable) > MAX_FRAMES:
        usable = usable[np.linspace(0, len(usable) - 1, MAX_FRAMES).round().astype(int)]
    frames = (
        np.stack([clip.frames[t] for t in track(usable, "learning the face", len(usable))])
        if len(usable)
        else np.zeros((0, *clip.frames.shape[1:]), np.uint8)
    )
    landmarker = PersonalLandmarks(frames, landmarks.points[usable])
    return lambda frame: landmarker(frame)[0]


def _enlarged(frame: np.ndarray, factor: int) -> np.ndarray:
    import cv2

    if factor == 1:
        return frame
    height, width = frame.shape[:2]
    return cv2.resize(frame, (width * factor, height * factor), interpolation=cv2.INTER_CUBIC)
