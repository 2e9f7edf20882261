"""What the Numba kernels of the CPU rasteriser share: tile sizes, compiler settings, float32 literals.

Compiled kernels are kept next to their file, and Numba only looks at that one file for changes: after an edit here or
in `constants`, the tests ask for another digest in the kernels' files, which makes it compile them anew.
"""

from __future__ import annotations

import numpy as np
from numba import njit

TILE_W, TILE_H = 8, 16
PIXELS = TILE_W * TILE_H
FUSED = 3  # channels of the fused loop
SPLAT = 10  # numbers per projected Gaussian
MOMENTS = 6  # of a gradient row, in front of its channels

# float32 throughout: one Python float would silently turn a loop to float64.
f4 = np.float32
ZERO, HALF, ONE, TWO = f4(0), f4(0.5), f4(1), f4(2)

# `nnan` and `ninf` are left out: a NaN in the input must not change the meaning of the comparisons that drop it.
JIT = {
    "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"},
    "cache": True,
    "boundscheck": False,
    "error_model": "numpy",
}


@njit(**JIT)
def int_ceil(x, limit):
    """Round up to an integer in 0..limit; a far x cannot overflow it, and Numba's own ceil is a slow call."""
    x = min(max(x, ZERO), f4(limit))
    below = np.int32(x)
    return below + np.int32(f4(below) < x)
