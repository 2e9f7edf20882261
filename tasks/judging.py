"""The judge at work: reads landmarks of true and rendered frames alike, as the stage judge has recorded it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from models.heads.mediapipe_points import LANDMARK_COUNT
from models.records import Clip, DemoTruth, Judge, Landmarks
from models.storage import RECORD_FILE
from tasks.assets import find_asset
from tasks.places import Places
from tasks.progress import track


@dataclass(frozen=True)
class Reader:
    """Reads faces: `find(frame)` gives points `[478, 2]` in pixels of the frame, NaN without a face."""

    find: Callable[[np.ndarray], np.ndarray]

    def measure(self, frames: Iterable[np.ndarray], count: int, label: str) -> np.ndarray:
        """Return the points `[count, 478, 2]` float32 of RGB uint8 frames."""
        points = [self.find(frame) for frame in track(frames, f"judging {label}", count)]
        return np.array(points, np.float32).reshape(-1, LANDMARK_COUNT, 2)


@contextmanager
def open_judge(judge: Judge, places: Places) -> Iterator[Reader]:
    """Give what reads faces as `judge` does.

    Raises:
        MissingAssetError: MediaPipe is wanted and its model is not on this machine.
    """
    if judge.source == "personal":
        from models.landmarks.personal import PersonalLandmarks

        landmarker = PersonalLandmarks.from_state(judge.learnt)
        yield Reader(lambda frame: landmarker(frame)[0])
        return
    from models.landmarks.mediapipe import face_finder

    with face_finder(find_asset(places, "face_landmarker")) as finder:

        def find(frame: np.ndarray) -> np.ndarray:
            faces = finder.find(_enlarged(frame, judge.enlarge))
            return faces[0].points / judge.enlarge if faces else np.full((LANDMARK_COUNT, 2), np.nan, np.float32)

        yield Reader(find)


def _enlarged(frame: np.ndarray, factor: int) -> np.ndarray:
    import cv2

    if factor == 1:
        return frame
    height, width = frame.shape[:2]
    return cv2.resize(frame, (width * factor, height * factor), interpolation=cv2.INTER_CUBIC)


def known_points(clip: Clip, landmarks: Landmarks, places: Places) -> np.ndarray:
    """Return the points `[T, 478, 2]` of a clip, pixels, as well as they are known; NaN where they are not.

    Those of a synthetic speaker were computed with the footage. They serve to measure: to learn the judge from and to
    tell its error. Of any other speaker they are what the stage landmarks found.
    """
    folder = places.raw_speaker(clip.speaker) / "truth"
    if (folder / RECORD_FILE).is_file():
        truth = DemoTruth.load(folder)
        if truth.landmarks_px.shape == landmarks.points.shape:
            left, top, side = clip.sources[0]["crop"]
            scale = clip.frames.shape[1] / side
            return ((truth.landmarks_px - (left, top)) * scale).astype(np.float32)
    return np.where(landmarks.valid[:, None, None], landmarks.points, np.nan).astype(np.float32)
