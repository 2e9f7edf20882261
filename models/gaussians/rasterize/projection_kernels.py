"""Numba kernels of the CPU rasteriser: projection with its backward, depth order, and binning to tiles.

Deterministic for every number of threads: a Gaussian is the work of one thread, and its gradient rows are summed in one
order.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from models.gaussians.rasterize import constants
from models.gaussians.rasterize.tiles import HALF, JIT, MOMENTS, ONE, TILE_H, TILE_W, TWO, ZERO, f4, int_ceil

# Numba keeps kernels until this file changes: a test asks for another digest when what it imports has changed.
_COMPILED_WITH = "62ba88adfbee"

_BLUR, _SIGMA_MAX, _MARGIN = f4(constants.BLUR), f4(constants.SIGMA_MAX), f4(constants.FRUSTUM_MARGIN)
_NEAR, _ALPHA_MIN, _EXTENT_MAX = f4(constants.NEAR_PLANE), f4(constants.ALPHA_MIN), f4(constants.EXTENT_MAX)
_TINY = f4(1e-12)


@njit(**JIT)
def _camera_point(means, n, view):
    x, y, z = means[n, 0], means[n, 1], means[n, 2]
    return (
        view[0, 0] * x + view[0, 1] * y + view[0, 2] * z + view[0, 3],
        view[1, 0] * x + view[1, 1] * y + view[1, 2] * z + view[1, 3],
        view[2, 0] * x + view[2, 1] * y + view[2, 2] * z + view[2, 3],
    )


@njit(**JIT)
def _unit_quaternion(quats, n):
    w, x, y, z = quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3]
    inverse = ONE / max(math.sqrt(w * w + x * x + y * y + z * z), _TINY)
    return w * inverse, x * inverse, y * inverse, z * inverse, inverse


@njit(**JIT)
def _rotation(w, x, y, z):
    """Rotation matrix, row by row."""
    return (
        ONE - TWO * (y * y + z * z), TWO * (x * y - w * z), TWO * (x * z + w * y),
        TWO * (x * y + w * z), ONE - TWO * (x * x + z * z), TWO * (y * z - w * x),
        TWO * (x * z - w * y), TWO * (y * z + w * x), ONE - TWO * (x * x + y * y),
    )  # fmt: skip


@njit(**JIT)
def _tangent_limits(focal, principal, size):
    """Range in which a tangent X / Z enters the Jacobian unclamped."""
    margin = _MARGIN * HALF * size / focal
    return -principal / focal - margin, (size - principal) / focal + margin


@njit(**JIT)
def _jacobian_row(view, axis, gain, tangent):
    """One row of J V: d(pixel coordinate) / d(world position), with gain = focal / Z."""
    return (
        gain * (view[axis, 0] - tangent * view[2, 0]),
        gain * (view[axis, 1] - tangent * view[2, 1]),
        gain * (view[axis, 2] - tangent * view[2, 2]),
    )


@njit(**JIT)
def _rotate_row(p, r):
    """The row vector p times the matrix r."""
    return (
        p[0] * r[0] + p[1] * r[3] + p[2] * r[6],
        p[0] * r[1] + p[1] * r[4] + p[2] * r[7],
        p[0] * r[2] + p[1] * r[5] + p[2] * r[8],
    )


@njit(**JIT)
def _unrotate_row(h, r):
    """The row vector h times the transpose of r."""
    return (
        h[0] * r[0] + h[1] * r[1] + h[2] * r[2],
        h[0] * r[3] + h[1] * r[4] + h[2] * r[5],
        h[0] * r[6] + h[1] * r[7] + h[2] * r[8],
    )


@njit(parallel=True, **JIT)
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
    low_x, high_x = _tangent_limits(fx, cx, f4(width))
    low_y, high_y = _tangent_limits(fy, cy, f4(height))
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
        inverse_depth = ONE / Z
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
        if not (determinant > ZERO and var_x < _SIGMA_MAX * _SIGMA_MAX and var_y < _SIGMA_MAX * _SIGMA_MAX):
            continue
        mx, my = fx * tangent_x + cx, fy * tangent_y + cy
        reach = min(math.sqrt(TWO * math.log(min(opacity, ONE) / _ALPHA_MIN)), _EXTENT_MAX)
        rx, ry = reach * math.sqrt(var_x), reach * math.sqrt(var_y)
        # Pixels whose centre k + 0.5 lies in the box.
        x0, x1 = int_ceil(mx - rx - HALF, width), int_ceil(mx + rx - HALF, width)
        y0, y1 = int_ceil(my - ry - HALF, height), int_ceil(my + ry - HALF, height)
        if not (x0 < x1 and y0 < y1):
            continue
        inverse = ONE / determinant
        splats[n, 0], splats[n, 1] = mx, my
        splats[n, 2], splats[n, 3], splats[n, 4] = HALF * var_y * inverse, -cov_xy * inverse, HALF * var_x * inverse
        splats[n, 5] = opacity
        splats[n, 6], splats[n, 7] = cov_xy / var_y * ry, inverse
        splats[n, 8], splats[n, 9] = reach * reach * var_x * inverse, determinant / var_x
        boxes[n, 0], boxes[n, 1] = x0 // TILE_W, (x1 + TILE_W - 1) // TILE_W
        boxes[n, 2], boxes[n, 3] = y0 // TILE_H, (y1 + TILE_H - 1) // TILE_H
        boxes[n, 4], boxes[n, 5] = y0, y1
        radii[n] = int_ceil(max(rx, ry), 1 << 24)


@njit(**JIT)
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


@njit(**JIT)
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


@njit(parallel=True, **JIT)
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
    low_x, high_x = _tangent_limits(fx, cx, f4(width))
    low_y, high_y = _tangent_limits(fy, cy, f4(height))
    channels = v_features.shape[1]
    for n in prange(means.shape[0]):
        for channel in range(channels):
            v_features[n, channel] = ZERO
        m, m_x, m_y, m_xx, m_xy, m_yy = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
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
            v_means[n, :] = ZERO
            v_quats[n, :] = ZERO
            v_scales[n, :] = ZERO
            v_opacities[n] = ZERO
            v_centers[n, :] = ZERO
            continue
        v_opacities[n] = m / splats[n, 5]
        # alpha = o exp(-q), q = a dx^2 / 2 + b dx dy + c dy^2 / 2: dL/dq = -v.
        a, b, c = TWO * splats[n, 2], splats[n, 3], TWO * splats[n, 4]
        v_mx, v_my = -(a * m_x + b * m_y), -(b * m_x + c * m_y)
        v_centers[n, 0], v_centers[n, 1] = v_mx, v_my
        # The conic is the inverse covariance: dL/dcov = -Q V Q, V = -(moments) / 2.
        t00, t01 = a * m_xx + b * m_xy, a * m_xy + b * m_yy
        t10, t11 = b * m_xx + c * m_xy, b * m_xy + c * m_yy
        g_xx, g_xy, g_yy = HALF * (t00 * a + t01 * b), HALF * (t00 * b + t01 * c), HALF * (t10 * b + t11 * c)

        X, Y, Z = _camera_point(means, n, view)
        qw, qx, qy, qz, q_inverse = _unit_quaternion(quats, n)
        r = _rotation(qw, qx, qy, qz)
        inverse_depth = ONE / Z
        tangent_x, tangent_y = X * inverse_depth, Y * inverse_depth
        gain_x, gain_y = fx * inverse_depth, fy * inverse_depth
        px = _jacobian_row(view, 0, gain_x, min(high_x, max(low_x, tangent_x)))
        py = _jacobian_row(view, 1, gain_y, min(high_y, max(low_y, tangent_y)))
        ex, ey = _rotate_row(px, r), _rotate_row(py, r)
        s0, s1, s2 = scales[n, 0], scales[n, 1], scales[n, 2]
        # cov = B B^T with B = E diag(s), E = P R: dL/dB = 2 G B, and G B diag(s) = dL/dE / 2.
        hx0, hy0 = TWO * (g_xx * ex[0] + g_xy * ey[0]) * s0, TWO * (g_xy * ex[0] + g_yy * ey[0]) * s0
        hx1, hy1 = TWO * (g_xx * ex[1] + g_xy * ey[1]) * s1, TWO * (g_xy * ex[1] + g_yy * ey[1]) * s1
        hx2, hy2 = TWO * (g_xx * ex[2] + g_xy * ey[2]) * s2, TWO * (g_xy * ex[2] + g_yy * ey[2]) * s2
        v_scales[n, 0] = hx0 * ex[0] + hy0 * ey[0]
        v_scales[n, 1] = hx1 * ex[1] + hy1 * ey[1]
        v_scales[n, 2] = hx2 * ex[2] + hy2 * ey[2]
        hx, hy = (hx0 * s0, hx1 * s1, hx2 * s2), (hy0 * s0, hy1 * s1, hy2 * s2)  # dL/dE
        # dL/dR = P^T dL/dE, then through the entries of R, then through the normalisation.
        d00, d01, d02 = px[0] * hx[0] + py[0] * hy[0], px[0] * hx[1] + py[0] * hy[1], px[0] * hx[2] + py[0] * hy[2]
        d10, d11, d12 = px[1] * hx[0] + py[1] * hy[0], px[1] * hx[1] + py[1] * hy[1], px[1] * hx[2] + py[1] * hy[2]
        d20, d21, d22 = px[2] * hx[0] + py[2] * hy[0], px[2] * hx[1] + py[2] * hy[1], px[2] * hx[2] + py[2] * hy[2]
        vw = TWO * (qx * (d21 - d12) + qy * (d02 - d20) + qz * (d10 - d01))
        vx = TWO * (qw * (d21 - d12) + qy * (d01 + d10) + qz * (d02 + d20) - TWO * qx * (d11 + d22))
        vy = TWO * (qw * (d02 - d20) + qx * (d01 + d10) + qz * (d12 + d21) - TWO * qy * (d00 + d22))
        vz = TWO * (qw * (d10 - d01) + qx * (d02 + d20) + qy * (d12 + d21) - TWO * qz * (d00 + d11))
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
