"""A z-buffer over triangles, compiled by Numba on first use and cached."""

import numpy as np
from numba import njit

_JIT = {"cache": True, "fastmath": True, "error_model": "numpy"}


@njit(**_JIT)
def _span(a, b, c, limit):  # pragma: no cover - compiled
    """First of the whole numbers from 0 to `limit` between three, and the one after the last.

    Not by `ceil` and `floor`, which are slow calls in Numba, and unsigned, for which it need not count from the end.
    """
    low, high = max(min(a, b, c), 0), max(min(max(a, b, c), limit), -1)
    first, last = int(low), int(high)
    return np.uint32(first + (first < low)), np.uint32(last - (last > high) + 1)


@njit(**_JIT)
def rasterize(screen, triangles, open_ones, depth, owner, weights):  # pragma: no cover - compiled
    """Find the nearest triangle of every sample, among these and those that were drawn before.

    Args:
        screen: [V, 3] float32: sample column, sample row, 1 / distance.
        triangles: [F, 3] int32; open_ones: [F] bool, which are seen from behind as well.
        depth: [H, W] float32, 1 / distance of what was drawn before, 0 where nothing was.
        owner: [H, W] int32; weights: [H, W, 2] float32, the perspective-correct barycentric coordinates of the
            triangle's first two corners. Both are written where a triangle is nearer than `depth`.
    """
    height, width = depth.shape
    for k in range(triangles.shape[0]):
        a, b, c = triangles[k, 0], triangles[k, 1], triangles[k, 2]
        x0, y0, x1, y1, x2, y2 = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area >= -1e-9 and (not open_ones[k] or area < 1e-9):
            continue
        left, right = _span(x0, x1, x2, width - 1)
        top, bottom = _span(y0, y1, y2, height - 1)
        if left >= right or top >= bottom:
            continue
        z0, z1, z2 = screen[a, 2], screen[b, 2], screen[c, 2]
        inverse = 1.0 / area
        w1_x, w1_y, w2_x, w2_y = (y2 - y0) * inverse, (x0 - x2) * inverse, (y0 - y1) * inverse, (x1 - x0) * inverse
        for y in range(top, bottom):
            w1 = w1_x * (left - x0) + w1_y * (y - y0)
            w2 = w2_x * (left - x0) + w2_y * (y - y0)
            for x in range(left, right):
                w0 = 1.0 - w1 - w2
                if min(w0, w1, w2) >= -1e-5:
                    z = w0 * z0 + w1 * z1 + w2 * z2
                    if z > depth[y, x]:
                        depth[y, x] = z
                        owner[y, x] = k
                        weights[y, x, 0] = w0 * z0 / z
                        weights[y, x, 1] = w1 * z1 / z
                w1 += w1_x
                w2 += w2_x
