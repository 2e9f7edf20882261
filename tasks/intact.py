"""Pictures that show nothing: blank ones, and what a decoder makes of the pictures that were predicted from one."""

from __future__ import annotations

import numpy as np

BLOCK = 16  # px, the side of a macroblock
FLAT = 6  # levels between the darkest and the brightest pixel of a flat block
ALIKE = 4  # levels between two blank blocks
DARK = 40  # level; a black picture is a pause in the film, what follows it is whole
STILL_BLANK = 0.1  # share of blank blocks from which on a predicted picture is not whole


class Intact:
    """Tells picture by picture whether it shows something.

    Some files begin with a key frame that was lost when they were made: it decodes to grey without any complaint, and
    until the next key frame only what moves appears on the grey.
    """

    def __init__(self) -> None:
        self._blank: float | None = None  # level of the blank key frame that pictures are predicted from

    def check(self, luma: np.ndarray, is_key: bool) -> bool:
        """Return whether the next picture of a file is whole.

        Args:
            luma: `[H, W]` uint8.
            is_key: whether it was decoded without reference to others.
        """
        if is_key:
            self._blank = None
        if self._blank is None and np.ptp(luma[::BLOCK, ::BLOCK]) > FLAT:
            return True
        rows, columns = max(1, luma.shape[0] // BLOCK), max(1, luma.shape[1] // BLOCK)
        height, width = min(BLOCK, luma.shape[0]), min(BLOCK, luma.shape[1])
        blocks = luma[: rows * height, : columns * width].reshape(rows, height, columns, width)
        least, most = blocks.min((1, 3)), blocks.max((1, 3))
        flat = most - least <= FLAT
        level = float(np.median(least)) if self._blank is None else self._blank
        share = float((flat & (np.abs(least - level) <= ALIKE)).mean())
        if share > 0.99:
            self._blank = level if level > DARK else None
            return False
        if share < STILL_BLANK:
            self._blank = None
        return self._blank is None
