"""Character scores of wav2vec 2.0 base, tuned on 960 hours of read English: a third of the large model's work.

32 scores, before softmax: the letters, the apostrophe, the gap between words and CTC's special signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.audio import pretrained
from models.audio.align import windows

REVISION = "1"
RATE_HZ, SIZE, WINDOW = pretrained.RATE_HZ, 32, 16
ASSETS = ("wav2vec2_base_960h",)


def extract(
    sound: np.ndarray, frame_count: int, window: int, weights: Sequence[Path] = (), device: str = "cpu"
) -> np.ndarray:
    """Return `[frame_count, 32, window]` float32; see `models.audio.Extractor`."""
    model = pretrained.load(weights[0], "Wav2Vec2ForCTC", {"vocab_size": SIZE}, device)
    values = pretrained.entries(lambda samples: model(samples).logits, sound, SIZE, device)
    return windows(values, 0.5 / RATE_HZ, RATE_HZ, frame_count, window)
