"""Numba kernels of `bound`: Gaussians put where their triangles are, one pass over them, float32.

Backward, turning the frame of a triangle by a small vector w turns the Gaussian's quaternion with it. What the loss
wants of that quaternion is a torque on the frame, which half its cross product with each axis passes on to the axes.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

_f4 = np.float32
_ZERO, _HALF, _ONE, _TINY = _f4(0), _f4(0.5), _f4(1), _f4(1e-12)
_THIRD = _f4(1 / 3)
_JIT = {"fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}, "cache": True, "error_model": "numpy"}


@njit(**_JIT)
def _cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@njit(**_JIT)
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(**_JIT)
def _times(factor, a):
    return factor * a[0], factor * a[1], factor * a[2]


@njit(**_JIT)
def _plus(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@njit(**_JIT)
def _row(array, n):
    return array[n, 0], array[n, 1], array[n, 2]


@njit(**_JIT)
def _quat_product(a, b):
    return (
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    )


@njit(**_JIT)
def _conjugate(q):
    return q[0], -q[1], -q[2], -q[3]


@njit(**_JIT)
def _unit_quat(q):
    length = max(math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]), _TINY)
    return (q[0] / length, q[1] / length, q[2] / length, q[3] / length), length


@njit(**_JIT)
def _frame(vertices, triangle):
    """Corner sum, side, axes along, normal and across, lengths of the base and of the axes' product.

    A length of a triangle without area is `_TINY`.
    """
    first, second, third = (_row(vertices, triangle[0]), _row(vertices, triangle[1]), _row(vertices, triangle[2]))
    base = _plus(second, _times(-_ONE, first))
    side = _plus(third, _times(-_ONE, first))
    base_length = max(math.sqrt(_dot(base, base)), _TINY)
    along = _times(_ONE / base_length, base)
    product = _cross(along, side)
    height = max(math.sqrt(_dot(product, product)), _TINY)
    normal = _times(_ONE / height, product)
    total = _plus(_plus(first, second), third)
    return total, side, along, normal, _cross(along, normal), base_length, height


@njit(**_JIT)
def _quat_of(x, y, z):
    """Unit quaternion of the rotation with these columns, from its largest number (Shepperd, 1978)."""
    w4 = _ONE + x[0] + y[1] + z[2]
    x4 = _ONE + x[0] - y[1] - z[2]
    y4 = _ONE - x[0] + y[1] - z[2]
    z4 = _ONE - x[0] - y[1] + z[2]
    wx, wy, wz = y[2] - z[1], z[0] - x[2], x[1] - y[0]
    xy, xz, yz = x[1] + y[0], z[0] + x[2], y[2] + z[1]
    if w4 >= x4 and w4 >= y4 and w4 >= z4:
        quat = (w4, wx, wy, wz)
    elif x4 >= y4 and x4 >= z4:
        quat = (wx, x4, xy, xz)
    elif y4 >= z4:
        quat = (wy, xy, y4, yz)
    else:
        quat = (wz, xz, yz, z4)
    return _unit_quat(quat)[0]


@njit(**_JIT)
def _local(n, weights, means, quats, position_basis, rotation_basis):
    """Mean and quaternion in the triangle's frame, the bases added."""
    mean, quat = _row(means, n), (quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3])
    for b in range(len(weights)):
        mean = _plus(
            mean, _times(weights[b], (position_basis[n, b, 0], position_basis[n, b, 1], position_basis[n, b, 2]))
        )
        quat = (
            quat[0] + weights[b] * rotation_basis[n, b, 0],
            quat[1] + weights[b] * rotation_basis[n, b, 1],
            quat[2] + weights[b] * rotation_basis[n, b, 2],
            quat[3] + weights[b] * rotation_basis[n, b, 3],
        )
    return mean, quat


@njit(**_JIT)
def _place(
    n, triangles, faces, vertices, weights, means, quats, scales, coefficients,
    position_basis, rotation_basis, color_basis,
    placed_means, placed_quats, placed_scales, placed_coefficients,
):  # fmt: skip
    total, _, along, normal, across, base_length, height = _frame(vertices, triangles[faces[n]])
    unit = _HALF * (base_length + height)
    mean, quat = _local(n, weights, means, quats, position_basis, rotation_basis)
    turned = _quat_product(_quat_of(along, normal, across), _unit_quat(quat)[0])
    for axis in range(3):
        offset = along[axis] * mean[0] + normal[axis] * mean[1] + across[axis] * mean[2]
        placed_means[n, axis] = _THIRD * total[axis] + unit * offset
        placed_scales[n, axis] = unit * scales[n, axis]
    for part in range(4):
        placed_quats[n, part] = turned[part]
    for k in range(coefficients.shape[1]):
        for channel in range(3):
            placed_coefficients[n, k, channel] = coefficients[n, k, channel]
    for b in range(len(weights)):
        for k in range(color_basis.shape[2]):
            for channel in range(3):
                placed_coefficients[n, k, channel] += weights[b] * color_basis[n, b, k, channel]


@njit(parallel=True, **_JIT)
def forward(
    triangles, faces, vertices, weights, means, quats, scales, coefficients,
    position_basis, rotation_basis, color_basis,
    placed_means, placed_quats, placed_scales, placed_coefficients,
):  # fmt: skip
    """Write where `[N]` Gaussians are; `scales` are the local standard deviations."""
    for n in prange(len(faces)):
        _place(
            n, triangles, faces, vertices, weights, means, quats, scales, coefficients,
            position_basis, rotation_basis, color_basis,
            placed_means, placed_quats, placed_scales, placed_coefficients,
        )  # fmt: skip


