"""Speech features of a recording, one entry a frame: what `audio` and `audio_drive` have in common."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from models.errors import GausstalkError, MachineError, UsageError
from models.records import AudioFeatures
from tasks.assets import find_asset
from tasks.params import Params
from tasks.places import Places

SAMPLE_RATE = 16000
FPS = 25.0


class AudioParams(Params):
    """How much sound a frame sees."""

    # Entries around each frame, 20 ms apart; auto: as many as the papers take of this extractor's (16; hubert 2).
    window: Annotated[int, Field(ge=2, le=64)] | Literal["auto"] = "auto"


def extract(
    sound: np.ndarray,
    sample_rate: int,
    frame_count: int,
    extractor: str,
    params: AudioParams,
    places: Places | None = None,
) -> AudioFeatures:
    """Compute the features of int16 mono samples `[S]` for `frame_count` frames at 25 a second.

    Networks run on the device that $GAUSSTALK_DEVICE names, as training does.

    Raises:
        UsageError: no extractor of that name, or another sample rate than 16 kHz.
        MissingAssetError: the extractor's weights, or a package that it needs, are not on this machine.
        InputError: the weights are damaged.
        MachineError: a device is asked for that is not there.
    """
    from models.audio import extractor as find_extractor

    if sample_rate != SAMPLE_RATE:
        raise UsageError(f"sound at {sample_rate} Hz", f"features are computed from {SAMPLE_RATE} Hz")
    module, here = find_extractor(extractor), places or Places.here()
    weights = [find_asset(here, name) for name in module.ASSETS]
    window = module.WINDOW if params.window == "auto" else params.window
    values = module.extract(sound, frame_count, window, weights, _device() if weights else "cpu")
    if values.shape != (frame_count, module.SIZE, window) or not np.isfinite(values).all():
        raise GausstalkError(f"{extractor} gave features of shape {values.shape} or some that are no numbers")
    return AudioFeatures(extractor, module.REVISION, FPS, values, seconds=round(len(sound) / sample_rate, 4))


def _device() -> str:
    import torch

    device = os.environ.get("GAUSSTALK_DEVICE", "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise MachineError("no CUDA device here", f"GAUSSTALK_DEVICE is {device}", "unset it to use the CPU")
    return device
