"""The last layer of HuBERT large (W.-N. Hsu et al., TASLP 2021), which serves every language.

1024 numbers, 50 times a second. The papers take two entries a frame instead of a wide window: each has seen far more of
the sound already.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.audio import pretrained
from models.audio.align import windows
from models.audio.wav2vec2 import LARGE

REVISION = "1"
RATE_HZ, SIZE, WINDOW = pretrained.RATE_HZ, 1024, 2
ASSETS = ("hubert_large",)


def extract(
    sound: np.ndarray, frame_count: int, window: int, weights: Sequence[Path] = (), device: str = "cpu"
) -> np.ndarray:
    """Return `[frame_count, 1024, window]` float32; see `models.audio.Extractor`."""
    # The file is of the model tuned for recognition; its last projection is left out.
    model = pretrained.load(weights[0], "HubertModel", LARGE, device)
    values = pretrained.entries(lambda samples: model(samples).last_hidden_state, sound, SIZE, device)
    return windows(values, 0.5 / RATE_HZ, RATE_HZ, frame_count, window)
