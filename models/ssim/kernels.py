"""Numba kernels of SSIM, float32, forward and analytic backward.

Images stay `[H, W, C]`: a row of W C numbers is one vector, and a neighbour in x is C numbers away, so channels need no
loop of their own. The image is cut into bands of rows; a band blurs down its columns with five running statistics at
once, then along the row, so that what it touches stays in cache. Bands are independent: any number of threads gives the
same bits.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from models.ssim import C1, C2, RADIUS, window

_f4 = np.float32
_ZERO, _ONE, _TWO = _f4(0), _f4(1), _f4(2)
_C1, _C2 = _f4(C1), _f4(C2)
_W0, _W1, _W2, _W3, _W4, _W5 = (_f4(weight) for weight in window()[: RADIUS + 1].tolist())
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
    s = np.uint64(channels)
    for x in range(np.uint64(out.shape[0])):
        out[x] = _taps(
            padded[x], padded[x + s], padded[x + 2 * s], padded[x + 3 * s], padded[x + 4 * s], padded[x + 5 * s],
            padded[x + 6 * s], padded[x + 7 * s], padded[x + 8 * s], padded[x + 9 * s], padded[x + 10 * s],
        )  # fmt: skip


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
    for r in prange(count * height):
        p, y = r // height, r % height
        columns = np.zeros((5, width + 2 * pad), np.float32)
        means = np.empty((5, width), np.float32)
        for tap in range(max(0, y - RADIUS), min(height, y + RADIUS + 1)):
            weight = _tap_weight(tap - y)
            xs, ys = image[p, tap], target[p, tap]
            _add_statistics(xs, ys, weight, columns, pad)
        for k in range(5):
            _blur_row(columns[k], channels, means[k])
        _similarity(means, similarity[p, y], d_mean[p, y], d_square[p, y], d_product[p, y])


@njit(**_JIT)
def _tap_weight(offset):
    distance = abs(offset)
    if distance == 0:
        return _W5
    if distance == 1:
        return _W4
    if distance == 2:
        return _W3
    if distance == 3:
        return _W2
    return _W1 if distance == 4 else _W0


@njit(**_JIT)
def _add_statistics(xs, ys, weight, columns, pad):
    c0, c1, c2, c3, c4 = columns[0, pad:], columns[1, pad:], columns[2, pad:], columns[3, pad:], columns[4, pad:]
    for i in range(xs.shape[0]):
        x, y = xs[i], ys[i]
        wx, wy = weight * x, weight * y
        c0[i] += wx
        c1[i] += wy
        c2[i] += wx * x
        c3[i] += wy * y
        c4[i] += wx * y


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
def backward(image, target, channels, upstream, d_mean, d_square, d_product, gradient):
    """Gradient of the image from `upstream`, the gradient of the map; all `[P, H, W C]`, the rest as in `forward`."""
    count, height, width = image.shape
    pad = RADIUS * channels
    for r in prange(count * height):
        p, y = r // height, r % height
        columns = np.zeros((3, width + 2 * pad), np.float32)
        blurred = np.empty((3, width), np.float32)
        for tap in range(max(0, y - RADIUS), min(height, y + RADIUS + 1)):
            weight = _tap_weight(tap - y)
            _add_weighted(upstream[p, tap], d_mean[p, tap], d_square[p, tap], d_product[p, tap], weight, columns, pad)
        for k in range(3):
            _blur_row(columns[k], channels, blurred[k])
        xs, ys, out = image[p, y], target[p, y], gradient[p, y]
        for i in range(width):
            out[i] = blurred[0, i] + _TWO * xs[i] * blurred[1, i] + ys[i] * blurred[2, i]


@njit(**_JIT)
def _add_weighted(upstream, d_mean, d_square, d_product, weight, columns, pad):
    c0, c1, c2 = columns[0, pad:], columns[1, pad:], columns[2, pad:]
    for i in range(upstream.shape[0]):
        g = weight * upstream[i]
        c0[i] += g * d_mean[i]
        c1[i] += g * d_square[i]
        c2[i] += g * d_product[i]
