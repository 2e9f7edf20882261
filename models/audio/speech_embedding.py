"""Google's small speech embedding (J. Lin et al., arXiv 2002.01322), as openWakeWord gives it: two ONNX networks.

The first turns samples into 32 mel bands 100 times a second, the second 76 such spectra, 0.8 s, into 96 numbers. It was
trained to tell words from one another. There it runs every 80 ms, here every 20 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.audio.align import windows
from models.onnx_session import open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

REVISION = "1"
RATE_HZ, SIZE, WINDOW = 50.0, 96, 16
ASSETS = ("speech_melspectrogram", "speech_embedding")

HOP, SPAN, BANDS = 160, 512, 32  # of the spectra: samples, samples, bands
SPECTRA, STEP = 76, 2  # in one embedding; from one to the next
# Entry k is centred on (k + 1/2) / 50 s; this is where its first spectrum begins, in samples, for k = 0.
BEGIN = HOP * STEP // 2 - ((SPECTRA - 1) * HOP + SPAN) // 2
RANGE_DB = 80.0  # spectra are cut off so far below the loudest band of the recording
SCALE = 1 / 16  # brings the numbers, which are 17 on average, to about 1
BLOCK = 1024  # spectra computed at once
BATCH = 64  # embeddings computed at once


def extract(
    sound: np.ndarray, frame_count: int, window: int, weights: Sequence[Path] = (), device: str = "cpu"
) -> np.ndarray:
    """Return `[frame_count, 96, window]` float32; see `models.audio.Extractor`."""
    first, second = (open_session(path, device.startswith("cuda")) for path in weights)
    count = max(1, -(-len(sound) // (HOP * STEP)))
    spectra = mel_spectra(first, sound, (count - 1) * STEP + SPECTRA)
    return windows(embeddings(second, spectra), 0.5 / RATE_HZ, RATE_HZ, frame_count, window)


def mel_spectra(session: InferenceSession, sound: np.ndarray, count: int, block: int = BLOCK) -> np.ndarray:
    """Return `[count, 32]` float32 spectra from sample `BEGIN` on; silence is where there is no sound.

    The network limits its output to 80 dB below the loudest it was given, so a block by itself would come out
    differently. The limit of a block is never above that of the recording, which is applied in the end.
    """
    result = np.empty((count, BANDS), np.float32)
    name = session.get_inputs()[0].name
    for begin in range(0, count, block):
        number = min(block, count - begin)
        piece = np.zeros((number - 1) * HOP + SPAN, np.float32)
        start = BEGIN + begin * HOP
        inside = sound[max(0, start) : max(0, start + len(piece))]
        offset = max(0, -start)
        piece[offset : offset + len(inside)] = inside  # in integers, as the network was made
        (values,) = session.run(None, {name: piece[None]})
        result[begin : begin + number] = np.asarray(values).reshape(number, BANDS)
    # The embedding expects decibels in this scale.
    return np.maximum(result, result.max() - RANGE_DB) / 10 + 2


def embeddings(session: InferenceSession, spectra: np.ndarray) -> np.ndarray:
    """Return `[N, 96]` float32, one for every `SPECTRA` spectra, `STEP` apart."""
    spans = np.lib.stride_tricks.sliding_window_view(spectra, SPECTRA, axis=0)[::STEP].transpose(0, 2, 1)
    name = session.get_inputs()[0].name
    parts = []
    for begin in range(0, len(spans), BATCH):
        (values,) = session.run(None, {name: np.ascontiguousarray(spans[begin : begin + BATCH])[..., None]})
        parts.append(np.asarray(values, np.float32).reshape(-1, SIZE) * SCALE)
    return np.concatenate(parts)
