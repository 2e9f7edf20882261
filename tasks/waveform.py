"""Sound as a picture, for previews."""

from __future__ import annotations

import numpy as np

LINE = np.array([90, 170, 230], np.uint8)
GROUND = np.array([24, 26, 30], np.uint8)


def waveform(sound: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the envelope of int16 samples `[S]` as a picture `[height, width, 3]` uint8, full scale at the edges."""
    picture = np.tile(GROUND, (height, width, 1))
    edges = np.linspace(0, len(sound), width + 1).round().astype(int)
    rows = np.arange(height)[:, None]
    low, high = np.zeros(width), np.zeros(width)
    for column, (begin, end) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        if end > begin:
            low[column], high[column] = sound[begin:end].min() / 32768, sound[begin:end].max() / 32768
    middle = (height - 1) / 2
    picture[(rows >= middle - high * middle - 0.5) & (rows <= middle - low * middle + 0.5)] = LINE
    return picture


def framed_waveforms(images: list[np.ndarray], sound: np.ndarray) -> list[np.ndarray]:
    """Return pictures that are spread over a recording, each with its share of the waveform below it."""
    pieces = np.array_split(sound, len(images))
    return [
        np.concatenate([image, waveform(piece, image.shape[1], max(24, image.shape[0] // 6))])
        for image, piece in zip(images, pieces, strict=True)
    ]
