"""How the house's own SyncNet learns from clips, and how well it then finds lags that were planted.

A window of lips is to be most like the sound of its own moment among those of 31 lags of the same clip: the harder the
wrong ones, the less a voice or a face alone can tell (Oord et al., Representation learning with contrastive predictive
coding, 2018). A frame beside the right one is half right: lips and sound are not that exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.sync import lags
from models.sync.house import (
    A_FRAME,
    ENTRIES,
    FRAMES,
    SAMPLES_A_FRAME,
    HouseNet,
    compare,
    levels_of,
    shots_of,
    steadied,
)
from models.sync.lags import REACH

WINDOWS = 24  # neighbours that are learnt from together
STRETCHES = 6  # of them in a step, from anywhere
FRAMES_NEEDED = WINDOWS + FRAMES - 1 + 2 * REACH
RATE, DECAY, WARM_UP = 2e-3, 0.05, 0.1
SHARPNESS = 10.0  # of the likenesses, at first
RIGHT, BESIDE = 0.5, 0.25
PLANTED = 10  # frames either way
CLOSE = 1  # frames by which a found lag may be off
TRIED_S, EVERY, MOST = 2.0, 10, 40  # length of an excerpt, frames from one to the next, and how many of a clip


@dataclass(frozen=True)
class Footage:
    """A clip's mouths and sound.

    Attributes:
        pictures: `[n, 48, 48]` uint8.
        seen: bool `[n]`.
        sound: int16 samples at 16 kHz.
        cuts: first frames of new shots.
        learnt: bool `[n]`, the frames to learn from.
    """

    pictures: np.ndarray
    seen: np.ndarray
    sound: np.ndarray
    cuts: Sequence[int]
    learnt: np.ndarray


@dataclass(frozen=True)
class Found:
    """How many planted lags were found to a frame, of how many, in how many excerpts, and of how many frames those are.

    Excerpts overlap: many of them from a few seconds are no more footage than that.
    """

    found: int = 0
    tried: int = 0
    excerpts: int = 0
    frames: int = 0

    def __add__(self, other: Found) -> Found:
        return Found(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def seconds(self) -> float:
        """Of footage that the excerpts are from."""
        return self.frames / 25

    @property
    def share(self) -> float:
        """Of 1; NaN where nothing was tried."""
        return self.found / self.tried if self.tried else float("nan")


class Lessons:
    """Stretches of clips, drawn at random and changed a little, as recordings and renderings differ."""

    def __init__(self, clips: Sequence[Footage], seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._clips: list[tuple[np.ndarray, np.ndarray]] = []
        self.starts: list[tuple[int, int]] = []
        for clip in clips:
            steady = steadied(clip.pictures, clip.seen & clip.learnt)
            if steady is None:
                continue
            levels = levels_of(clip.sound, len(clip.pictures))
            self.starts += [(len(self._clips), start) for start in _starts(clip)]
            self._clips.append((steady, levels))

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return pictures `[6, 28, 48, 48]` and the levels `[6, 114, 40]` of their windows and 15 more either way."""
        chosen = [self.starts[k] for k in self._random.integers(0, len(self.starts), STRETCHES)]
        pictures, levels = [], []
        for clip, start in chosen:
            steady, heard = self._clips[clip]
            pictures.append(steady[start + REACH : start + REACH + WINDOWS + FRAMES - 1])
            entries = A_FRAME * (WINDOWS + 2 * REACH - 1) + ENTRIES
            levels.append(self._heard(heard[A_FRAME * start : A_FRAME * start + entries]))
        return self._seen(torch.from_numpy(np.stack(pictures))), torch.from_numpy(np.stack(levels))

    def _heard(self, levels: np.ndarray) -> np.ndarray:
        """Change loudness and colour; lay noise over half of the stretches; take some bands away from half of them."""
        random, bands = self._random, levels.shape[1]
        levels = levels + 0.3 * random.standard_normal() + np.cumsum(0.08 * random.standard_normal(bands))
        if random.random() < 0.5:
            levels = np.maximum(levels, random.uniform(-3, -0.5) + 0.3 * random.standard_normal(levels.shape))
        if random.random() < 0.5:
            first = int(random.integers(0, bands - 6))
            levels[:, first : first + int(random.integers(1, 6))] = 0
        return levels.astype(np.float32)

    def _seen(self, pictures: Tensor) -> Tensor:
        """Shift, turn, scale, mirror, tint and blur each stretch; add noise."""
        count = len(pictures)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=self._generator)

        turn, scale = 0.05 * normal(count), 1 + 0.05 * normal(count)
        side = torch.where(torch.rand(count, generator=self._generator) < 0.5, -1.0, 1.0)
        c, s = scale * torch.cos(turn), scale * torch.sin(turn)
        rows = torch.stack([torch.stack([c * side, -s], 1), torch.stack([s * side, c], 1)], 1)
        moves = torch.cat([rows, 0.05 * normal(count, 2, 1)], 2)
        grid = functional.affine_grid(moves, list(pictures.shape), align_corners=False)
        pictures = functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
        soft = functional.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)
        pictures = torch.where(torch.rand(count, 1, 1, 1, generator=self._generator) < 0.3, soft, pictures)
        pictures = pictures * (1 + 0.15 * normal(count, 1, 1, 1)) + 0.15 * normal(count, 1, 1, 1)
        return pictures + 0.05 * normal(*pictures.shape)


