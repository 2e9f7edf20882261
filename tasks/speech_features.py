"""Speech features of a recording, one entry a frame: what `audio` and `audio_drive` have in common."""

from __future__ import annotations

import logging
import os
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from models.errors import GausstalkError, MachineError, UsageError
from models.records import AudioFeatures
from tasks.assets import find_asset
from tasks.fitness import CLIPPED_SHARE, sound_statistics
from tasks.params import Params
from tasks.places import Places

SAMPLE_RATE = 16000
FPS = 25.0
log = logging.getLogger("gausstalk")


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
    learnt_from: np.ndarray | None = None,
) -> AudioFeatures:
    """Compute the features of int16 mono samples `[S]` for `frame_count` frames at 25 a second.

    Networks run on the device that $GAUSSTALK_DEVICE names, as training does.

    Args:
        sound: the recording.
        sample_rate: of it.
        frame_count: how many windows are wanted, whatever the recording lasts.
        extractor: its name.
        params: of the stage.
        places: the project; None: this one.
        learnt_from: frames that tell the scale of the features; None: all.

    Raises:
        UsageError: no extractor of that name, or another sample rate than 16 kHz.
        MissingAssetError: the extractor's weights, or a package that it needs, are not on this machine.
        InputError: the weights are damaged.
        MachineError: a device is asked for that is not there.
    """
    from models.audio import extractor as find_extractor
    from models.audio.align import scale_of

    if sample_rate != SAMPLE_RATE:
        raise UsageError(f"sound at {sample_rate} Hz", f"features are computed from {SAMPLE_RATE} Hz")
    module, here = find_extractor(extractor), places or Places.here()
    weights = [find_asset(here, name) for name in module.ASSETS]
    window = module.WINDOW if params.window == "auto" else params.window
    values = module.extract(sound, frame_count, window, weights, _device() if weights else "cpu")
    if values.shape != (frame_count, module.SIZE, window) or not np.isfinite(values).all():
        raise GausstalkError(f"{extractor} gave features of shape {values.shape} or some that are no numbers")
    mean, deviation = scale_of(values if learnt_from is None else values[learnt_from])
    return AudioFeatures(
        extractor=extractor,
        revision=module.REVISION,
        rate_hz=FPS,
        values=values,
        mean=mean,
        deviation=deviation,
        seconds=round(len(sound) / sample_rate, 4),
        entries_hz=module.RATE_HZ,
        quality=_quality(sound, sample_rate),
    )


def _quality(sound: np.ndarray, sample_rate: int) -> dict[str, float]:
    """Return shares of clipped samples and of silence; say so when features can hardly mean anything."""
    shares = {name: value for name, value in sound_statistics(sound, sample_rate).items() if name.endswith("_share")}
    if not sound.any():
        log.warning("the recording is silent: every frame gets the features of silence")
    elif shares["clipped_share"] > CLIPPED_SHARE:
        share = 100 * shares["clipped_share"]
        log.warning("%.1f %% of the sound's samples are clipped; record it more quietly for better lips", share)
    return shares


def _device() -> str:
    import torch

    device = os.environ.get("GAUSSTALK_DEVICE", "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise MachineError("no CUDA device here", f"GAUSSTALK_DEVICE is {device}", "unset it to use the CPU")
    return device
