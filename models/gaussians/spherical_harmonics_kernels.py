"""Numba kernels of `spherical_harmonics`: basis, sum, offset and clamp in one pass over the Gaussians, float32."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from models.gaussians import spherical_harmonics as sh

# Numba keeps kernels until this file changes: a test asks for another digest when what it imports has changed.
_COMPILED_WITH = "4a1ed04721fb"

_f4 = np.float32
_ZERO, _ONE, _TWO, _THREE, _FOUR = _f4(0), _f4(1), _f4(2), _f4(3), _f4(4)
_OFFSET, _TINY = _f4(sh.COLOR_OFFSET), _f4(1e-12)
_Y0, _Y1 = _f4(sh.Y0), _f4(sh.Y1)
_Y20, _Y21, _Y22 = (_f4(factor) for factor in sh.Y2)
_Y30, _Y31, _Y32, _Y33, _Y34 = (_f4(factor) for factor in sh.Y3)
# No `nnan`, `ninf`: a NaN must come out as NaN.
_JIT = {"fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}, "cache": True, "error_model": "numpy"}


@njit(**_JIT)
def _basis(means, n, center, degree):
    """All 16 basis values, zero above the degree."""
    x, y, z = means[n, 0] - center[0], means[n, 1] - center[1], means[n, 2] - center[2]
    inverse = _ONE / max(math.sqrt(x * x + y * y + z * z), _TINY)
    x, y, z = x * inverse, y * inverse, z * inverse
    xx, yy, zz = x * x, y * y, z * z
    one = _ONE if degree >= 1 else _ZERO
    two = _ONE if degree >= 2 else _ZERO
    three = _ONE if degree >= 3 else _ZERO
    return (
        _Y0,
        -_Y1 * y * one, _Y1 * z * one, -_Y1 * x * one,
        _Y20 * x * y * two, -_Y20 * y * z * two, _Y21 * (_TWO * zz - xx - yy) * two, -_Y20 * x * z * two,
        _Y22 * (xx - yy) * two,
        -_Y30 * y * (_THREE * xx - yy) * three, _Y31 * x * y * z * three, -_Y32 * y * (_FOUR * zz - xx - yy) * three,
        _Y33 * z * (_TWO * zz - _THREE * (xx + yy)) * three, -_Y32 * x * (_FOUR * zz - xx - yy) * three,
        _Y34 * z * (xx - yy) * three, -_Y30 * x * (xx - _THREE * yy) * three,
    )  # fmt: skip


@njit(parallel=True, **_JIT)
def forward(means, center, degree, coefficients, colors):
    """Colours `[N, 3]` of coefficients `[N, K, 3]` seen from `center`."""
    used = (degree + 1) * (degree + 1)
    for n in prange(means.shape[0]):
        basis = _basis(means, n, center, degree)
        red, green, blue = _OFFSET, _OFFSET, _OFFSET
        for k in range(used):
            red += basis[k] * coefficients[n, k, 0]
            green += basis[k] * coefficients[n, k, 1]
            blue += basis[k] * coefficients[n, k, 2]
        # Written so that NaN passes: it must reach whoever watches the loss.
        colors[n, 0] = _ZERO if red < _ZERO else red
        colors[n, 1] = _ZERO if green < _ZERO else green
        colors[n, 2] = _ZERO if blue < _ZERO else blue


@njit(parallel=True, **_JIT)
def backward(means, center, degree, colors, gradient, v_coefficients):
    """Gradient `[N, K, 3]` with respect to the coefficients; clamped colours pass none."""
    used = (degree + 1) * (degree + 1)
    for n in prange(means.shape[0]):
        basis = _basis(means, n, center, degree)
        red = gradient[n, 0] if colors[n, 0] > _ZERO else _ZERO
        green = gradient[n, 1] if colors[n, 1] > _ZERO else _ZERO
        blue = gradient[n, 2] if colors[n, 2] > _ZERO else _ZERO
        for k in range(used):
            v_coefficients[n, k, 0] = basis[k] * red
            v_coefficients[n, k, 1] = basis[k] * green
            v_coefficients[n, k, 2] = basis[k] * blue
        for k in range(used, v_coefficients.shape[1]):
            v_coefficients[n, k, 0] = _ZERO
            v_coefficients[n, k, 1] = _ZERO
            v_coefficients[n, k, 2] = _ZERO
