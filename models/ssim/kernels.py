"""Numba kernels of SSIM, float32, forward and analytic backward.

Images stay `[H, W, C]`: a row of W C numbers is one vector, and a neighbour in x is C numbers away, so channels need no
loop of their own. The image is cut into bands of rows; a band blurs its rows, then down their columns, while they are
in cache. Bands are independent: any number of threads gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from models.ssim import C1, C2, RADIUS, window

# Numba keeps kernels until this file changes: a test asks for another digest when what it imports has changed.
_COMPILED_WITH = "3ac2a4ec71ca"

_f4 = np.float32
_U = np.uint64  # an unsigned index needs no test for negative values, which would keep LLVM from vectorising
_ZERO, _ONE, _TWO = _f4(0), _f4(1), _f4(2)
_C1, _C2 = _f4(C1), _f4(C2)
_W0, _W1, _W2, _W3, _W4, _W5 = (_f4(weight) for weight in window()[: RADIUS + 1].tolist())
_BAND = 64  # rows; each band blurs ten more than it keeps
_JIT = {
    "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"},
    "cache": True,
    "boundscheck": False,
    "error_model": "numpy",
}


@njit(inline="always", **_JIT)
def _taps(a, b, c, d, e, f, g, h, i, j, k):
    """Window mean of eleven neighbours."""
    return _W0 * (a + k) + _W1 * (b + j) + _W2 * (c + i) + _W3 * (d + h) + _W4 * (e + g) + _W5 * f


@njit(**_JIT)
def _blur_row(padded, channels, out):
    """Blur along a row; `padded` has 5 pixels of zeros at either end."""
    s1, s2, s3, s4, s5 = _U(channels), _U(2 * channels), _U(3 * channels), _U(4 * channels), _U(5 * channels)
    s6, s7, s8, s9, s10 = _U(6 * channels), _U(7 * channels), _U(8 * channels), _U(9 * channels), _U(10 * channels)
    for x in range(_U(out.shape[0])):
        out[x] = _taps(
            padded[x], padded[x + s1], padded[x + s2], padded[x + s3], padded[x + s4], padded[x + s5],
            padded[x + s6], padded[x + s7], padded[x + s8], padded[x + s9], padded[x + s10],
        )  # fmt: skip


@njit(**_JIT)
def _blur_column(rows, first, out):
    """Blur down the columns of eleven rows from `first` on."""
    for x in range(_U(out.shape[0])):
        out[x] = _taps(
            rows[first, x], rows[first + 1, x], rows[first + 2, x], rows[first + 3, x], rows[first + 4, x],
            rows[first + 5, x], rows[first + 6, x], rows[first + 7, x], rows[first + 8, x], rows[first + 9, x],
            rows[first + 10, x],
        )  # fmt: skip


@njit(**_JIT)
def _statistics(xs, ys, padded, pad):
    """Write x, y, x x, y y, x y of one row into the middle of the padded rows."""
    p0, p1, p2, p3, p4 = padded[0, pad:], padded[1, pad:], padded[2, pad:], padded[3, pad:], padded[4, pad:]
    for i in range(xs.shape[0]):
        x, y = xs[i], ys[i]
        p0[i] = x
        p1[i] = y
        p2[i] = x * x
        p3[i] = y * y
        p4[i] = x * y


@njit(**_JIT)
def _similarity(means, similarity, d_mean, d_square, d_product):
    for i in range(similarity.shape[0]):
        mx, my = means[0, i], means[1, i]
        var_sum = means[2, i] - mx * mx + means[3, i] - my * my
        covariance = means[4, i] - mx * my
        a, b = _TWO * mx * my + _C1, _TWO * covariance + _C2
        e, f = mx * mx + my * my + _C1, var_sum + _C2
        inverse = _ONE / (e * f)
        s = a * b * inverse
        similarity[i] = s
        d_mean[i] = _TWO * my * (b - a) * inverse - _TWO * mx * s * (f - e) * inverse
        d_square[i] = -s * e * inverse
        d_product[i] = _TWO * a * inverse


@njit(parallel=True, **_JIT)
def forward(image, target, channels, similarity, d_mean, d_square, d_product):
    """SSIM map and its derivatives with respect to three of the blurred statistics.

    Args:
        image, target: `[P, H, W C]`.
        channels: C.
        similarity: out, the map.
        d_mean, d_square, d_product: out, derivatives of the map with respect to the window means of x, x x and x y;
            the image's gradient is what their own blur returns (the window is symmetric).
    """
    count, height, width = image.shape
    pad = RADIUS * channels
    bands = (height + _BAND - 1) // _BAND
    for block in prange(count * bands):
        p, top = block // bands, block % bands * _BAND
        end = min(height, top + _BAND)
        padded = np.zeros((5, width + 2 * pad), np.float32)
        rows = np.zeros((5, _BAND + 2 * RADIUS, width), np.float32)
        means = np.empty((5, width), np.float32)
        for y in range(max(0, top - RADIUS), min(height, end + RADIUS)):
            _statistics(image[p, y], target[p, y], padded, pad)
            for k in range(5):
                _blur_row(padded[k], channels, rows[k, y - top + RADIUS])
        for y in range(top, end):
            for k in range(5):
                _blur_column(rows[k], y - top, means[k])
            _similarity(means, similarity[p, y], d_mean[p, y], d_square[p, y], d_product[p, y])


@njit(**_JIT)
def _weighted(upstream, derivative, padded):
    for i in range(upstream.shape[0]):
        padded[i] = upstream[i] * derivative[i]


@njit(parallel=True, **_JIT)
def backward(image, target, channels, upstream, d_mean, d_square, d_product, gradient):
    """Gradient of the image from `upstream`, the gradient of the map; all `[P, H, W C]`, the rest as in `forward`."""
    count, height, width = image.shape
    pad = RADIUS * channels
    bands = (height + _BAND - 1) // _BAND
    for block in prange(count * bands):
        p, top = block // bands, block % bands * _BAND
        end = min(height, top + _BAND)
        padded = np.zeros((3, width + 2 * pad), np.float32)
        rows = np.zeros((3, _BAND + 2 * RADIUS, width), np.float32)
        blurred = np.empty((3, width), np.float32)
        for y in range(max(0, top - RADIUS), min(height, end + RADIUS)):
            _weighted(upstream[p, y], d_mean[p, y], padded[0, pad:])
            _weighted(upstream[p, y], d_square[p, y], padded[1, pad:])
            _weighted(upstream[p, y], d_product[p, y], padded[2, pad:])
            for k in range(3):
                _blur_row(padded[k], channels, rows[k, y - top + RADIUS])
        for y in range(top, end):
            for k in range(3):
                _blur_column(rows[k], y - top, blurred[k])
            _combine(image[p, y], target[p, y], blurred, gradient[p, y])


@njit(**_JIT)
def _combine(xs, ys, blurred, gradient):
    """d/dx through x, x x and x y."""
    for i in range(gradient.shape[0]):
        gradient[i] = blurred[0, i] + _TWO * xs[i] * blurred[1, i] + ys[i] * blurred[2, i]
