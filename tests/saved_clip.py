"""Clips of invented pictures, as records on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.records import TRAIN, Clip, store_path
from models.storage import FrameStore


def save_clip(folder: Path, pictures: Sequence[np.ndarray], **given: Any) -> Clip:
    """Write `pictures` as a clip into `folder`: a synthetic speaker's, silent, whole, to train on, unless told."""
    count = len(pictures)
    told = {
        "speaker": "ada",
        "basis": "synthetic",
        "fps": 25.0,
        "sample_rate": 16000,
        "sound": np.zeros(count * 640, np.int16),
        "cuts": np.zeros(0, np.int32),
        "split": np.full(count, TRAIN, np.int8),
        "intact": np.ones(count, bool),
    }
    store = FrameStore.create(store_path(folder, "frames"), pictures, pictures[0].shape)
    clip = Clip(frames=store, **{**told, **given})
    clip.save(folder)
    return clip