def _starts(clip: Footage) -> Iterator[int]:
    """Yield every frame at which a stretch of `FRAMES_NEEDED` frames of one shot that are learnt from begins.

    A face must be seen in those whose lips are looked at; the others are only heard.
    """
    shot = shots_of(len(clip.seen), clip.cuts)
    for start in range(len(clip.seen) - FRAMES_NEEDED + 1):
        heard = slice(start, start + FRAMES_NEEDED)
        looked_at = slice(start + REACH, start + FRAMES_NEEDED - REACH)
        if clip.learnt[heard].all() and clip.seen[looked_at].all() and shot[heard.start] == shot[heard.stop - 1]:
            yield start


def difference(network: HouseNet, sharpness: Tensor, pictures: Tensor, levels: Tensor) -> Tensor:
    """Return how badly the own sound is told from that of 30 other moments: cross entropy over the lags, the mean."""
    lips, sounds = network.lips(pictures), network.sound(levels).unfold(1, 2 * REACH + 1, 1)
    likeness = sharpness.exp() * torch.einsum("bwd,bwdk->bwk", lips, sounds)
    wanted = torch.zeros(2 * REACH + 1)
    wanted[REACH - 1 : REACH + 2] = torch.tensor([BESIDE, RIGHT, BESIDE])
    return -(functional.log_softmax(likeness, -1) * wanted).sum(-1).mean()


def learn(
    lessons: Lessons, steps: int, seed: int, tell: Callable[[int, float], None] = lambda *_: None
) -> tuple[HouseNet, list[float]]:
    """Train a network; return it ready to use, and the loss of every step.

    Args:
        lessons: with at least one stretch.
        steps: of AdamW (Loshchilov and Hutter, 2019), the rate rising at first and falling to nought.
        seed: of the parameters at first and of what is dropped.
        tell: called with the number of a step and its loss.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, sharpness = HouseNet(), nn.Parameter(torch.tensor(np.log(SHARPNESS)))
        optimizer = torch.optim.AdamW([*network.parameters(), sharpness], RATE, weight_decay=DECAY)
        rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(steps, 2), pct_start=WARM_UP)
        losses: list[float] = []
        for step in range(steps):
            loss = difference(network, sharpness, *lessons.draw())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rates.step()
            losses.append(loss.item())
            tell(step, losses[-1])
    return network.eval().requires_grad_(False), losses


def find_planted(network: HouseNet, clip: Footage, unseen: np.ndarray) -> Found:
    """Shift the sound of excerpts of 2 s by -10 to 10 frames, and count how often the lag found is that to a frame.

    Pictures and sound are cut to the excerpt before they are compared, as two files of 2 s would be.

    Args:
        network: to be judged.
        clip: the footage.
        unseen: bool `[n]`, the frames that excerpts may be of.
    """
    length, result = round(TRIED_S * 25), Found()
    shot = shots_of(len(clip.seen), clip.cuts)

    def whole(first: int, frames: np.ndarray) -> bool:
        own = slice(first, first + length)
        if not 0 <= first <= len(frames) - length:
            return False
        return bool(frames[own].all()) and shot[own.start] == shot[own.stop - 1]

    covered = np.zeros(len(shot), bool)
    starts = [start for start in range(0, len(shot), EVERY) if whole(start, unseen & clip.seen)]
    for k in np.unique(np.linspace(0, len(starts) - 1, min(MOST, len(starts))).round().astype(int)):
        own = slice(starts[k], starts[k] + length)
        planted = [lag for lag in range(-PLANTED, PLANTED + 1) if whole(own.start + lag, unseen)]
        hits = 0
        for lag in planted:
            sound = clip.sound[SAMPLES_A_FRAME * (own.start + lag) : SAMPLES_A_FRAME * (own.stop + lag)]
            found = lags.lag(compare(network, clip.pictures[own], clip.seen[own], sound).windows)
            hits += abs(found - lag) <= CLOSE
        covered[own] = True
        result += Found(hits, len(planted), 1)
    return replace(result, frames=int(covered.sum()))
