"""The house's own small SyncNet: 64 numbers of length 1 for five pictures of a mouth, and 64 for the 0.2 s of sound.

It is trained on the project's own clips (models/sync/house_learning.py) and needs no outside weights. Distances, lags
and their range are SyncNet's (models/sync/lags.py); what it sees and hears is not: pictures of models/sync/mouths.py
less their mean, so that a face's looks hardly matter, and levels of 40 bands less those of the recording.
Sound beyond the ends is left out of the means over windows instead of counting as zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.audio.logmel import BANDS as FINE_BANDS
from models.audio.logmel import LIMIT, log_mel, scale_of_levels
from models.checkpoints import load_strictly
from models.sync.lags import REACH, Synchrony, distances
from models.sync.mouths import SIDE, Pictures, mouths

FRAMES = 5  # in a window
ENTRIES, A_FRAME = 10, 2  # of the sound's levels: in a window, and in a frame
BANDS = 40
SIZE = 64  # numbers that a window becomes
SAMPLES_A_FRAME = 640
DULLEST = 0.5  # levels of 255: pictures that change less than this show nothing
DROP = 0.2
SHORTEST = 50  # frames that are compared: the network is checked on so many (2 s), and not trusted on fewer


def _pictures(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2), nn.BatchNorm2d(outputs), nn.ReLU()]


def _lines(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv1d(inputs, outputs, kernel, stride), nn.BatchNorm1d(outputs), nn.ReLU()]


class HouseNet(nn.Module):
    """Both halves of the network."""

    def __init__(self) -> None:
        super().__init__()
        last = 64 * (SIDE // 16) ** 2
        self.picture = nn.Sequential(
            *(*_pictures(1, 16, 5), *_pictures(16, 32, 3), *_pictures(32, 48, 3), *_pictures(48, 64, 3)),
            *(nn.Flatten(), nn.Dropout(DROP), nn.Linear(last, 64), nn.ReLU()),
        )
        self.motion = nn.Sequential(*_lines(64, 128, FRAMES), nn.Dropout(DROP), nn.Conv1d(128, SIZE, 1))
        self.hearing = nn.Sequential(
            *(*_lines(BANDS, 96, 3), *_lines(96, 96, 3), nn.Dropout(DROP)),
            *(*_lines(96, 128, ENTRIES - 4, A_FRAME), nn.Dropout(DROP), nn.Conv1d(128, SIZE, 1)),
        )

    def lips(self, pictures: Tensor) -> Tensor:
        """Return unit rows `[B, T - 4, 64]` of pictures `[B, T, 48, 48]`: one for every five of them."""
        batch, count = pictures.shape[:2]
        seen = self.picture(pictures.reshape(batch * count, 1, SIDE, SIDE)).reshape(batch, count, -1)
        return functional.normalize(self.motion(seen.transpose(1, 2)).transpose(1, 2), dim=-1)

    def sound(self, levels: Tensor) -> Tensor:
        """Return unit rows `[B, (N - 10) // 2 + 1, 64]` of levels `[B, N, 40]`: one for every frame's ten of them."""
        return functional.normalize(self.hearing(levels.transpose(1, 2)).transpose(1, 2), dim=-1)


def tensors_of(network: HouseNet) -> dict[str, np.ndarray]:
    """Return the parameters of a network by name, as a record keeps them: without the counters of batches."""
    return {name: value.numpy().copy() for name, value in network.state_dict().items() if value.ndim}


def network_of(tensors: Mapping[str, np.ndarray]) -> HouseNet:
    """Return the network with parameters by name, ready to use.

    Raises:
        InputError: one is missing, unknown or of another shape.
    """
    network = HouseNet()
    counters = {name: value for name, value in network.state_dict().items() if not value.ndim}
    given = {name: torch.from_numpy(value) for name, value in tensors.items()}
    load_strictly(network, {**counters, **given}, "the record of sync_house")
    return network.eval().requires_grad_(False)


