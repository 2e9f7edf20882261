"""Which frames of a clip new pictures are drawn after: its longest shot, back and forth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.errors import InputError
from models.records import Clip, HeadTrack


def longest_shot(valid: np.ndarray, cuts: list[int], name: str) -> tuple[int, int]:
    """Return the longest run of frames without a cut: first frame, one past the last.

    Args:
        valid: `[T]` frames that count.
        cuts: first frame of each new shot.
        name: of the speaker.

    Raises:
        InputError: there is none of two frames.
    """
    best, first = (0, 0), 0
    for frame in range(len(valid) + 1):
        ends = frame == len(valid) or frame in cuts or not valid[frame]
        if ends:
            best = max(best, (first, frame), key=lambda shot: shot[1] - shot[0])
            first = frame if frame < len(valid) and valid[frame] else frame + 1
    if best[1] - best[0] < 2:
        raise InputError(f"{name}: no two frames with a face in one shot")
    return best


def cuts_of(clip: Clip, track: HeadTrack) -> list[int]:
    """Return the first frame of each new shot, as the footage or the tracker has found it."""
    return sorted({*map(int, clip.cuts), *map(int, track.cuts)})


def back_and_forth(first: int, end: int) -> Iterator[int]:
    """Yield frames that walk from `first` to `end` - 1 and back again, without end and without a jump."""
    while True:
        yield from range(first, end)
        yield from range(end - 2, first, -1)