@njit(**_JIT)
def _pull_back(
    n, triangles, faces, vertices, weights, means, quats, scales, position_basis, rotation_basis, color_basis,
    g_means, g_quats, g_scales, g_coefficients,
    v_corners, v_weights, v_means, v_quats, v_scales, v_position_basis, v_rotation_basis, v_color_basis,
):  # fmt: skip
    _, side, along, normal, across, base_length, height = _frame(vertices, triangles[faces[n]])
    unit = _HALF * (base_length + height)
    mean, quat = _local(n, weights, means, quats, position_basis, rotation_basis)
    local, length = _unit_quat(quat)
    turn = _quat_of(along, normal, across)

    # The mean: origin + unit * axes @ mean.
    g_mean = _row(g_means, n)
    offset = _plus(_plus(_times(mean[0], along), _times(mean[1], normal)), _times(mean[2], across))
    g_unit, g_offset = _dot(offset, g_mean), _times(unit, g_mean)
    g_local = (_dot(along, g_offset), _dot(normal, g_offset), _dot(across, g_offset))
    for axis in range(3):
        v_means[n, axis] = g_local[axis]
        g_unit += scales[n, axis] * g_scales[n, axis]
        v_scales[n, axis] = unit * g_scales[n, axis]

    # The quaternion: turn times the normalised local one.
    g_quat = (g_quats[n, 0], g_quats[n, 1], g_quats[n, 2], g_quats[n, 3])
    g_unit_local = _quat_product(_conjugate(turn), g_quat)
    radial = (
        local[0] * g_unit_local[0] + local[1] * g_unit_local[1] + local[2] * g_unit_local[2]
        + local[3] * g_unit_local[3]
    )  # fmt: skip
    for part in range(4):
        v_quats[n, part] = (g_unit_local[part] - local[part] * radial) / length
    pull = _quat_product(_quat_product(g_quat, _conjugate(local)), _conjugate(turn))
    torque = (_HALF * pull[1], _HALF * pull[2], _HALF * pull[3])

    # The axes.
    g_along = _plus(_times(mean[0], g_offset), _times(_HALF, _cross(torque, along)))
    g_normal = _plus(_times(mean[1], g_offset), _times(_HALF, _cross(torque, normal)))
    g_across = _plus(_times(mean[2], g_offset), _times(_HALF, _cross(torque, across)))
    g_along = _plus(g_along, _cross(normal, g_across))
    g_normal = _plus(g_normal, _cross(g_across, along))
    # A triangle without area has nothing to turn, or it would turn at once.
    per_height, per_base = (_ONE / height, _ONE / base_length) if height > _TINY else (_ZERO, _ZERO)
    g_product = _times(per_height, _plus(g_normal, _times(-_dot(normal, g_normal), normal)))
    g_product = _plus(g_product, _times(_HALF * g_unit, normal))
    g_along = _plus(g_along, _cross(side, g_product))
    g_side = _cross(g_product, along)
    g_base = _times(per_base, _plus(g_along, _times(-_dot(along, g_along), along)))
    g_base = _plus(g_base, _times(_HALF * g_unit, along))
    for axis in range(3):
        third = _THIRD * g_mean[axis]
        v_corners[n, 0, axis] = third - g_base[axis] - g_side[axis]
        v_corners[n, 1, axis] = third + g_base[axis]
        v_corners[n, 2, axis] = third + g_side[axis]

    # The bases and their weights.
    for b in range(len(weights)):
        of_weight = _ZERO
        for axis in range(3):
            of_weight += position_basis[n, b, axis] * v_means[n, axis]
            v_position_basis[n, b, axis] = weights[b] * v_means[n, axis]
        for part in range(4):
            of_weight += rotation_basis[n, b, part] * v_quats[n, part]
            v_rotation_basis[n, b, part] = weights[b] * v_quats[n, part]
        for k in range(color_basis.shape[2]):
            for channel in range(3):
                of_weight += color_basis[n, b, k, channel] * g_coefficients[n, k, channel]
                v_color_basis[n, b, k, channel] = weights[b] * g_coefficients[n, k, channel]
        v_weights[n, b] = of_weight


@njit(parallel=True, **_JIT)
def backward(
    triangles, faces, vertices, weights, means, quats, scales, position_basis, rotation_basis, color_basis,
    g_means, g_quats, g_scales, g_coefficients,
    v_corners, v_weights, v_means, v_quats, v_scales, v_position_basis, v_rotation_basis, v_color_basis,
):  # fmt: skip
    """From the gradients `g_` of what `forward` wrote, write those of what it was given.

    `v_corners` `[N, 3, 3]` are of the corners of each Gaussian's triangle and `v_weights` `[N, B]` what each adds to
    the gradient of the weights. The gradient of the coefficients is `g_coefficients`.
    """
    for n in prange(len(faces)):
        _pull_back(
            n, triangles, faces, vertices, weights, means, quats, scales, position_basis, rotation_basis, color_basis,
            g_means, g_quats, g_scales, g_coefficients,
            v_corners, v_weights, v_means, v_quats, v_scales, v_position_basis, v_rotation_basis, v_color_basis,
        )  # fmt: skip


@njit(**_JIT)
def scatter(triangles, faces, v_corners, v_vertices):
    """Add `[N, 3, 3]` of corners to `[V, 3]` of vertices, one after the other: the sum is always the same."""
    for n in range(len(faces)):
        for corner in range(3):
            vertex = triangles[faces[n], corner]
            for axis in range(3):
                v_vertices[vertex, axis] += v_corners[n, corner, axis]
