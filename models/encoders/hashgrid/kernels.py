"""Numba kernels of the tri-plane grid encoder, float32.

The layout is feature-major: one output row per (plane, level, feature), points along it. Points go through in blocks
of 256: a first loop writes the four table rows and the two fractions of each point to scratch, a second interpolates.
Both loops are simple enough to vectorise (the second as gathers), the features of a level share the first, and it is
the only place that knows how rows are numbered.

Backward, each (plane, level) owns its slice of the table, so threads never share a row: no atomics, and the same sums
in the same order for every number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from models.encoders.hashgrid import HASH_PRIME

# Numba keeps kernels until this file changes: a test asks for another digest when what it imports has changed.
_COMPILED_WITH = "3e3aecdf55c7"

_f4, _u4 = np.float32, np.uint32
_ZERO, _HALF, _ONE = _f4(0), _f4(0.5), _f4(1)
_U1 = _u4(1)
_PRIME = _u4(HASH_PRIME)
_BLOCK = 256  # points located at a time; their scratch stays in the first-level cache
_JIT = {
    "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"},
    "cache": True,
    "boundscheck": False,
    "error_model": "numpy",
}


@njit(**_JIT)
def _locate(xs, ys, scale, stride, size, hashed, features, corners, fractions):
    """Find the cells of positions in 0..1.

    Args:
        xs, ys: `[n]`, n at most 256.
        scale, stride, size, hashed: of the level.
        features: numbers per row.
        corners: out `[4, 256]` where in the level's flat table the rows of the corners (0, 0), (1, 0), (0, 1), (1, 1)
            begin.
        fractions: out `[2, 256]` position within the cell.
    """
    c00, c10, c01, c11 = corners[0], corners[1], corners[2], corners[3]
    fx, fy = fractions[0], fractions[1]
    mask = size - _U1  # a hashed level's rows are a power of two
    for n in range(xs.shape[0]):
        x, y = xs[n] * scale + _HALF, ys[n] * scale + _HALF
        column, row = np.int32(x), np.int32(y)
        fx[n], fy[n] = x - _f4(column), y - _f4(row)
        c00[n], c10[n] = _u4(column), _u4(row)
    if hashed:
        for n in range(xs.shape[0]):
            column, line = c00[n], c10[n] * _PRIME
            next_column, next_line = column + _U1, line + _PRIME
            c00[n], c10[n] = ((column ^ line) & mask) * features, ((next_column ^ line) & mask) * features
            c01[n], c11[n] = ((column ^ next_line) & mask) * features, ((next_column ^ next_line) & mask) * features
    else:
        for n in range(xs.shape[0]):
            index = c00[n] + c10[n] * stride
            above = index + stride
            # index modulo size: an index below it wraps to a huge number when size is taken off.
            c00[n], c10[n] = index * features, min(index + _U1, index + _U1 - size) * features
            c01[n], c11[n] = min(above, above - size) * features, min(above + _U1, above + _U1 - size) * features


@njit(**_JIT)
def to_unit(points, inverse_side, unit, inside):
    """Bring `[N, 3]` points to 0..1 as `[3, N]`; outside ones go to 0 with `inside` 0, else 1."""
    for n in range(points.shape[0]):
        for axis in range(3):
            u = points[n, axis] * inverse_side + _HALF
            within = u >= _ZERO and u <= _ONE
            unit[axis, n] = u if within else _ZERO
            inside[axis, n] = _ONE if within else _ZERO


@njit(parallel=True, **_JIT)
def forward(unit, inside, table, out, scales, strides, offsets, rows, hashed, planes, features):
    """Encode.

    Args:
        unit, inside: `[3, N]` of `to_unit`.
        table: `[3, R F]`.
        out: out `[3 L F, N]`.
        scales, strides, offsets, rows, hashed: `[L]`, of the levels.
        planes: `[3, 2]` axes.
        features: F, as uint32.
    """
    levels, count = scales.shape[0], unit.shape[1]
    for q in prange(3 * levels):
        level, plane = q % levels, q // levels
        axis_x, axis_y = planes[plane, 0], planes[plane, 1]
        corners, fractions = np.empty((4, _BLOCK), np.uint32), np.empty((2, _BLOCK), np.float32)
        for begin in range(0, count, _BLOCK):
            end = min(count, begin + _BLOCK)
            _locate(
                unit[axis_x, begin:end], unit[axis_y, begin:end], scales[level], strides[level], rows[level],
                hashed[level], features, corners, fractions,
            )  # fmt: skip
            for feature in range(features):
                _interpolate(
                    table[plane, offsets[level] * features + feature :], corners, fractions, inside[axis_x, begin:end],
                    inside[axis_y, begin:end], out[q * features + feature, begin:end],
                )  # fmt: skip


@njit(**_JIT)
def _interpolate(weights, corners, fractions, in_x, in_y, out):
    for n in range(out.shape[0]):
        fx, fy = fractions[0, n], fractions[1, n]
        t00, t01 = weights[corners[0, n]], weights[corners[2, n]]
        near = t00 + fx * (weights[corners[1, n]] - t00)
        far = t01 + fx * (weights[corners[3, n]] - t01)
        out[n] = (near + fy * (far - near)) * (in_x[n] * in_y[n])


@njit(parallel=True, **_JIT)
def backward_table(unit, inside, upstream, v_table, scales, strides, offsets, rows, hashed, planes, features):
    """Gradient of the table `[3, R F]` from `upstream` `[3 L F, N]`; the rest as in `forward`."""
    levels, count = scales.shape[0], unit.shape[1]
    for q in prange(3 * levels):
        level, plane = q % levels, q // levels
        axis_x, axis_y = planes[plane, 0], planes[plane, 1]
        corners, fractions = np.empty((4, _BLOCK), np.uint32), np.empty((2, _BLOCK), np.float32)
        first = offsets[level] * features
        v_table[plane, first : first + rows[level] * features] = _ZERO
        for begin in range(0, count, _BLOCK):
            end = min(count, begin + _BLOCK)
            _locate(
                unit[axis_x, begin:end], unit[axis_y, begin:end], scales[level], strides[level], rows[level],
                hashed[level], features, corners, fractions,
            )  # fmt: skip
            for feature in range(features):
                _scatter(
                    upstream[q * features + feature, begin:end], corners, fractions, inside[axis_x, begin:end],
                    inside[axis_y, begin:end], v_table[plane, first + feature :],
                )  # fmt: skip


@njit(**_JIT)
def _scatter(upstream, corners, fractions, in_x, in_y, v_weights):
    for n in range(upstream.shape[0]):
        fx, fy = fractions[0, n], fractions[1, n]
        g = upstream[n] * (in_x[n] * in_y[n])
        gx, gy = g * fx, g * fy
        gxy = gx * fy
        v_weights[corners[0, n]] += g - gx - gy + gxy
        v_weights[corners[1, n]] += gx - gxy
        v_weights[corners[2, n]] += gy - gxy
        v_weights[corners[3, n]] += gxy


@njit(parallel=True, **_JIT)
def backward_points(unit, inside, table, upstream, v_unit, scales, strides, offsets, rows, hashed, planes, features):
    """Gradient `[3, N]` of the positions in 0..1; the rest as in `forward` and `backward_table`."""
    levels, count = scales.shape[0], unit.shape[1]
    for block in prange((count + _BLOCK - 1) // _BLOCK):
        begin, end = block * _BLOCK, min(count, (block + 1) * _BLOCK)
        corners, fractions = np.empty((4, _BLOCK), np.uint32), np.empty((2, _BLOCK), np.float32)
        v_unit[:, begin:end] = _ZERO
        for q in range(3 * levels):
            level, plane = q % levels, q // levels
            axis_x, axis_y = planes[plane, 0], planes[plane, 1]
            _locate(
                unit[axis_x, begin:end], unit[axis_y, begin:end], scales[level], strides[level], rows[level],
                hashed[level], features, corners, fractions,
            )  # fmt: skip
            for feature in range(features):
                _slope(
                    upstream[q * features + feature, begin:end], scales[level],
                    table[plane, offsets[level] * features + feature :], corners, fractions, inside[axis_x, begin:end],
                    inside[axis_y, begin:end], v_unit[axis_x, begin:end], v_unit[axis_y, begin:end],
                )  # fmt: skip


@njit(**_JIT)
def _slope(upstream, scale, weights, corners, fractions, in_x, in_y, v_xs, v_ys):
    for n in range(upstream.shape[0]):
        fx, fy = fractions[0, n], fractions[1, n]
        t00, t01 = weights[corners[0, n]], weights[corners[2, n]]
        across = weights[corners[1, n]] - t00
        twist = weights[corners[3, n]] - t01 - across
        g = upstream[n] * scale * (in_x[n] * in_y[n])
        v_xs[n] += g * (across + fy * twist)
        v_ys[n] += g * (t01 - t00 + fx * twist)
