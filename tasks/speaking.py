"""What heads of all methods have in common: they hear speech features, and draw a picture of each moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

import numpy as np

Shot = TypeVar("Shot", contravariant=True)
Heard = TypeVar("Heard")


class Head(Protocol[Shot, Heard]):
    """A trained head, ready to draw."""

    def hear(self, values: np.ndarray) -> Iterable[Heard]:
        """Return for every entry of audio features `[T, D, W]` what the head takes from it."""
        ...

    def picture(self, shot: Shot, heard: Heard) -> np.ndarray:
        """Draw `[H, W, 3]` uint8: what is heard, and what the picture needs besides."""
        ...


def speak(head: Head[Shot, Heard], shots: Iterable[Shot], heard: Iterable[Heard]) -> Iterator[np.ndarray]:
    """Yield pictures `[H, W, 3]` uint8 of a head saying something.

    Args:
        head: who speaks.
        shots: what each picture needs besides the sound; may be endless.
        heard: of `head.hear`, for each picture.
    """
    for sound, shot in zip(heard, shots, strict=False):  # in this order no shot is taken in vain at the end
        yield head.picture(shot, sound)
