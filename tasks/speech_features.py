"""Speech features of a recording, one entry a frame: what `audio` and `audio_drive` have in common."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from models.errors import GausstalkError, UsageError
from models.records import AudioFeatures
from tasks.assets import find_asset
from tasks.device import stage_device
from tasks.fitness import CLIPPED_SHARE, sound_statistics
from tasks.params import Params
from tasks.places import Places

if TYPE_CHECKING:
    from models.audio import Extractor

SAMPLE_RATE = 16000
FPS = 25.0
log = logging.getLogger("gausstalk")


class AudioParams(Params):
    """How much sound a frame sees."""

    # Entries around each frame, 20 ms apart; auto: as many as the papers take of this extractor's (16; hubert 2).
    window: Annotated[int, Field(ge=2, le=64)] | Literal["auto"] = "auto"


@dataclass(frozen=True)
class Hearing:
    """An extractor, ready to compute."""

    name: str
    module: Extractor
    window: int
    weights: list[Path]
    device: str

    @staticmethod
    def open(name: str, params: AudioParams, places: Places | None = None, device: str | None = None) -> Hearing:
        """Find an extractor and what it needs.

        Args:
            name: of the extractor.
            params: of the stage.
            places: the project; None: this one.
            device: of networks; None: that of training.

        Raises:
            UsageError: no extractor of that name.
            MissingAssetError: its weights are not on this machine.
            MachineError: a device is asked for that cannot be used.
        """
        from models.audio import extractor as find_extractor

        module, here = find_extractor(name), places or Places.here()
        weights = [find_asset(here, asset) for asset in module.ASSETS]
        window = module.WINDOW if params.window == "auto" else params.window
        return Hearing(name, module, window, weights, (device or stage_device()) if weights else "cpu")

    def windows(self, sound: np.ndarray, frame_count: int, scale: Any = None) -> np.ndarray:
        """Return features `[frame_count, D, W]` float32 of int16 mono samples `[S]` at 16 kHz.

        Args:
            sound: the recording.
            frame_count: how many windows are wanted, whatever the recording lasts.
            scale: of the recording, where the extractor is of the kind `models.audio.Measured`; None: its own.

        Raises:
            MissingAssetError: a package that the extractor needs is not on this machine.
            InputError: the weights are damaged.
        """
        given = {} if scale is None else {"scale": scale}
        values = self.module.extract(sound, frame_count, self.window, self.weights, self.device, **given)
        if values.shape != (frame_count, self.module.SIZE, self.window) or not np.isfinite(values).all():
            raise GausstalkError(f"{self.name} gave features of shape {values.shape} or some that are no numbers")
        return values


def extract(
    sound: np.ndarray,
    sample_rate: int,
    frame_count: int,
    extractor: str,
    params: AudioParams,
    places: Places | None = None,
    learnt_from: np.ndarray | None = None,
) -> AudioFeatures:
    """Compute the features of a recording, frame by frame at 25 a second, with what goes with them.

    Args:
        sound: int16 mono samples `[S]`.
        sample_rate: of it.
        frame_count: how many windows are wanted, whatever the recording lasts.
        extractor: its name.
        params: of the stage.
        places: the project; None: this one.
        learnt_from: frames that tell the scale of the features; None: all.

    Raises:
        UsageError: no extractor of that name, or another sample rate than 16 kHz.
        GausstalkError: see `Hearing`.
    """
    from models.audio.align import scale_of

    if sample_rate != SAMPLE_RATE:
        raise UsageError(f"sound at {sample_rate} Hz", f"features are computed from {SAMPLE_RATE} Hz")
    hearing = Hearing.open(extractor, params, places)
    values = hearing.windows(sound, frame_count)
    mean, deviation = scale_of(values if learnt_from is None else values[learnt_from])
    return AudioFeatures(
        extractor=extractor,
        revision=hearing.module.REVISION,
        rate_hz=FPS,
        values=values,
        mean=mean,
        deviation=deviation,
        seconds=round(len(sound) / sample_rate, 4),
        entries_hz=hearing.module.RATE_HZ,
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
