"""Character scores of wav2vec 2.0 (A. Baevski et al., NeurIPS 2020), the features of RAD-NeRF and ER-NeRF.

The model that they take was pre-trained on 53 languages (XLSR-53) and tuned on Esperanto, whose spelling is phonetic:
44 scores, before softmax, 50 times a second. It runs on whole blocks of 20 s here, where they feed it one second at a
time with 0.2 s on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.audio import pretrained
from models.audio.align import windows

REVISION = "1"
RATE_HZ, SIZE, WINDOW = pretrained.RATE_HZ, 44, 16
ASSETS = ("wav2vec2_esperanto",)
LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "do_stable_layer_norm": True,
}


def extract(
    sound: np.ndarray, frame_count: int, window: int, weights: Sequence[Path] = (), device: str = "cpu"
) -> np.ndarray:
    """Return `[frame_count, 44, window]` float32; see `models.audio.Extractor`."""
    model = pretrained.load(weights[0], "Wav2Vec2ForCTC", {**LARGE, "vocab_size": SIZE}, device)
    values = pretrained.entries(lambda samples: model(samples).logits, sound, SIZE, device)
    return windows(values, 0.5 / RATE_HZ, RATE_HZ, frame_count, window)
