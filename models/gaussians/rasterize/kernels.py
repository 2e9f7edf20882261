"""Numba kernels of the CPU rasteriser: projection, binning and blending, forward and backward, in float32.

How they are fast, and deterministic for every number of threads:

* The image is cut into tiles 8 pixels wide (one AVX2 vector) and 16 high. Each tile's list of Gaussians is in depth
  order. Per Gaussian one long stride-1 loop runs over the tile rows that its box touches; the loop has selects in
  place of branches, so LLVM vectorises it.
* All per-pixel state of a tile sits in one flat scratch array at constant offsets, so that LLVM can see that the
  parts do not overlap and needs no run-time checks.
* `exp` is only ever needed on [0, 6] (alpha below 1/255 is dropped): a polynomial, multiplications and additions only.
* No atomics: each (tile, Gaussian) pair owns a row of gradients; a later pass sums each Gaussian's rows in one order.

Channels: the first three ride in the fused loop. Further ones are blended from the stored weights, one plain loop per
channel, so any number works at run time and three cost what a three-channel kernel costs.

Literals are float32 throughout: one Python float would silently turn a loop to float64.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.polynomial import Chebyshev, Polynomial

from models.gaussians.rasterize import constants

TILE_W, TILE_H = 8, 16
PIXELS = TILE_W * TILE_H
FUSED = 3  # channels of the fused loop
SPLAT = 10  # numbers per projected Gaussian
MOMENTS = 6  # of a gradient row, in front of its channels

_f4 = np.float32
_ZERO, _HALF, _ONE, _TWO = _f4(0), _f4(0.5), _f4(1), _f4(2)
_BLUR, _SIGMA_MAX = _f4(constants.BLUR), _f4(constants.SIGMA_MAX)
_NEAR, _MARGIN, _EXTENT_MAX = _f4(constants.NEAR_PLANE), _f4(constants.FRUSTUM_MARGIN), _f4(constants.EXTENT_MAX)
_ALPHA_MIN, _ALPHA_MAX = _f4(constants.ALPHA_MIN), _f4(constants.ALPHA_MAX)
_TRANSMITTANCE_MIN = _f4(constants.TRANSMITTANCE_MIN)
_DEAD = _f4(2)  # an alpha threshold that no alpha reaches
_TINY = _f4(1e-12)
_SLACK = _f4(0.01)  # pixels, against rounding in `_rows_crossed`

# exp(-s) = p(s / 8)^8 with p of degree 6: relative error below 2e-7 on [0, 6].
_EXP_RANGE = _f4(6)
_EIGHTH = _f4(0.125)
_P0, _P1, _P2, _P3, _P4, _P5, _P6 = (
    _f4(c) for c in Chebyshev.interpolate(lambda u: np.exp(-u), 6, domain=[0, 0.75]).convert(kind=Polynomial).coef
)

# `nnan` and `ninf` are left out: a NaN in the input must not change the meaning of the comparisons that drop it.
_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
_JIT = {"fastmath": _FAST, "cache": True, "boundscheck": False, "error_model": "numpy"}

# Offsets into a tile's scratch. Unsigned, so that Numba emits no test for negative indices.
_U = np.uint64
_X, _Y, _T, _LIMIT, _LAST, _C0, _C1, _C2, _DEPTH, _WEIGHT = (_U(k * PIXELS) for k in range(10))
_FORWARD_PLANES = 10
# The backward re-uses the first three and keeps the index of the last Gaussian, what lies behind (running), the
# upstream gradients of the fused channels, the other channels' part of the blended gradient, and alpha times T.
_B_LAST, _BEHIND, _G0, _G1, _G2, _G_REST, _SHARE = (_U(k * PIXELS) for k in range(3, 10))
_BACKWARD_PLANES = 10


@njit(inline="always", **_JIT)
def _exp_minus(s):
    s = s if s < _EXP_RANGE else _EXP_RANGE
    u = s * _EIGHTH
    p = _P0 + u * (_P1 + u * (_P2 + u * (_P3 + u * (_P4 + u * (_P5 + u * _P6)))))
    p = p * p
    p = p * p
    return p * p


@njit(**_JIT)
def _aligned(size):
    """Scratch that starts on a cache line, so that no vector lies across two."""
    memory = np.empty(size + 16, np.float32)
    start = -(memory.ctypes.data // 4) % 16
    return memory[start : start + size]


@njit(**_JIT)
def _int_ceil(x, limit):
    """The least integer not below x, clipped to 0..limit before a far x can overflow; Numba's own ceil is a slow call."""
    x = min(max(x, _ZERO), _f4(limit))
    below = np.int32(x)
    return below + np.int32(_f4(below) < x)


