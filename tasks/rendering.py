"""What the stages that give videos share: their params, and the marked video for a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from tasks.params import Params
from tasks.people import Basis, Drive, Speaker, mark_of


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
    people: Sequence[Speaker | Drive],
    crf: int = 16,
    lossless: bool = False,
) -> None:
    """Write a video with sound that carries the mark of whoever is in it, and where it comes from.

    Args:
        path: of the video.
        frames: `[H, W, 3]` uint8 RGB, streamed.
        fps: pictures a second.
        sound: int16 `[S]` mono.
        sample_rate: of the sound.
        names: of the speaker and of what drives the head.
        people: whose head, voice and motion it is made from, as far as they are known.
        crf: of H.264.
        lossless: see `tasks.media.write_video`.
    """
    from tasks.media import write_video

    bases: list[Basis] = [person.basis for person in people]
    metadata = {
        "basis": "+".join(dict.fromkeys(bases)),
        "speaker": names[0],
        "drive": names[1],
        "made_with": "gausstalk",
    }
    write_video(path, frames, fps, sound, sample_rate, mark_of(*bases), metadata, crf, lossless)
