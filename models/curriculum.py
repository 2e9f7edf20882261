"""Incremental sampling (TalkingGaussian, section 3.3): which training frame comes next.

The released code keeps drawing until a frame meets an absolute condition, and never returns when the clip has no such
frame. Here a window is a range of ranks among the frames themselves (0 the smallest, 1 the largest value), which every
clip can fill.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np


@dataclass(frozen=True)
class Window:
    """Every so many steps, only frames whose rank lies in a window that travels as training goes on."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    by: Literal["opening", "blink"]  # what is ranked: the gap between the lips, or AU45
    every: int = 1  # steps
    phase: tuple[float, float] = (0.0, 1.0)  # the part of training in which the window is there
    low: tuple[float, float] = (0.0, 0.0)  # lower end at the beginning and at the end of that part
    high: tuple[float, float] = (1.0, 1.0)  # upper end likewise

    def at(self, progress: float) -> tuple[float, float]:
        """Return the range of ranks at `progress` 0..1 of training."""
        first, last = self.phase
        share = (progress - first) / max(last - first, 1e-9)
        return tuple(a + (b - a) * share for a, b in (self.low, self.high))  # type: ignore[return-value]


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of every value, 0 for the smallest and 1 for the largest."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return order / max(1, len(values) - 1)


class FrameSampler:
    """Draws frames without replacement, refilled when empty, bent by windows."""

    def __init__(self, frames: np.ndarray, values: dict[str, np.ndarray], windows: tuple[Window, ...], seed: int):
        """Prepare.

        Args:
            frames: `[n]` frame indices to draw from.
            values: for every kind that a window names, `[T]` values indexed by frame.
            windows: the curriculum; where two apply to one step, the first does.
            seed: of the order.

        Raises:
            ValueError: there are no frames.
        """
        if not len(frames):
            raise ValueError("there is no frame to train on")
        self.frames, self.windows = np.asarray(frames), windows
        self.ranks = {by: ranks(values[by][self.frames]) for by in {window.by for window in windows}}
        self._random = np.random.default_rng(seed)
        self._waiting: list[int] = []  # positions in `frames`

    def draw(self, step: int, progress: float) -> int:
        """Return the frame for `step` (from 1) at `progress` 0..1 of training."""
        if not self._waiting:
            self._waiting = self._random.permutation(len(self.frames)).tolist()
        for window in self.windows:
            if step % window.every == 0 and window.phase[0] <= progress < window.phase[1]:
                return self._draw_from(self._inside(window, progress))
        return int(self.frames[self._waiting.pop()])

    def _inside(self, window: Window, progress: float) -> np.ndarray:
        low, high = window.at(progress)
        rank = self.ranks[window.by]
        inside = (rank >= low) & (rank <= high)
        if not inside.any():  # narrower than the distance of two frames
            inside = np.abs(rank - (low + high) / 2) == np.abs(rank - (low + high) / 2).min()
        return inside

    def _draw_from(self, inside: np.ndarray) -> int:
        """Take the next waiting frame inside; the others wait on."""
        for place in range(len(self._waiting) - 1, -1, -1):
            if inside[self._waiting[place]]:
                return int(self.frames[self._waiting.pop(place)])
        # All of them have been drawn in this round: one more time.
        return int(self.frames[self._random.choice(np.flatnonzero(inside))])

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {"random": self._random.bit_generator.state, "waiting": list(self._waiting)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self._random.bit_generator.state = state["random"]
        self._waiting = list(state["waiting"])
