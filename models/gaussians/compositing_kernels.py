"""Numba kernels of `compositing`, float32: one pass over the pixels."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

_ONE, _ZERO = np.float32(1), np.float32(0)
_JIT = {"fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}, "cache": True, "error_model": "numpy"}


@njit(parallel=True, **_JIT)
def forward(image, alpha, behind, out):
    """`out` = `image` + (1 - `alpha`) `behind`; `[H, W, 3]` and `[H, W]`."""
    for y in prange(alpha.shape[0]):
        for x in range(alpha.shape[1]):
            through = _ONE - alpha[y, x]
            for channel in range(3):
                out[y, x, channel] = image[y, x, channel] + through * behind[y, x, channel]


@njit(parallel=True, **_JIT)
def backward(alpha, behind, upstream, v_alpha, v_behind):
    """Gradients of alpha and of what is behind from `upstream`, which is that of the image itself."""
    for y in prange(alpha.shape[0]):
        for x in range(alpha.shape[1]):
            through, total = _ONE - alpha[y, x], _ZERO
            for channel in range(3):
                total += upstream[y, x, channel] * behind[y, x, channel]
                v_behind[y, x, channel] = upstream[y, x, channel] * through
            v_alpha[y, x] = -total
