"""SyncNet (Chung and Zisserman 2016): 1024 numbers for five frames of a face, and 1024 for the 0.2 s of sound with it.

Names and shapes of the parameters are those of the public file syncnet_v2.model of github.com/joonson/syncnet_python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.checkpoints import load_strictly, read_state
from models.sync.faces import boxes_about, cut_out, tracks_of
from models.sync.lags import REACH, Synchrony, distances
from models.sync.mfcc import mfcc

FRAMES = 5  # in a window
STEPS_A_FRAME, STEPS = 4, 20  # of the sound's coefficients
SAMPLES_A_FRAME = 640
BATCH = 16  # windows at a time, so that memory does not grow with the clip


def _layers(convolution: Any, normalisation: Any, rows: list[Any]) -> list[nn.Module]:
    """Return convolution, normalisation and rectifier for each (inputs, outputs, kernel, stride, padding)."""
    layers: list[nn.Module] = []
    for row in rows:
        if isinstance(row, nn.Module):
            layers.append(row)
            continue
        inputs, outputs, kernel, stride, padding = row
        layers += [convolution(inputs, outputs, kernel, stride, padding), normalisation(outputs), nn.ReLU()]
    return layers


def _last() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


class SyncNet(nn.Module):
    """Both halves of the network."""

    def __init__(self) -> None:
        super().__init__()
        sound = [
            (1, 64, 3, 1, 1),
            nn.MaxPool2d(1, 1),
            (64, 192, 3, 1, 1),
            nn.MaxPool2d(3, (1, 2)),
            (192, 384, 3, 1, 1),
            (384, 256, 3, 1, 1),
            (256, 256, 3, 1, 1),
            nn.MaxPool2d(3, 2),
            (256, 512, (5, 4), 1, 0),
        ]
        lips = [
            (3, 96, (5, 7, 7), (1, 2, 2), 0),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            (96, 256, (1, 5, 5), (1, 2, 2), (0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            (256, 256, (1, 3, 3), 1, (0, 1, 1)),
            (256, 256, (1, 3, 3), 1, (0, 1, 1)),
            (256, 256, (1, 3, 3), 1, (0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            (256, 512, (1, 6, 6), 1, 0),
        ]
        self.netcnnaud = nn.Sequential(*_layers(nn.Conv2d, nn.BatchNorm2d, sound))
        self.netfcaud = _last()
        self.netfclip = _last()
        self.netcnnlip = nn.Sequential(*_layers(nn.Conv3d, nn.BatchNorm3d, lips))

    def sound(self, coefficients: Tensor) -> Tensor:
        """Return `[B, 1024]` of cepstral coefficients `[B, 1, 13, 20]`."""
        return self.netfcaud(self.netcnnaud(coefficients).flatten(1))

    def lips(self, faces: Tensor) -> Tensor:
        """Return `[T - 4, 1024]` of a face `[3, T, 224, 224]`, BGR of 0..255: one row for every five frames."""
        found = self.netcnnlip(faces[None])[0, :, :, 0, 0]  # only the first layer looks across frames
        return self.netfclip(found.T)


def load(path: Path, device: str | torch.device = "cpu") -> SyncNet:
    """Return the network with the parameters of a file, ready to use.

    Raises:
        InputError: the file is damaged, would run code, or lacks a parameter or has one too many.
    """
    network, state = SyncNet(), read_state(path)
    # Versions of PyTorch before 0.4.1 did not count batches.
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, value)
    load_strictly(network, state, path.name)
    return network.eval().requires_grad_(False).to(device)


def window_count(frames: int, samples: int) -> int:
    """Return how many windows the published code compares; it leaves out the last one."""
    return max(0, min(frames, samples // SAMPLES_A_FRAME) - FRAMES)


def lip_rows(network: SyncNet, faces: Iterable[np.ndarray], count: int) -> np.ndarray:
    """Return `[count, 1024]` of the first `count` windows of faces `[224, 224, 3]` RGB uint8, one a frame."""
    if count < 1:
        return np.zeros((0, 1024), np.float32)
    device = next(network.parameters()).device
    result: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    done = 0
    for face in faces:
        waiting.append(face[..., ::-1])
        if len(waiting) - FRAMES + 1 == min(BATCH, count - done):
            block = torch.from_numpy(np.stack(waiting).transpose(3, 0, 1, 2).astype(np.float32)).to(device)
            with torch.inference_mode():
                result.append(network.lips(block).cpu().numpy())
            done += len(result[-1])
            waiting = waiting[1 - FRAMES :]
        if done == count:
            break
    return np.concatenate(result)


def sound_rows(network: SyncNet, sound: np.ndarray, count: int) -> np.ndarray:
    """Return `[count, 1024]` of the first `count` windows of int16 samples at 16 kHz."""
    device = next(network.parameters()).device
    coefficients = mfcc(sound).T.astype(np.float32)
    result: list[np.ndarray] = []
    for start in range(0, count, BATCH):
        places = (STEPS_A_FRAME * k for k in range(start, min(start + BATCH, count)))
        block = np.stack([coefficients[None, :, place : place + STEPS] for place in places])
        with torch.inference_mode():
            result.append(network.sound(torch.from_numpy(block).to(device)).cpu().numpy())
    return np.concatenate(result) if result else np.zeros((0, 1024), np.float32)


def measure(
    network: SyncNet, frames: Sequence[np.ndarray], points: np.ndarray, sound: np.ndarray, cuts: Sequence[int] = ()
) -> Synchrony:
    """Hold lips against sound along the longest track of a face.

    Args:
        network: of `load`.
        frames: `n` RGB uint8 pictures `[H, W, 3]`, 25 a second.
        points: `[n, P, 2]` landmarks of the face, pixels; NaN where it was not found.
        sound: int16 samples at 16 kHz, from the first frame on.
        cuts: first frames of new shots.
    """
    windows = np.full((len(points), 2 * REACH + 1), np.nan)
    tracks, why = tracks_of(boxes_about(points), cuts)
    if not tracks:
        return Synchrony(windows, why)
    track = tracks[0]
    first = int(track.frames[0])
    heard = sound[SAMPLES_A_FRAME * first : SAMPLES_A_FRAME * (first + len(track))]
    count = window_count(len(track), len(heard))
    if count < 1:
        return Synchrony(windows, "the sound is over before the face is seen")
    faces = (cut_out(frames[t], *where) for t, *where in zip(track.frames, track.middle, track.half, strict=True))
    lips = lip_rows(network, faces, count)
    windows[first : first + count] = distances(lips, sound_rows(network, heard, count))
    return Synchrony(windows)
