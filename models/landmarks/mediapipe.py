"""MediaPipe's FaceLandmarker: 478 points and 52 blendshape scores a frame."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.heads.mediapipe_points import LANDMARK_COUNT

FRAME_MS = 40  # 25 frames a second


@dataclass(frozen=True)
class Face:
    """One face in one image: points `[478, 2]` in pixels of that image, scores `[52]` in 0..1 and their names."""

    points: np.ndarray
    scores: np.ndarray
    names: list[str]


class FaceTracker:
    """Follows one face through the frames of a shot, at first the largest.

    MediaPipe smooths where a single face is looked for: lids then close and open up to a frame late, and lips by half a
    frame and a tenth less far. So two are looked for, and the one that was there before is taken.
    """

    def __init__(self, model: Path) -> None:
        self._model, self._task, self._frame = model, None, 0
        self._last: np.ndarray | None = None  # [478, 2] points of the frame before

    def __enter__(self) -> FaceTracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget the shot so far: the next frame is searched anew."""
        if self._task is not None:
            self._task.close()
        self._task, self._frame, self._last = None, 0, None

    def next(self, image: np.ndarray) -> list[Face]:
        """Return the faces in the next frame `[H, W, 3]` uint8 RGB, the followed one first; two at most."""
        if self._task is None:
            self._task = _create(self._model, video=True, faces=2)
        with _quiet() if self._frame == 0 else nullcontext():
            result = self._task.detect_for_video(_image(image), self._frame * FRAME_MS)
        self._frame += 1
        faces = sorted(_faces(result, image.shape), key=self._strangeness)
        self._last = faces[0].points if faces else self._last
        return faces

    def _strangeness(self, face: Face) -> float:
        """Return how far a face is from the followed one, pixels; where there is none yet, how small it is."""
        if self._last is None:
            return -float(np.ptp(face.points, axis=0).prod())
        return float(np.linalg.norm(face.points - self._last, axis=1).mean())


class FaceFinder:
    """Finds faces in single images."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def find(self, image: np.ndarray) -> list[Face]:
        """Return the faces in an image `[H, W, 3]` uint8 RGB."""
        return list(_faces(self._task.detect(_image(image)), image.shape))


@contextmanager
def face_finder(model: Path, faces: int = 1, scores: bool = False) -> Iterator[FaceFinder]:
    """Give a `FaceFinder` for at most `faces` faces an image."""
    task = _create(model, video=False, faces=faces, scores=scores)
    try:
        yield FaceFinder(task)
    finally:
        task.close()


def _create(model: Path, video: bool, faces: int, scores: bool = True) -> Any:
    from mediapipe.tasks.python import BaseOptions, vision

    mode = vision.RunningMode.VIDEO if video else vision.RunningMode.IMAGE
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(model)),
        running_mode=mode,
        num_faces=faces,
        output_face_blendshapes=scores,
    )
    with _quiet():
        return vision.FaceLandmarker.create_from_options(options)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MediaPipe's start-up notes off the terminal; it writes them past Python, and has no switch for them."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _image(image: np.ndarray) -> Any:
    import mediapipe

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))


def _faces(result: Any, shape: tuple[int, ...]) -> Iterator[Face]:
    for index, landmarks in enumerate(result.face_landmarks):
        points = np.array([(point.x * shape[1], point.y * shape[0]) for point in landmarks], np.float32)
        if points.shape != (LANDMARK_COUNT, 2):
            continue
        scores = result.face_blendshapes[index] if result.face_blendshapes else []
        yield Face(points, np.array([s.score for s in scores], np.float32), [str(s.category_name) for s in scores])
