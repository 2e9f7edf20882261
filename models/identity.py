"""Whose face it is: 128 numbers of a face by SFace (github.com/opencv/opencv_zoo, face_recognition_sface_2021dec).

Source: Zhong et al., SFace: Sigmoid-constrained hypersphere loss for robust face recognition, TIP 2021. The face is
cut out as OpenCV's FaceRecognizerSF does it: a similarity that brings five points of the face to fixed places.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.errors import InputError
from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT
from models.landmarks.placing import cut, similarity_between
from models.onnx_session import open_session

SIDE, COUNT = 112, 128  # of the face cut out, pixels; numbers of a face
# Middle of the subject's right and left eye, tip of the nose, right and left corner of the mouth: where they come to
# lie (of pixels whose centres are at half integers), and which landmarks they are the means of.
PLACES = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
PLACES += 0.5
POINTS = ((EYE_OUTER_RIGHT, 133), (362, EYE_OUTER_LEFT), (1,), (61,), (291,))


class SFace:
    """The network.

    Raises:
        InputError: the file is not this network.
    """

    def __init__(self, path: Path) -> None:
        self._session = open_session(path)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shapes = [list(one.shape)[1:] for one in (*inputs, *outputs)]
        if shapes != [[3, SIDE, SIDE], [COUNT]]:
            raise InputError(f"{path}: not SFace", f"from and to {shapes}", "gausstalk fetch sface")
        self._input = inputs[0].name

    def read(self, frames: Sequence[np.ndarray] | np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return the unit vectors `[n, 128]` of faces; NaN where a landmark that places the face is missing.

        Args:
            frames: `n` RGB uint8 pictures `[H, W, 3]`.
            points: `[n, 478, 2]` landmarks that say where the face is, pixels.
        """
        result = np.full((len(points), COUNT), np.nan)
        for k, frame in enumerate(frames):
            own = np.array([points[k, list(names)].mean(0) for names in POINTS], np.float64)
            if np.isfinite(own).all():
                face = cut(frame, similarity_between(own, PLACES), (SIDE, SIDE))
                seen = self._session.run(None, {self._input: face.transpose(2, 0, 1)[None].astype(np.float32)})[0]
                row = np.asarray(seen, np.float64)[0]
                result[k] = row / max(1e-12, float(np.linalg.norm(row)))
        return result
