"""What the stages that give videos share: their params, and the marked video for a person."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pydantic import Field

from tasks.params import Params
from tasks.people import Drive, Speaker, mark_of


class RenderParams(Params):
    """How heads are rendered."""

    wrong_audio_s: float = Field(5.0, gt=0)  # the control hears the sound of so many seconds before
    difference_gain: float = Field(4.0, gt=0)  # of the third picture in side_by_side.mp4
    crf: int = Field(16, ge=0, le=40)  # of H.264, lower is better


def write_preview(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: float,
    sound: np.ndarray,
    sample_rate: int,
    names: tuple[str, str],
    speaker: Speaker,
    drive: Drive | None = None,
    crf: int = 16,
) -> None:
    """Write a video with sound that carries the mark of whoever is in it, and where it comes from.

    Args:
        path: of the mp4.
        frames: `[H, W, 3]` uint8 RGB, streamed.
        fps: pictures a second.
        sound: int16 `[S]` mono.
        sample_rate: of the sound.
        names: of the speaker and of what drives the head.
        speaker: whose head it is.
        drive: who is heard; the speaker if not given.
        crf: of H.264.
    """
    from tasks.media import write_video

    bases = (speaker.basis,) if drive is None else (speaker.basis, drive.basis)
    metadata = {
        "basis": "+".join(dict.fromkeys(bases)),
        "speaker": names[0],
        "drive": names[1],
        "made_with": "gausstalk",
    }
    write_video(path, frames, fps, sound, sample_rate, mark_of(*bases), metadata, crf)