@njit(**_JIT)
def _camera_point(means, n, view):
    x, y, z = means[n, 0], means[n, 1], means[n, 2]
    return (
        view[0, 0] * x + view[0, 1] * y + view[0, 2] * z + view[0, 3],
        view[1, 0] * x + view[1, 1] * y + view[1, 2] * z + view[1, 3],
        view[2, 0] * x + view[2, 1] * y + view[2, 2] * z + view[2, 3],
    )


@njit(**_JIT)
def _unit_quaternion(quats, n):
    w, x, y, z = quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3]
    inverse = _ONE / max(math.sqrt(w * w + x * x + y * y + z * z), _TINY)
    return w * inverse, x * inverse, y * inverse, z * inverse, inverse


@njit(**_JIT)
def _rotation(w, x, y, z):
    """Rotation matrix, row by row."""
    return (
        _ONE - _TWO * (y * y + z * z), _TWO * (x * y - w * z), _TWO * (x * z + w * y),
        _TWO * (x * y + w * z), _ONE - _TWO * (x * x + z * z), _TWO * (y * z - w * x),
        _TWO * (x * z - w * y), _TWO * (y * z + w * x), _ONE - _TWO * (x * x + y * y),
    )  # fmt: skip


@njit(**_JIT)
def _tangent_limits(focal, principal, size):
    """Range in which a tangent X / Z enters the Jacobian unclamped."""
    margin = _MARGIN * _HALF * size / focal
    return -principal / focal - margin, (size - principal) / focal + margin


@njit(**_JIT)
def _jacobian_row(view, axis, gain, tangent):
    """One row of J V: d(pixel coordinate) / d(world position), with gain = focal / Z."""
    return (
        gain * (view[axis, 0] - tangent * view[2, 0]),
        gain * (view[axis, 1] - tangent * view[2, 1]),
        gain * (view[axis, 2] - tangent * view[2, 2]),
    )


@njit(**_JIT)
def _rotate_row(p, r):
    """The row vector p times the matrix r."""
    return (
        p[0] * r[0] + p[1] * r[3] + p[2] * r[6],
        p[0] * r[1] + p[1] * r[4] + p[2] * r[7],
        p[0] * r[2] + p[1] * r[5] + p[2] * r[8],
    )


@njit(**_JIT)
def _unrotate_row(h, r):
    """The row vector h times the transpose of r."""
    return (
        h[0] * r[0] + h[1] * r[1] + h[2] * r[2],
        h[0] * r[3] + h[1] * r[4] + h[2] * r[5],
        h[0] * r[6] + h[1] * r[7] + h[2] * r[8],
    )


