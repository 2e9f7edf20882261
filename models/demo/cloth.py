"""The jumper: shoulders, two folds and a ribbed collar, as a signed distance field in millimetres."""

import numpy as np

from models.demo.fields import Array, bell, ellipsoid, round_cone, smooth_max, smooth_min
from models.demo.identity import Identity


def collar_coordinates(points: Array, who: Identity) -> tuple[Array, Array]:
    """Height above the tilted plane of the collar (mm) and radius about the neck (1 on the ring). Both [N]."""
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    height = y + 156.0 + 0.42 * (z + 32.0) * np.where(z > -32.0, 1.0, 0.55)
    radius = np.sqrt((x / (who.neck_radius + 14)) ** 2 + ((z + 30) / (who.neck_radius + 15)) ** 2)
    return height, radius


def cloth_distance(points: Array, who: Identity) -> Array:
    """Signed distance to the jumper. `points` [N, 3] in mm; returns [N]."""
    signed_x, y, z = points[:, 0], points[:, 1], points[:, 2]
    x, s = np.abs(signed_x), who.shoulders
    d = ellipsoid(x, y + 306, z + 38, 166 * s, 150, 99)
    d = smooth_min(d, round_cone(x, y, z, (46, -168, -46), (165 * s, -216, -44), 30, 44), 46)
    d = smooth_min(d, round_cone(x, y, z, (168 * s, -220, -44), (205 * s, -420, -36), 50, 46), 30)
    d = smooth_min(d, ellipsoid(x - 70, y + 330, z - 22, 80, 80, 40), 40)
    wave = np.sin(0.05 * signed_x + 0.075 * y + 0.8 * np.sin(0.03 * signed_x + 0.02 * y))
    d = d + 1.6 * wave * bell(x - 125, 50) * bell(y + 260, 50)
    d = d + 1.2 * np.sin(0.09 * signed_x - 0.045 * y + 1) * bell(x - 60, 50) * bell(y + 290, 50)
    height, radius = collar_coordinates(points, who)
    hole = (radius - 1) * (who.neck_radius + 14)
    # The neck hole stops at the plane of the collar, or the chest would show below it like a bib.
    d = smooth_max(d, -np.maximum(hole, -(height + 2)), 5)
    collar = np.hypot(np.maximum(np.abs(hole) - 1, 0), np.maximum(np.abs(height - 1) - 6, 0)) - 3.6
    return smooth_min(d, collar, 5)
