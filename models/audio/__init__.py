"""Speech features. Every module of this folder that has an `extract` is an extractor, named after its file.

What such a module has is written down in `Extractor`. Feature entries of any rate become one window a frame in
`models.audio.align`, and nowhere else.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from models.errors import UsageError, did_you_mean

NO_EXTRACTORS = {"__init__", "align", "frozen_graph", "pretrained"}


class Extractor(Protocol):
    """A module that turns sound into features."""

    REVISION: str
    """Changed whenever its numbers change."""
    RATE_HZ: float
    """Entries a second, before they are gathered into windows."""
    SIZE: int
    """Numbers in an entry."""
    WINDOW: int
    """Entries around a frame, where the user does not say otherwise: what the papers take."""
    ASSETS: tuple[str, ...]
    """The entries of data/assets.toml that it needs, in the order in which `extract` takes them."""

    def extract(
        self, sound: np.ndarray, frame_count: int, window: int, weights: Sequence[Path] = (), device: str = "cpu"
    ) -> np.ndarray:
        """Compute the features of a recording, in memory that does not grow with it but for the entries themselves.

        Args:
            sound: int16 `[S]` at 16 kHz.
            frame_count: frames at 25 a second, whatever the sound lasts.
            window: entries around each frame.
            weights: the files of `ASSETS`.
            device: of torch; an extractor that does not use it computes on the CPU.

        Returns:
            float32 `[frame_count, SIZE, window]`; entry t is centred on the instant t / 25 s.

        Raises:
            MissingAssetError: an optional package is not installed.
            InputError: a file of weights is not what it should be.
        """
        ...


@runtime_checkable
class Measured(Protocol):
    """An extractor that needs to know of the whole recording no more than its scale, so that it can follow live sound.

    Its `extract` takes a `scale`; without one it measures the recording that it is given.
    """

    Scale: Any
    """A named tuple of arrays `[SIZE]`."""

    def measure(self, sound: np.ndarray) -> Any:
        """Return the scale of a recording, int16 `[S]` at 16 kHz."""
        ...

    def reach(self, window: int) -> int:
        """Return how many samples before and after its instant a frame's window hears; none beyond change it."""
        ...


def names() -> list[str]:
    """Return the names of all extractors."""
    return sorted({path.stem for path in Path(__file__).parent.glob("*.py")} - NO_EXTRACTORS)


def extractor(name: str) -> Extractor:
    """Return the module of an extractor.

    Raises:
        UsageError: there is none of that name; the message lists those that are there.
    """
    if name not in names():
        fix = did_you_mean(name, names(), "choose one of those")
        raise UsageError(f"no audio extractor {name!r}", f"known: {', '.join(names())}", fix)
    return cast(Extractor, importlib.import_module(f"models.audio.{name}"))