@njit(parallel=True, **_JIT)
def project(means, quats, scales, opacities, view, camera, width, height, splats, boxes, depths, radii):
    """Project all Gaussians.

    Args:
        means, quats, scales, opacities: `[N, 3]`, `[N, 4]`, `[N, 3]`, `[N]`.
        view: `[4, 4]`.
        camera: `[4]` fx, fy, cx, cy.
        width, height: pixels.
        splats: out `[N, SPLAT]` centre x, y; half the conic's a, its b, half its c; opacity; then for `_rows_crossed`:
            how far left of the centre the ellipse drawn is lowest, 1 / determinant, reach^2 c, 1 / c.
        boxes: out `[N, 6]` first and end tile column, first and end tile row, first and end pixel row; all zero for a
            Gaussian not drawn.
        depths: out `[N]`.
        radii: out `[N]`, 0 for a Gaussian not drawn.
    """
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    low_x, high_x = _tangent_limits(fx, cx, _f4(width))
    low_y, high_y = _tangent_limits(fy, cy, _f4(height))
    for n in prange(means.shape[0]):
        for k in range(6):
            boxes[n, k] = 0
        radii[n] = 0
        X, Y, Z = _camera_point(means, n, view)
        depths[n] = Z
        opacity = opacities[n]
        # Comparisons are written so that NaN fails them.
        if not (Z >= _NEAR and Z < np.inf and opacity >= _ALPHA_MIN and opacity < np.inf):
            continue
        w, x, y, z, _ = _unit_quaternion(quats, n)
        r = _rotation(w, x, y, z)
        inverse_depth = _ONE / Z
        tangent_x, tangent_y = X * inverse_depth, Y * inverse_depth
        px = _jacobian_row(view, 0, fx * inverse_depth, min(high_x, max(low_x, tangent_x)))
        py = _jacobian_row(view, 1, fy * inverse_depth, min(high_y, max(low_y, tangent_y)))
        ex, ey = _rotate_row(px, r), _rotate_row(py, r)
        s0, s1, s2 = scales[n, 0], scales[n, 1], scales[n, 2]
        bx0, bx1, bx2 = ex[0] * s0, ex[1] * s1, ex[2] * s2
        by0, by1, by2 = ey[0] * s0, ey[1] * s1, ey[2] * s2
        var_x = bx0 * bx0 + bx1 * bx1 + bx2 * bx2 + _BLUR
        var_y = by0 * by0 + by1 * by1 + by2 * by2 + _BLUR
        cov_xy = bx0 * by0 + bx1 * by1 + bx2 * by2
        determinant = var_x * var_y - cov_xy * cov_xy
        if not (determinant > _ZERO and var_x < _SIGMA_MAX * _SIGMA_MAX and var_y < _SIGMA_MAX * _SIGMA_MAX):
            continue
        mx, my = fx * tangent_x + cx, fy * tangent_y + cy
        reach = min(math.sqrt(_TWO * math.log(min(opacity, _ONE) / _ALPHA_MIN)), _EXTENT_MAX)
        rx, ry = reach * math.sqrt(var_x), reach * math.sqrt(var_y)
        # Pixels whose centre k + 0.5 lies in the box.
        x0, x1 = _int_ceil(mx - rx - _HALF, width), _int_ceil(mx + rx - _HALF, width)
        y0, y1 = _int_ceil(my - ry - _HALF, height), _int_ceil(my + ry - _HALF, height)
        if not (x0 < x1 and y0 < y1):
            continue
        inverse = _ONE / determinant
        splats[n, 0], splats[n, 1] = mx, my
        splats[n, 2], splats[n, 3], splats[n, 4] = _HALF * var_y * inverse, -cov_xy * inverse, _HALF * var_x * inverse
        splats[n, 5] = opacity
        splats[n, 6], splats[n, 7] = cov_xy / var_y * ry, inverse
        splats[n, 8], splats[n, 9] = reach * reach * var_x * inverse, determinant / var_x
        boxes[n, 0], boxes[n, 1] = x0 // TILE_W, (x1 + TILE_W - 1) // TILE_W
        boxes[n, 2], boxes[n, 3] = y0 // TILE_H, (y1 + TILE_H - 1) // TILE_H
        boxes[n, 4], boxes[n, 5] = y0, y1
        radii[n] = _int_ceil(max(rx, ry), 1 << 24)


@njit(**_JIT)
def depth_order(depths, boxes):
    """List the Gaussians drawn, nearest first; equal depths keep their order (stable radix sort, 3 times 11 bits)."""
    count = 0
    for n in range(depths.shape[0]):
        count += boxes[n, 5] > boxes[n, 4]
    order = np.empty(count, np.int32)
    keys = np.empty(count, np.uint32)
    bits = depths.view(np.uint32)  # depths drawn are positive, so their bits sort as they do
    i = 0
    for n in range(depths.shape[0]):
        if boxes[n, 5] > boxes[n, 4]:
            order[i], keys[i] = n, bits[n]
            i += 1
    other_order, other_keys = np.empty_like(order), np.empty_like(keys)
    for shift in (0, 11, 22):
        starts = np.zeros(2049, np.int32)
        for i in range(count):
            starts[((keys[i] >> np.uint32(shift)) & np.uint32(2047)) + 1] += 1
        for k in range(2048):
            starts[k + 1] += starts[k]
        for i in range(count):
            k = (keys[i] >> np.uint32(shift)) & np.uint32(2047)
            other_order[starts[k]], other_keys[starts[k]] = order[i], keys[i]
            starts[k] += 1
        order, other_order = other_order, order
        keys, other_keys = other_keys, keys
    return order


