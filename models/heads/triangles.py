"""A z-buffer over triangles, compiled by Numba on first use and cached."""

import math

import numpy as np
from numba import njit


@njit(cache=True, fastmath=True)
def rasterize(screen, triangles, open_ones, depth, owner, weights):  # pragma: no cover - compiled
    """Nearest triangle of every sample.

    Args:
        screen: [V, 3] float32: sample column, sample row, 1 / distance.
        triangles: [F, 3] int32; open_ones: [F] bool, which are seen from behind as well.
        depth: [H, W] float32, owner: [H, W] int32 (-1: none), weights: [H, W, 2] float32: outputs. The weights are the
            perspective-correct barycentric coordinates of the triangle's first two corners.
    """
    height, width = depth.shape
    depth[:] = 0.0
    owner[:] = -1
    for k in range(triangles.shape[0]):
        a, b, c = triangles[k, 0], triangles[k, 1], triangles[k, 2]
        x0, y0, x1, y1, x2, y2 = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area >= -1e-9 and (not open_ones[k] or area < 1e-9):
            continue
        left, right = max(0, int(math.ceil(min(x0, x1, x2)))), min(width - 1, int(math.floor(max(x0, x1, x2))))
        top, bottom = max(0, int(math.ceil(min(y0, y1, y2)))), min(height - 1, int(math.floor(max(y0, y1, y2))))
        if left > right or top > bottom:
            continue
        z0, z1, z2 = screen[a, 2], screen[b, 2], screen[c, 2]
        inverse = np.float32(1.0) / area
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                w1 = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) * inverse
                w2 = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) * inverse
                w0 = np.float32(1.0) - w1 - w2
                if w0 < -1e-5 or w1 < -1e-5 or w2 < -1e-5:
                    continue
                z = w0 * z0 + w1 * z1 + w2 * z2
                if z > depth[y, x]:
                    depth[y, x] = z
                    owner[y, x] = k
                    weights[y, x, 0] = w0 * z0 / z
                    weights[y, x, 1] = w1 * z1 / z
