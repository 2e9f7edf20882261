"""Numba kernels of the tri-plane grid encoder, float32.

The layout is feature-major: one output row per (plane, level, feature), points along it. The loop over points is then
innermost and its table look-ups vectorise as gathers. Backward, each (plane, level) owns its slice of the table, so
threads never share a row: no atomics, and the same sums in the same order for every number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from models.encoders.hashgrid import HASH_PRIME

_f4, _u4 = np.float32, np.uint32
_ZERO, _HALF, _ONE = _f4(0), _f4(0.5), _f4(1)
_U1 = _u4(1)
_PRIME = _u4(HASH_PRIME)
_CHUNK = 2048  # points whose position gradients one worker accumulates in cache
_JIT = {
    "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"},
    "cache": True,
    "boundscheck": False,
    "error_model": "numpy",
}


@njit(inline="always", **_JIT)
def _cell(u, scale):
    """Lattice point below a position in 0..1, and the fraction of the cell."""
    position = u * scale + _HALF
    corner = np.int32(position)
    return _u4(corner), position - _f4(corner)


@njit(inline="always", **_JIT)
def _row(x, y, stride, rows, hashed):
    """Row of a level's table. `hashed` is the same for a whole level, so LLVM makes two loops of the one written."""
    if hashed:
        return (x ^ (y * _PRIME)) & (rows - _U1)  # a hashed level's rows are a power of two
    index = x + y * stride
    return index if index < rows else index - rows


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
def forward(unit, inside, table, scales, strides, offsets, rows, hashed, planes, out):
    """Encode.

    Args:
        unit, inside: `[3, N]` of `to_unit`.
        table: `[3, R, F]`.
        scales, strides, offsets, rows, hashed: `[L]`, of the levels.
        planes: `[3, 2]` axes.
        out: out `[3 L F, N]`.
    """
    features = table.shape[2]
    levels = scales.shape[0]
    for q in prange(out.shape[0]):
        feature, level, plane = q % features, q // features % levels, q // features // levels
        xs, ys = unit[planes[plane, 0]], unit[planes[plane, 1]]
        in_x, in_y = inside[planes[plane, 0]], inside[planes[plane, 1]]
        weights = table[plane, offsets[level] :, feature]
        scale, stride, size, is_hashed = scales[level], strides[level], rows[level], hashed[level]
        encoded = out[q]
        for n in range(encoded.shape[0]):
            x, fx = _cell(xs[n], scale)
            y, fy = _cell(ys[n], scale)
            t00 = weights[_row(x, y, stride, size, is_hashed)]
            t10 = weights[_row(x + _U1, y, stride, size, is_hashed)]
            t01 = weights[_row(x, y + _U1, stride, size, is_hashed)]
            t11 = weights[_row(x + _U1, y + _U1, stride, size, is_hashed)]
            near = t00 + fx * (t10 - t00)
            far = t01 + fx * (t11 - t01)
            encoded[n] = (near + fy * (far - near)) * (in_x[n] * in_y[n])


@njit(parallel=True, **_JIT)
def backward_table(unit, inside, scales, strides, offsets, rows, hashed, planes, gradient, v_table):
    """Gradient of the table `[3, R, F]` from `gradient` `[3 L F, N]`; the rest as in `forward`."""
    features = v_table.shape[2]
    levels = scales.shape[0]
    for block in prange(3 * levels):
        level, plane = block % levels, block // levels
        xs, ys = unit[planes[plane, 0]], unit[planes[plane, 1]]
        in_x, in_y = inside[planes[plane, 0]], inside[planes[plane, 1]]
        scale, stride, size, is_hashed = scales[level], strides[level], rows[level], hashed[level]
        v_table[plane, offsets[level] : offsets[level] + size] = _ZERO
        for feature in range(features):
            v_weights = v_table[plane, offsets[level] :, feature]
            upstream = gradient[block * features + feature]
            for n in range(upstream.shape[0]):
                x, fx = _cell(xs[n], scale)
                y, fy = _cell(ys[n], scale)
                g = upstream[n] * (in_x[n] * in_y[n])
                gx, gy = g * fx, g * fy
                gxy = gx * fy
                v_weights[_row(x, y, stride, size, is_hashed)] += g - gx - gy + gxy
                v_weights[_row(x + _U1, y, stride, size, is_hashed)] += gx - gxy
                v_weights[_row(x, y + _U1, stride, size, is_hashed)] += gy - gxy
                v_weights[_row(x + _U1, y + _U1, stride, size, is_hashed)] += gxy


@njit(parallel=True, **_JIT)
def backward_points(unit, inside, table, scales, strides, offsets, rows, hashed, planes, gradient, v_unit):
    """Gradient `[3, N]` of the positions in 0..1; the rest as in `backward_table`."""
    features = table.shape[2]
    levels = scales.shape[0]
    count = unit.shape[1]
    for chunk in prange((count + _CHUNK - 1) // _CHUNK):
        begin, end = chunk * _CHUNK, min(count, (chunk + 1) * _CHUNK)
        v_unit[:, begin:end] = _ZERO
        for q in range(gradient.shape[0]):
            feature, level, plane = q % features, q // features % levels, q // features // levels
            xs, ys = unit[planes[plane, 0], begin:end], unit[planes[plane, 1], begin:end]
            in_x, in_y = inside[planes[plane, 0], begin:end], inside[planes[plane, 1], begin:end]
            v_xs, v_ys = v_unit[planes[plane, 0], begin:end], v_unit[planes[plane, 1], begin:end]
            weights = table[plane, offsets[level] :, feature]
            scale, stride, size, is_hashed = scales[level], strides[level], rows[level], hashed[level]
            upstream = gradient[q, begin:end]
            for n in range(end - begin):
                x, fx = _cell(xs[n], scale)
                y, fy = _cell(ys[n], scale)
                t00 = weights[_row(x, y, stride, size, is_hashed)]
                across = weights[_row(x + _U1, y, stride, size, is_hashed)] - t00
                t01 = weights[_row(x, y + _U1, stride, size, is_hashed)]
                twist = weights[_row(x + _U1, y + _U1, stride, size, is_hashed)] - t01 - across
                g = upstream[n] * scale * (in_x[n] * in_y[n])
                v_xs[n] += g * (across + fy * twist)
                v_ys[n] += g * (t01 - t00 + fx * twist)
