"""Rectangles of pixels."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """A part of a frame, pixels; right and bottom are one past the last."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top

    @property
    def rows(self) -> slice:
        """Of an image."""
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        """Of an image."""
        return slice(self.left, self.right)

    def within(self, other: Box) -> Box:
        """Return this box in the coordinates of a crop `other` of the same frame."""
        x, y = other.left, other.top
        return Box(self.left - x, self.top - y, self.right - x, self.bottom - y)
