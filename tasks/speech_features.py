"""Speech features of a recording, one entry a frame: what `audio` and `audio_drive` have in common."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from models.errors import UsageError
from models.records import AudioFeatures
from tasks.assets import find_asset
from tasks.params import Params
from tasks.places import Places

SAMPLE_RATE = 16000
FPS = 25.0


class AudioParams(Params):
    """How much sound a frame sees."""

    window: int = Field(16, ge=2, le=64)  # entries around each frame (of log-mel: 20 ms each)


def extract(
    sound: np.ndarray,
    sample_rate: int,
    frame_count: int,
    extractor: str,
    params: AudioParams,
    places: Places | None = None,
) -> AudioFeatures:
    """Compute the features of int16 mono samples `[S]` for `frame_count` frames at 25 a second.

    Raises:
        UsageError: no extractor of that name, or another sample rate than 16 kHz.
        MissingAssetError: the extractor's weights are not on this machine.
    """
    from models.audio import extractor as find_extractor

    if sample_rate != SAMPLE_RATE:
        raise UsageError(f"sound at {sample_rate} Hz", f"features are computed from {SAMPLE_RATE} Hz")
    module = find_extractor(extractor)
    weights = find_asset(places or Places.here(), module.ASSET) if module.ASSET else None
    values = module.extract(sound, frame_count, params.window, weights)
    return AudioFeatures(extractor, module.REVISION, FPS, values, seconds=round(len(sound) / sample_rate, 4))
