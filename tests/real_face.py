"""A person reading a sentence, from the folder of real clips, and what MediaPipe finds in it."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np

from models.landmarks.mediapipe import face_finder

FRAMES = slice(10, 50)


@cache
def sentence(assets: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames `[40, 288, 360, 3]` and their landmarks `[40, 478, 2]`, pixels."""
    video = cv2.VideoCapture(str(assets / "video" / "grid_s1" / "bbaf2n.mpg"))
    frames = []
    while (read := video.read())[0]:
        frames.append(np.ascontiguousarray(read[1][..., ::-1]))
    frames = np.stack(frames[FRAMES])
    with face_finder(assets / "weights" / "face_landmarker.task") as finder:
        points = np.stack([finder.find(frame)[0].points for frame in frames])
    return frames, points
