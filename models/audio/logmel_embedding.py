"""Log-mel spectrum and speech embedding side by side: how the sound is now, and what has been said around it.

The spectrum is sharp in time and knows nothing of speech, the embedding the other way round; lips are predicted better
by both together than by either.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.audio import logmel, speech_embedding

REVISION = f"{logmel.REVISION}+{speech_embedding.REVISION}"
RATE_HZ, SIZE, WINDOW = 50.0, logmel.SIZE + speech_embedding.SIZE, 16
ASSETS = speech_embedding.ASSETS


def extract(
    sound: np.ndarray, frame_count: int, window: int, weights: Sequence[Path] = (), device: str = "cpu"
) -> np.ndarray:
    """Return `[frame_count, 176, window]` float32; see `models.audio.Extractor`."""
    return np.concatenate(
        [
            logmel.extract(sound, frame_count, window),
            speech_embedding.extract(sound, frame_count, window, weights, device),
        ],
        axis=1,
    )
