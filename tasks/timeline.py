"""Pictures of a whole clip over time: a film of small frames with curves below it, one second above the other."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from tasks.pictures import PAPER, PLOT_LEFT, PLOT_RIGHT

Array = np.ndarray
FRAME_WIDTH = 110  # px of one frame of a film


class Frames(Protocol):
    """Pictures `[H, W, 3]` uint8 by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Array: ...


def film(frames: Frames, width: int) -> Array:
    """Return small frames side by side, each above the middle of its stretch of the curves of `draw_curves`."""
    inner = width - PLOT_LEFT - PLOT_RIGHT
    count = max(1, min(len(frames), inner // FRAME_WIDTH))
    edges = np.linspace(PLOT_LEFT, width - PLOT_RIGHT, count + 1).round().astype(int)
    tall, wide = frames[0].shape[:2]
    height = round((edges[1] - edges[0]) * tall / wide)
    picture = np.full((height, width, 3), PAPER, np.uint8)
    for k in range(count):
        frame = frames[int((k + 0.5) / count * len(frames))]
        size = (int(edges[k + 1] - edges[k]), height)
        picture[:, edges[k] : edges[k + 1]] = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return picture


def runs_of(marked: Array) -> list[tuple[int, int]]:
    """Return (first, end) of every stretch of true values in `[T]`; end is one past the last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