def levels_of(sound: np.ndarray, frames: int) -> np.ndarray:
    """Return `[2 frames, 40]` float32 levels of int16 samples at 16 kHz, of mean 0 and variance 1 where speech is.

    Entries 2 t to 2 t + 9 go with the frames t to t + 4. Beyond the sound it is silent.
    """
    fine = log_mel(sound, -1, A_FRAME * frames)
    scale = scale_of_levels(fine[1 : 1 + max(1, A_FRAME * len(sound) // SAMPLES_A_FRAME)])
    fine = np.clip((fine - scale.mean) / scale.spread, -LIMIT, LIMIT)
    return fine.reshape(len(fine), BANDS, FINE_BANDS // BANDS).mean(2).astype(np.float32)


def steadied(pictures: np.ndarray, seen: np.ndarray) -> np.ndarray | None:
    """Return pictures `[n, 48, 48]` float32 less their mean, over its contrast; 0 where none was seen.

    None: they do not change.
    """
    shown = pictures[seen].astype(np.float32)
    if not len(shown) or shown.std(0).mean() < DULLEST:
        return None
    mean = shown.mean(0)
    result = np.zeros(pictures.shape, np.float32)
    result[seen] = (shown - mean) / max(float(mean.std()), 1.0)
    return result


def shots_of(count: int, cuts: Sequence[int]) -> np.ndarray:
    """Return the number of each frame's shot, `[count]`."""
    return np.searchsorted(np.sort(np.asarray(cuts, int)), np.arange(count), "right")


def runs_of(seen: np.ndarray, cuts: Sequence[int] = ()) -> list[slice]:
    """Return the stretches of neighbouring frames of one shot that are seen, those that hold a window."""
    shot, frames = shots_of(len(seen), cuts), np.flatnonzero(seen)
    parts = np.split(frames, np.flatnonzero((np.diff(frames) > 1) | (np.diff(shot[frames]) > 0)) + 1)
    return [slice(int(part[0]), int(part[-1]) + 1) for part in parts if len(part) >= FRAMES]


def compare(
    network: HouseNet, pictures: np.ndarray, seen: np.ndarray, sound: np.ndarray, cuts: Sequence[int] = ()
) -> Synchrony:
    """Hold pictures of a mouth `[n, 48, 48]` against int16 samples at 16 kHz, from the first picture on."""
    count = len(pictures)
    windows = np.full((count, 2 * REACH + 1), np.nan)
    runs = runs_of(seen, cuts)
    if not runs:
        return Synchrony(windows, f"the face is not seen for {FRAMES} frames at a stretch")
    length = sum(run.stop - run.start for run in runs)
    if length < SHORTEST or max(run.stop - run.start for run in runs) < FRAMES + REACH:
        return Synchrony(
            windows, f"the face is seen for {length} frames, and {SHORTEST} are needed, some without a cut"
        )
    steady = steadied(pictures, seen)
    if steady is None:
        return Synchrony(windows, "the mouth does not change")
    heard = min(count, len(sound) // SAMPLES_A_FRAME)
    levels = levels_of(sound, max(heard, FRAMES))
    if heard < FRAMES + REACH or np.ptp(levels) < 1e-3:
        return Synchrony(windows, "the sound is silent or over before the face is seen")
    with torch.inference_mode():
        sounds = network.sound(torch.from_numpy(levels)[None])[0].numpy()
        for run in runs:
            lips = network.lips(torch.from_numpy(steady[run])[None])[0].numpy()
            own = np.full((len(lips), SIZE), np.nan, np.float32)
            with_sound = sounds[run.start : run.start + len(lips)]
            own[: len(with_sound)] = with_sound
            windows[run.start : run.start + len(lips)] = distances(lips, own, beyond=np.nan)
    return Synchrony(windows)


def measure(
    network: HouseNet, frames: Pictures, points: np.ndarray, sound: np.ndarray, cuts: Sequence[int] = ()
) -> Synchrony:
    """Hold lips against sound wherever a face is seen; arguments as of `models.sync.syncnet.measure`."""
    return compare(network, *mouths(frames, points, cuts), sound, cuts)
