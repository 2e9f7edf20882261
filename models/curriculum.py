"""Incremental sampling (TalkingGaussian, section 3.3): which training frame comes next.

The released code keeps drawing until a frame meets an absolute condition, and never returns when the clip has no such
frame. Here a window is a range of ranks among the frames themselves (0 the smallest, 1 the largest value), which every
clip can fill. `sampling="rejection"` reads the same windows as the released code does, and gives up after some rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from models.errors import InputError
from models.schedule import Row, Term

Sampling = Literal["ranks", "rejection"]
By = Literal["opening", "parting", "blink"]
"""The gap between the lips; the same up to its 95th percentile, which the mouth is taught by (as AU25); or AU45."""
ROUNDS = 20  # through all frames, after which rejection gives up
CLOSED = 5.0  # AU45 of a closed eye
PARTED = {25: 0.25, 95: 0.95}  # what parting is at these percentiles where ranks are not counted


@dataclass(frozen=True)
class Window:
    """Every so many steps, only frames whose rank lies in a window that travels as training goes on."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    by: By  # what is ranked
    every: int = 1  # steps
    offset: int = 0  # of the step within `every`
    phase: tuple[float, float] = (0.0, 1.0)  # the part of training after whose start and up to whose end it is there
    low: tuple[float, float] = (0.0, 0.0)  # lower end at the beginning and at the end of that part
    high: tuple[float, float] = (1.0, 1.0)  # upper end likewise

    def at(self, progress: float) -> tuple[float, float]:
        """Return the range of ranks at `progress` 0..1 of training."""
        first, last = self.phase
        share = (progress - first) / max(last - first, 1e-9)
        return tuple(a + (b - a) * share for a, b in (self.low, self.high))  # type: ignore[return-value]

    def rows(self, name: str, steps: int) -> list[Row]:
        """Describe it."""
        (low, low_end), (high, high_end) = self.low, self.high
        often = f" every {self.every}" if self.every > 1 else ""
        spans = dict.fromkeys((f"{low:.3g} to {high:.3g}", f"{low_end:.3g} to {high_end:.3g}"))
        says = f"{' → '.join(spans)}{often}"
        return [row._replace(says=says) for row in Term(1.0, *self.phase).rows(f"{name}: {self.by}", steps)]


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of every value, 0 for the smallest and 1 for the largest."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return order / max(1, len(values) - 1)


def absolute(by: str, values: np.ndarray) -> np.ndarray:
    """Return values as the released code compares them.

    Args:
        by: "blink": as a share of a closed eye. "opening": of their range. "parting": 0.25 at the 25th percentile, 0.95
            at the 95th, above which nothing counts.
        values: `[n]` pixels, or the intensity of AU45, 0 to 5.
    """
    if by == "blink":
        return values / CLOSED
    if by == "parting":
        (low, high), (at_low, at_high) = np.percentile(values, list(PARTED)), PARTED.values()
        share = at_high + (at_high - at_low) * (values - high) / max(high - low, 1e-9)
        return share.clip(max=at_high)
    low, high = float(values.min()), float(values.max())
    return (values - low) / max(high - low, 1e-9)


class FrameSampler:
    """Draws frames without replacement, refilled when empty, bent by windows."""

    def __init__(
        self,
        frames: np.ndarray,
        values: dict[str, np.ndarray],
        windows: tuple[Window, ...],
        seed: int,
        sampling: Sampling = "ranks",
    ):
        """Prepare.

        Args:
            frames: `[n]` frame indices to draw from.
            values: for every kind that a window names, `[T]` values indexed by frame.
            windows: the curriculum; where two apply to one step, the first does.
            seed: of the order.
            sampling: windows are ranges of "ranks", or of the values themselves, which are drawn by "rejection".

        Raises:
            ValueError: there are no frames.
        """
        if not len(frames):
            raise ValueError("there is no frame to train on")
        self.frames, self.windows, self.sampling = np.asarray(frames), windows, sampling
        kinds = {window.by: values[window.by][self.frames] for window in windows}
        self.places = {by: ranks(v) if sampling == "ranks" else absolute(by, v) for by, v in kinds.items()}
        self._random = np.random.default_rng(seed)
        self._waiting: list[int] = []  # positions in `frames`

    def draw(self, step: int, progress: float) -> int:
        """Return the frame for `step` (from 1) at `progress` 0..1 of training.

        Raises:
            InputError: sampling by rejection found no frame.
        """
        for window in self.windows:
            if step % window.every == window.offset and window.phase[0] < progress <= window.phase[1]:
                if self.sampling == "rejection":
                    return self._reject(window, progress)
                self._refill()
                return self._draw_from(self._inside(window, progress))
        self._refill()
        return int(self.frames[self._waiting.pop()])

    def _refill(self) -> None:
        if not self._waiting:
            self._waiting = self._random.permutation(len(self.frames)).tolist()

    def _reject(self, window: Window, progress: float) -> int:
        """Throw frames away until one meets the condition."""
        low, high = window.at(progress)
        for _ in range(ROUNDS * len(self.frames)):
            self._refill()
            place = self._waiting.pop()
            if low <= self.places[window.by][place] <= high:
                return int(self.frames[place])
        raise InputError(
            f"no training frame has a {window.by} of {low:.2f} to {high:.2f} of its range",
            f"sampling by rejection, as released, threw away {ROUNDS} times all frames; by itself it never ends",
            "set sampling: ranks in that phase",
        )

    def _inside(self, window: Window, progress: float) -> np.ndarray:
        low, high = window.at(progress)
        rank = self.places[window.by]
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