@njit(**_JIT)
def bin_tiles(order, boxes, columns, rows):
    """Give every tile its Gaussians in depth order (counting sort).

    Args:
        order: `[n]` Gaussians drawn, nearest first.
        boxes: `[N, 6]` of `project`.
        columns, rows: tiles of the image.

    Returns:
        tile_starts `[tiles + 1]` into ids; ids `[pairs]`; pair_starts `[N + 1]` into slots; slots `[pairs]`, which
        lists Gaussian by Gaussian where in ids its pairs are.
    """
    tile_starts = np.zeros(columns * rows + 1, np.int32)
    pair_starts = np.zeros(boxes.shape[0] + 1, np.int32)
    for n in range(boxes.shape[0]):
        for row in range(boxes[n, 2], boxes[n, 3]):
            for column in range(boxes[n, 0], boxes[n, 1]):
                tile_starts[row * columns + column + 1] += 1
        pair_starts[n + 1] = pair_starts[n] + (boxes[n, 1] - boxes[n, 0]) * (boxes[n, 3] - boxes[n, 2])
    for t in range(columns * rows):
        tile_starts[t + 1] += tile_starts[t]
    pairs = tile_starts[columns * rows]
    ids, slots = np.empty(pairs, np.int32), np.empty(pairs, np.int32)
    cursors = tile_starts[:-1].copy()
    for i in range(order.shape[0]):
        n = order[i]
        k = pair_starts[n]
        for row in range(boxes[n, 2], boxes[n, 3]):
            for column in range(boxes[n, 0], boxes[n, 1]):
                tile = row * columns + column
                ids[cursors[tile]] = n
                slots[k] = cursors[tile]
                k += 1
                cursors[tile] += 1
    return tile_starts, ids, pair_starts, slots


