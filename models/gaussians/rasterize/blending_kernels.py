"""Numba kernels of the CPU rasteriser: blending of a tile's Gaussians, forward and backward.

How they are fast, and deterministic for every number of threads:

* The image is cut into tiles 8 pixels wide (one AVX2 vector) and 16 high. Each tile's list of Gaussians is in depth
  order. Per Gaussian one long stride-1 loop runs over the tile rows that its ellipse crosses; the loop has selects in
  place of branches, so LLVM vectorises it.
* All per-pixel state of a tile sits in one flat scratch array at constant offsets, so that LLVM can see that the
  parts do not overlap and needs no run-time checks.
* `exp` is only ever needed on [0, 6] (alpha below 1/255 is dropped): a polynomial, multiplications and additions only.
* No atomics: each (tile, Gaussian) pair owns a row of gradients; the projection's backward sums each Gaussian's rows.

Channels: the first three ride in the fused loop. Further ones are blended from the stored weights, one plain loop per
channel, so any number works at run time and three cost what a three-channel kernel costs.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.polynomial import Chebyshev, Polynomial

from models.gaussians.rasterize import constants
from models.gaussians.rasterize.tiles import (
    FUSED,
    HALF,
    JIT,
    MOMENTS,
    ONE,
    PIXELS,
    TILE_H,
    TILE_W,
    ZERO,
    f4,
    int_ceil,
)

# Numba keeps kernels until this file changes: a test asks for another digest when what it imports has changed.
_COMPILED_WITH = "0c738e10ea79"

_ALPHA_MIN, _ALPHA_MAX = f4(constants.ALPHA_MIN), f4(constants.ALPHA_MAX)
_TRANSMITTANCE_MIN = f4(constants.TRANSMITTANCE_MIN)
_DEAD = f4(2)  # an alpha threshold that no alpha reaches
_SLACK = f4(0.01)  # pixels, against rounding in `_rows_crossed`

# exp(-s) = p(s / 8)^8 with p of degree 6: relative error below 2e-7 on [0, 6].
_EXP_RANGE = f4(6)
_EIGHTH = f4(0.125)
_P0, _P1, _P2, _P3, _P4, _P5, _P6 = (
    f4(c) for c in Chebyshev.interpolate(lambda u: np.exp(-u), 6, domain=[0, 0.75]).convert(kind=Polynomial).coef
)

# Offsets into a tile's scratch. Unsigned, so that Numba emits no test for negative indices.
_U = np.uint64
_X, _Y, _T, _LIMIT, _LAST, _C0, _C1, _C2, _DEPTH, _WEIGHT = (_U(k * PIXELS) for k in range(10))
_FORWARD_PLANES = 10
# The backward re-uses the first three and keeps the index of the last Gaussian, what lies behind (running), the
# upstream gradients of the fused channels, the other channels' part of the blended gradient, and alpha times T.
_B_LAST, _BEHIND, _G0, _G1, _G2, _G_REST, _SHARE = (_U(k * PIXELS) for k in range(3, 10))
_BACKWARD_PLANES = 10


@njit(inline="always", **JIT)
def _exp_minus(s):
    s = s if s < _EXP_RANGE else _EXP_RANGE
    u = s * _EIGHTH
    p = _P0 + u * (_P1 + u * (_P2 + u * (_P3 + u * (_P4 + u * (_P5 + u * _P6)))))
    p = p * p
    p = p * p
    return p * p


@njit(**JIT)
def _aligned(size):
    """Scratch that starts on a cache line, so that no vector lies across two."""
    memory = np.empty(size + 16, np.float32)
    start = -(memory.ctypes.data // 4) % 16
    return memory[start : start + size]


@njit(**JIT)
def _rows_crossed(splats, boxes, n, left, top):
    """First and end row of a tile that a Gaussian's ellipse meets within the tile's columns: fewer than its box does.

    With d = centre - pixel, the ellipse a dx^2 + 2 b dx dy + c dy^2 = reach^2 has dy = (-b dx +- root) / c with
    root^2 = reach^2 c - dx^2 / determinant. Its lowest point over a range of dx is at the lowest of all (dx = lean) if
    that is in the range, else at the end next to it, because the ellipse is convex; its highest mirrors that.
    """
    b, lean, inverse_determinant = splats[n, 3], splats[n, 6], splats[n, 7]
    reach2_c, inverse_c = splats[n, 8], splats[n, 9]
    near, far = splats[n, 0] - f4(left + TILE_W) + HALF, splats[n, 0] - f4(left) - HALF
    dx = min(far, max(near, lean))
    above = (math.sqrt(max(ZERO, reach2_c - dx * dx * inverse_determinant)) - b * dx) * inverse_c
    dx = min(far, max(near, -lean))
    below = (math.sqrt(max(ZERO, reach2_c - dx * dx * inverse_determinant)) + b * dx) * inverse_c
    center = splats[n, 1] - f4(top) - HALF
    begin = max(int_ceil(center - above - _SLACK, TILE_H), boxes[n, 4] - top)
    end = min(int_ceil(center + below + _SLACK, TILE_H), boxes[n, 5] - top)
    # Whole pairs of rows: 16 pixels are one AVX-512 vector, and what does not fill a vector is done pixel by pixel.
    begin = begin // 2 * 2
    return begin, max(begin, (end + 1) // 2 * 2)


@njit(inline="always", **JIT)
def _blend_splat(tile, begin, end, mx, my, a, b, c, opacity, c0, c1, c2, depth, index):
    """Blend one Gaussian into scratch pixels begin..end."""
    for p in range(begin, end):
        dx = mx - tile[p + _X]
        dy = my - tile[p + _Y]
        alpha = opacity * _exp_minus((a * dx + b * dy) * dx + c * dy * dy)
        alpha = alpha if alpha < _ALPHA_MAX else _ALPHA_MAX
        alpha = alpha if alpha >= tile[p + _LIMIT] else ZERO
        transmittance = tile[p + _T]
        dead = transmittance - transmittance * alpha <= _TRANSMITTANCE_MIN
        alpha = ZERO if dead else alpha
        weight = alpha * transmittance
        tile[p + _T] = transmittance - weight
        tile[p + _LIMIT] = _DEAD if dead else tile[p + _LIMIT]
        tile[p + _LAST] = index if alpha > ZERO else tile[p + _LAST]
        tile[p + _C0] += weight * c0
        tile[p + _C1] += weight * c1
        tile[p + _C2] += weight * c2
        tile[p + _DEPTH] += weight * depth
        tile[p + _WEIGHT] = weight


@njit(parallel=True, **JIT)
def blend(
    splats, features, depths, boxes, tile_starts, ids, background, image, alphas, depth_map, kept, used, spans, threads
):
    """Blend every tile front to back.

    Args:
        splats, boxes, depths: of `project`.
        features: `[N, C]`, C at least 3.
        tile_starts, ids: of `bin_tiles`.
        background: `[C]`.
        image: out `[H, W, C]`.
        alphas: out `[H, W]`.
        depth_map: out `[H, W]`.
        kept: out `[tiles, 2 PIXELS]` for the backward: index of the last Gaussian drawn, transmittance left.
        used: out `[tiles]` how many of a tile's Gaussians were drawn before every pixel was opaque.
        spans: out `[pairs, 2]` first and end tile row of each pair.
        threads: tiles are dealt out round-robin to this many workers; the result does not depend on it.
    """
    height, width = alphas.shape
    channels = features.shape[1]
    columns = (width + TILE_W - 1) // TILE_W
    for worker in prange(threads):
        tile = _aligned((_FORWARD_PLANES + channels - FUSED) * PIXELS)
        for t in range(worker, used.shape[0], threads):
            left, top = (t % columns) * TILE_W, (t // columns) * TILE_H
            tile[:] = ZERO
            for p in range(PIXELS):
                column, row = left + p % TILE_W, top + p // TILE_W
                tile[p + _X] = f4(column) + HALF
                tile[p + _Y] = f4(row) + HALF
                tile[p + _T] = ONE
                tile[p + _LIMIT] = _ALPHA_MIN if column < width and row < height else _DEAD
                tile[p + _LAST] = -ONE
            start, end = tile_starts[t], tile_starts[t + 1]
            i = start
            while i < end:
                stop = min(end, i + 32)
                # Ahead of the blending, where the latency of its square roots would be waited for.
                for j in range(i, stop):
                    spans[j, 0], spans[j, 1] = _rows_crossed(splats, boxes, ids[j], left, top)
                for j in range(i, stop):
                    n = ids[j]
                    begin_pixel, end_pixel = _U(spans[j, 0] * TILE_W), _U(spans[j, 1] * TILE_W)
                    _blend_splat(
                        tile, begin_pixel, end_pixel, splats[n, 0], splats[n, 1], splats[n, 2], splats[n, 3],
                        splats[n, 4], splats[n, 5], features[n, 0], features[n, 1], features[n, 2], depths[n],
                        f4(j - start),
                    )  # fmt: skip
                    for channel in range(FUSED, channels):
                        value = features[n, channel]
                        offset = _U((_FORWARD_PLANES + channel - FUSED) * PIXELS)
                        for p in range(begin_pixel, end_pixel):
                            tile[p + offset] += tile[p + _WEIGHT] * value
                i = stop
                # All pixels opaque? Asked once in a while: it costs as much as a Gaussian.
                limit = _DEAD
                for p in range(PIXELS):
                    limit = min(limit, tile[p + _LIMIT])
                if limit >= _DEAD:
                    break
            last = -ONE
            for row in range(min(TILE_H, height - top)):
                for column in range(min(TILE_W, width - left)):
                    p = _U(row * TILE_W + column)
                    transmittance = tile[p + _T]
                    y, x = top + row, left + column
                    image[y, x, 0] = tile[p + _C0] + transmittance * background[0]
                    image[y, x, 1] = tile[p + _C1] + transmittance * background[1]
                    image[y, x, 2] = tile[p + _C2] + transmittance * background[2]
                    for channel in range(FUSED, channels):
                        offset = _U((_FORWARD_PLANES + channel - FUSED) * PIXELS)
                        image[y, x, channel] = tile[p + offset] + transmittance * background[channel]
                    alphas[y, x] = ONE - transmittance
                    depth_map[y, x] = tile[p + _DEPTH]
                    last = max(last, tile[p + _LAST])
            for p in range(PIXELS):
                kept[t, p] = tile[p + _LAST]
                kept[t, PIXELS + p] = tile[p + _T]
            used[t] = int(last) + 1


@njit(parallel=True, **JIT)
def blend_backward(
    splats, features, boxes, tile_starts, ids, background, kept, used, spans, image_grad, alpha_grad, rows, threads
):
    """Walk every tile back to front and leave one row of gradients per (tile, Gaussian) pair.

    With g the upstream gradient, w_i = c_i . g and T_i the transmittance in front of Gaussian i,
    dL/dalpha_i = T_i w_i + B_i / (1 - alpha_i), where
    B_i = T_end (g_alpha - background . g) - sum_{k > i} alpha_k T_k w_k is one running number per pixel.
    Position, shape and opacity only need the moments of v = alpha dL/dalpha.

    Args:
        splats, features, boxes, tile_starts, ids, background, kept, used, spans, threads: as in `blend`.
        image_grad: `[H, W, C]`.
        alpha_grad: `[H, W]`.
        rows: out `[pairs, 6 + C]` sums over the tile of v, v dx, v dy, v dx dx, v dx dy, v dy dy; then dL/dfeatures.
    """
    height, width = alpha_grad.shape
    channels = features.shape[1]
    columns = (width + TILE_W - 1) // TILE_W
    for worker in prange(threads):
        tile = _aligned((_BACKWARD_PLANES + channels - FUSED) * PIXELS)
        for t in range(worker, used.shape[0], threads):
            left, top = (t % columns) * TILE_W, (t // columns) * TILE_H
            tile[:] = ZERO
            for p in range(PIXELS):
                column, row = left + p % TILE_W, top + p // TILE_W
                transmittance = kept[t, PIXELS + p]
                tile[p + _X] = f4(column) + HALF
                tile[p + _Y] = f4(row) + HALF
                tile[p + _T] = transmittance
                tile[p + _B_LAST] = kept[t, p]
                if column < width and row < height:
                    g0, g1, g2 = image_grad[row, column, 0], image_grad[row, column, 1], image_grad[row, column, 2]
                    tile[p + _G0], tile[p + _G1], tile[p + _G2] = g0, g1, g2
                    behind = alpha_grad[row, column] - (g0 * background[0] + g1 * background[1] + g2 * background[2])
                    for channel in range(FUSED, channels):
                        gradient = image_grad[row, column, channel]
                        tile[p + _U((_BACKWARD_PLANES + channel - FUSED) * PIXELS)] = gradient
                        behind -= gradient * background[channel]
                    tile[p + _BEHIND] = transmittance * behind
            start = tile_starts[t]
            for j in range(start + used[t], tile_starts[t + 1]):
                rows[j, :] = ZERO
            for j in range(start + used[t] - 1, start - 1, -1):
                n = ids[j]
                begin_pixel, end_pixel = _U(spans[j, 0] * TILE_W), _U(spans[j, 1] * TILE_W)
                index = f4(j - start)
                mx, my, a, b, c = splats[n, 0], splats[n, 1], splats[n, 2], splats[n, 3], splats[n, 4]
                opacity = splats[n, 5]
                c0, c1, c2 = features[n, 0], features[n, 1], features[n, 2]
                for channel in range(FUSED, channels):
                    value = features[n, channel]
                    keep = ZERO if channel == FUSED else ONE
                    offset = _U((_BACKWARD_PLANES + channel - FUSED) * PIXELS)
                    for p in range(begin_pixel, end_pixel):
                        tile[p + _G_REST] = tile[p + _G_REST] * keep + tile[p + offset] * value
                v_c0, v_c1, v_c2 = ZERO, ZERO, ZERO
                m, m_x, m_y, m_xx, m_xy, m_yy = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
                for p in range(begin_pixel, end_pixel):
                    dx = mx - tile[p + _X]
                    dy = my - tile[p + _Y]
                    raw = opacity * _exp_minus((a * dx + b * dy) * dx + c * dy * dy)
                    alpha = raw if raw < _ALPHA_MAX else _ALPHA_MAX
                    alpha = alpha if alpha >= _ALPHA_MIN else ZERO
                    alpha = alpha if index <= tile[p + _B_LAST] else ZERO
                    inverse = ONE / (ONE - alpha)
                    transmittance = tile[p + _T] * inverse
                    tile[p + _T] = transmittance
                    g0, g1, g2 = tile[p + _G0], tile[p + _G1], tile[p + _G2]
                    blended = c0 * g0 + c1 * g1 + c2 * g2 + tile[p + _G_REST]
                    share = alpha * transmittance
                    tile[p + _SHARE] = share
                    behind = tile[p + _BEHIND]
                    v = alpha * (transmittance * blended + behind * inverse)
                    v = v if raw <= _ALPHA_MAX else ZERO
                    tile[p + _BEHIND] = behind - share * blended
                    v_c0 += share * g0
                    v_c1 += share * g1
                    v_c2 += share * g2
                    m += v
                    v_x, v_y = v * dx, v * dy
                    m_x += v_x
                    m_y += v_y
                    m_xx += v_x * dx
                    m_xy += v_x * dy
                    m_yy += v_y * dy
                rows[j, 0], rows[j, 1], rows[j, 2] = m, m_x, m_y
                rows[j, 3], rows[j, 4], rows[j, 5] = m_xx, m_xy, m_yy
                rows[j, MOMENTS], rows[j, MOMENTS + 1], rows[j, MOMENTS + 2] = v_c0, v_c1, v_c2
                for channel in range(FUSED, channels):
                    offset = _U((_BACKWARD_PLANES + channel - FUSED) * PIXELS)
                    total = ZERO
                    for p in range(begin_pixel, end_pixel):
                        total += tile[p + _SHARE] * tile[p + offset]
                    rows[j, MOMENTS + channel] = total
