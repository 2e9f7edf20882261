"""Whether it is still the same person: how alike two faces are to a network that recognises persons."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.metrics.base import Metric, SpeechCompute, not_ready


def opened(path: Path) -> SpeechCompute:
    """Return what reads faces: of frames and the points `[n, 478, 2]` that place the face, unit vectors `[n, 128]`.

    Raises:
        InputError: the file is damaged or another network's.
    """
    from models.identity import SFace

    return SFace(path).read


def similarity(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the cosine of faces `[n, k]` and `[n, k]`, `[n]`; NaN where one of them was not read."""
    return (own * other).sum(1)


METRICS = (
    Metric(
        "identity",
        "1",
        "higher",
        "cosine of what SFace sees in the rendered and in the true face, both cut out where the true face is, mean "
        "over frames; its authors take more than 0.363 for one person",
        "identity",
        not_ready,
        range="-1 to 1",
        source="Zhong et al., SFace, TIP 2021, as OpenCV's FaceRecognizerSF uses it",
        needs=("sface",),
        opens=opened,
    ),
)