@njit(**_JIT)
def _rows_crossed(splats, boxes, n, left, top):
    """First and end row of a tile that a Gaussian's ellipse meets within the tile's columns: fewer than its box does.

    With d = centre - pixel, the ellipse a dx^2 + 2 b dx dy + c dy^2 = reach^2 has dy = (-b dx +- root) / c with
    root^2 = reach^2 c - dx^2 / determinant. Its lowest point over a range of dx is at the lowest of all (dx = lean) if
    that is in the range, else at the end next to it, because the ellipse is convex; its highest mirrors that.
    """
    b, lean, inverse_determinant = splats[n, 3], splats[n, 6], splats[n, 7]
    reach2_c, inverse_c = splats[n, 8], splats[n, 9]
    near, far = splats[n, 0] - _f4(left + TILE_W) + _HALF, splats[n, 0] - _f4(left) - _HALF
    dx = min(far, max(near, lean))
    above = (math.sqrt(max(_ZERO, reach2_c - dx * dx * inverse_determinant)) - b * dx) * inverse_c
    dx = min(far, max(near, -lean))
    below = (math.sqrt(max(_ZERO, reach2_c - dx * dx * inverse_determinant)) + b * dx) * inverse_c
    center = splats[n, 1] - _f4(top) - _HALF
    begin = max(_int_ceil(center - above - _SLACK, TILE_H), boxes[n, 4] - top)
    end = min(_int_ceil(center + below + _SLACK, TILE_H), boxes[n, 5] - top)
    # Whole pairs of rows: 16 pixels are one AVX-512 vector, and what does not fill a vector is done pixel by pixel.
    begin = begin // 2 * 2
    return begin, max(begin, (end + 1) // 2 * 2)


@njit(inline="always", **_JIT)
def _blend_splat(tile, begin, end, mx, my, a, b, c, opacity, c0, c1, c2, depth, index):
    """Blend one Gaussian into scratch pixels begin..end."""
    for p in range(begin, end):
        dx = mx - tile[p + _X]
        dy = my - tile[p + _Y]
        alpha = opacity * _exp_minus((a * dx + b * dy) * dx + c * dy * dy)
        alpha = alpha if alpha < _ALPHA_MAX else _ALPHA_MAX
        alpha = alpha if alpha >= tile[p + _LIMIT] else _ZERO
        transmittance = tile[p + _T]
        dead = transmittance - transmittance * alpha <= _TRANSMITTANCE_MIN
        alpha = _ZERO if dead else alpha
        weight = alpha * transmittance
        tile[p + _T] = transmittance - weight
        tile[p + _LIMIT] = _DEAD if dead else tile[p + _LIMIT]
        tile[p + _LAST] = index if alpha > _ZERO else tile[p + _LAST]
        tile[p + _C0] += weight * c0
        tile[p + _C1] += weight * c1
        tile[p + _C2] += weight * c2
        tile[p + _DEPTH] += weight * depth
        tile[p + _WEIGHT] = weight


@njit(parallel=True, **_JIT)
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
            tile[:] = _ZERO
            for p in range(PIXELS):
                column, row = left + p % TILE_W, top + p // TILE_W
                tile[p + _X] = _f4(column) + _HALF
                tile[p + _Y] = _f4(row) + _HALF
                tile[p + _T] = _ONE
                tile[p + _LIMIT] = _ALPHA_MIN if column < width and row < height else _DEAD
                tile[p + _LAST] = -_ONE
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
                        _f4(j - start),
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
            last = -_ONE
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
                    alphas[y, x] = _ONE - transmittance
                    depth_map[y, x] = tile[p + _DEPTH]
                    last = max(last, tile[p + _LAST])
            for p in range(PIXELS):
                kept[t, p] = tile[p + _LAST]
                kept[t, PIXELS + p] = tile[p + _T]
            used[t] = int(last) + 1


@njit(parallel=True, **_JIT)
def blend_backward(
    splats, features, boxes, tile_starts, ids, background, kept, used, spans, image_grad, alpha_grad, rows, threads
):
    """Walk every tile back to front and leave one row of gradients per (tile, Gaussian) pair.

    With g the upstream gradient, w_i = c_i . g and T_i the transmittance in front of Gaussian i,
    dL/dalpha_i = T_i w_i + B_i / (1 - alpha_i), where
    B_i = T_end (g_alpha - background . g) - sum_{k > i} alpha_k T_k w_k is one running number per pixel. Position, shape and opacity only need the moments of v = alpha dL/dalpha.

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
            tile[:] = _ZERO
            for p in range(PIXELS):
                column, row = left + p % TILE_W, top + p // TILE_W
                transmittance = kept[t, PIXELS + p]
                tile[p + _X] = _f4(column) + _HALF
                tile[p + _Y] = _f4(row) + _HALF
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
                rows[j, :] = _ZERO
            for j in range(start + used[t] - 1, start - 1, -1):
                n = ids[j]
                begin_pixel, end_pixel = _U(spans[j, 0] * TILE_W), _U(spans[j, 1] * TILE_W)
                index = _f4(j - start)
                mx, my, a, b, c = splats[n, 0], splats[n, 1], splats[n, 2], splats[n, 3], splats[n, 4]
                opacity = splats[n, 5]
                c0, c1, c2 = features[n, 0], features[n, 1], features[n, 2]
                for channel in range(FUSED, channels):
                    value = features[n, channel]
                    keep = _ZERO if channel == FUSED else _ONE
                    offset = _U((_BACKWARD_PLANES + channel - FUSED) * PIXELS)
                    for p in range(begin_pixel, end_pixel):
                        tile[p + _G_REST] = tile[p + _G_REST] * keep + tile[p + offset] * value
                v_c0, v_c1, v_c2 = _ZERO, _ZERO, _ZERO
                m, m_x, m_y, m_xx, m_xy, m_yy = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
                for p in range(begin_pixel, end_pixel):
                    dx = mx - tile[p + _X]
                    dy = my - tile[p + _Y]
                    raw = opacity * _exp_minus((a * dx + b * dy) * dx + c * dy * dy)
                    alpha = raw if raw < _ALPHA_MAX else _ALPHA_MAX
                    alpha = alpha if alpha >= _ALPHA_MIN else _ZERO
                    alpha = alpha if index <= tile[p + _B_LAST] else _ZERO
                    inverse = _ONE / (_ONE - alpha)
                    transmittance = tile[p + _T] * inverse
                    tile[p + _T] = transmittance
                    g0, g1, g2 = tile[p + _G0], tile[p + _G1], tile[p + _G2]
                    blended = c0 * g0 + c1 * g1 + c2 * g2 + tile[p + _G_REST]
                    share = alpha * transmittance
                    tile[p + _SHARE] = share
                    behind = tile[p + _BEHIND]
                    v = alpha * (transmittance * blended + behind * inverse)
                    v = v if raw <= _ALPHA_MAX else _ZERO
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
                    total = _ZERO
                    for p in range(begin_pixel, end_pixel):
                        total += tile[p + _SHARE] * tile[p + offset]
                    rows[j, MOMENTS + channel] = total


@njit(parallel=True, **_JIT)
def project_backward(
    means, quats, scales, view, camera, width, height, splats, pair_starts, slots, rows,
    v_means, v_quats, v_scales, v_opacities, v_features, v_centers,
):  # fmt: skip
    """Sum each Gaussian's gradient rows and carry them through the projection.

    Args:
        means, quats, scales, view, camera, width, height: as in `project`; splats: its result.
        pair_starts, slots: of `bin_tiles`.
        rows: of `blend_backward`.
        v_means, v_quats, v_scales, v_opacities, v_features, v_centers: out, gradients shaped as what they belong to.
    """
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    low_x, high_x = _tangent_limits(fx, cx, _f4(width))
    low_y, high_y = _tangent_limits(fy, cy, _f4(height))
    channels = v_features.shape[1]
    for n in prange(means.shape[0]):
        for channel in range(channels):
            v_features[n, channel] = _ZERO
        m, m_x, m_y, m_xx, m_xy, m_yy = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
        for k in range(pair_starts[n], pair_starts[n + 1]):
            j = slots[k]
            m += rows[j, 0]
            m_x += rows[j, 1]
            m_y += rows[j, 2]
            m_xx += rows[j, 3]
            m_xy += rows[j, 4]
            m_yy += rows[j, 5]
            for channel in range(channels):
                v_features[n, channel] += rows[j, MOMENTS + channel]
        if pair_starts[n] == pair_starts[n + 1]:
            v_means[n, :] = _ZERO
            v_quats[n, :] = _ZERO
            v_scales[n, :] = _ZERO
            v_opacities[n] = _ZERO
            v_centers[n, :] = _ZERO
            continue
        v_opacities[n] = m / splats[n, 5]
        # alpha = o exp(-q), q = a dx^2 / 2 + b dx dy + c dy^2 / 2: dL/dq = -v.
        a, b, c = _TWO * splats[n, 2], splats[n, 3], _TWO * splats[n, 4]
        v_mx, v_my = -(a * m_x + b * m_y), -(b * m_x + c * m_y)
        v_centers[n, 0], v_centers[n, 1] = v_mx, v_my
        # The conic is the inverse covariance: dL/dcov = -Q V Q, V = -(moments) / 2.
        t00, t01 = a * m_xx + b * m_xy, a * m_xy + b * m_yy
        t10, t11 = b * m_xx + c * m_xy, b * m_xy + c * m_yy
        g_xx, g_xy, g_yy = _HALF * (t00 * a + t01 * b), _HALF * (t00 * b + t01 * c), _HALF * (t10 * b + t11 * c)

        X, Y, Z = _camera_point(means, n, view)
        qw, qx, qy, qz, q_inverse = _unit_quaternion(quats, n)
        r = _rotation(qw, qx, qy, qz)
        inverse_depth = _ONE / Z
        tangent_x, tangent_y = X * inverse_depth, Y * inverse_depth
        gain_x, gain_y = fx * inverse_depth, fy * inverse_depth
        px = _jacobian_row(view, 0, gain_x, min(high_x, max(low_x, tangent_x)))
        py = _jacobian_row(view, 1, gain_y, min(high_y, max(low_y, tangent_y)))
        ex, ey = _rotate_row(px, r), _rotate_row(py, r)
        s0, s1, s2 = scales[n, 0], scales[n, 1], scales[n, 2]
        # cov = B B^T with B = E diag(s), E = P R: dL/dB = 2 G B, and G B diag(s) = dL/dE / 2.
        hx0, hy0 = _TWO * (g_xx * ex[0] + g_xy * ey[0]) * s0, _TWO * (g_xy * ex[0] + g_yy * ey[0]) * s0
        hx1, hy1 = _TWO * (g_xx * ex[1] + g_xy * ey[1]) * s1, _TWO * (g_xy * ex[1] + g_yy * ey[1]) * s1
        hx2, hy2 = _TWO * (g_xx * ex[2] + g_xy * ey[2]) * s2, _TWO * (g_xy * ex[2] + g_yy * ey[2]) * s2
        v_scales[n, 0] = hx0 * ex[0] + hy0 * ey[0]
        v_scales[n, 1] = hx1 * ex[1] + hy1 * ey[1]
        v_scales[n, 2] = hx2 * ex[2] + hy2 * ey[2]
        hx, hy = (hx0 * s0, hx1 * s1, hx2 * s2), (hy0 * s0, hy1 * s1, hy2 * s2)  # dL/dE
        # dL/dR = P^T dL/dE, then through the entries of R, then through the normalisation.
        d00, d01, d02 = px[0] * hx[0] + py[0] * hy[0], px[0] * hx[1] + py[0] * hy[1], px[0] * hx[2] + py[0] * hy[2]
        d10, d11, d12 = px[1] * hx[0] + py[1] * hy[0], px[1] * hx[1] + py[1] * hy[1], px[1] * hx[2] + py[1] * hy[2]
        d20, d21, d22 = px[2] * hx[0] + py[2] * hy[0], px[2] * hx[1] + py[2] * hy[1], px[2] * hx[2] + py[2] * hy[2]
        vw = _TWO * (qx * (d21 - d12) + qy * (d02 - d20) + qz * (d10 - d01))
        vx = _TWO * (qw * (d21 - d12) + qy * (d01 + d10) + qz * (d02 + d20) - _TWO * qx * (d11 + d22))
        vy = _TWO * (qw * (d02 - d20) + qx * (d01 + d10) + qz * (d12 + d21) - _TWO * qy * (d00 + d22))
        vz = _TWO * (qw * (d10 - d01) + qx * (d02 + d20) + qy * (d12 + d21) - _TWO * qz * (d00 + d11))
        radial = vw * qw + vx * qx + vy * qy + vz * qz
        v_quats[n, 0] = (vw - radial * qw) * q_inverse
        v_quats[n, 1] = (vx - radial * qx) * q_inverse
        v_quats[n, 2] = (vy - radial * qy) * q_inverse
        v_quats[n, 3] = (vz - radial * qz) * q_inverse
        # dL/dP = dL/dE R^T; a row of P is gain (V_axis - tangent V_2).
        ux, uy = _unrotate_row(hx, r), _unrotate_row(hy, r)
        v_Z = -(
            ux[0] * px[0] + ux[1] * px[1] + ux[2] * px[2] + uy[0] * py[0] + uy[1] * py[1] + uy[2] * py[2]
        ) * inverse_depth  # fmt: skip
        v_tangent_x, v_tangent_y = fx * v_mx, fy * v_my
        if low_x <= tangent_x <= high_x:
            v_tangent_x -= gain_x * (ux[0] * view[2, 0] + ux[1] * view[2, 1] + ux[2] * view[2, 2])
        if low_y <= tangent_y <= high_y:
            v_tangent_y -= gain_y * (uy[0] * view[2, 0] + uy[1] * view[2, 1] + uy[2] * view[2, 2])
        v_X, v_Y = v_tangent_x * inverse_depth, v_tangent_y * inverse_depth
        v_Z -= v_X * tangent_x + v_Y * tangent_y
        for k in range(3):
            v_means[n, k] = view[0, k] * v_X + view[1, k] * v_Y + view[2, k] * v_Z
