"""The compiled loops: placing vertices, and the shading of what the rasteriser of triangles found.

They are compiled by Numba on first use and cached. Everything that does not need a loop over pixels lives elsewhere,
so that compiling takes seconds.
"""

import math

import numpy as np
from numba import njit

from models.demo.fields import Array

HEAD, EYE_LEFT, EYE_RIGHT, TEETH_UPPER, TEETH_LOWER, TONGUE, HAIR, STRAND, CLOTH = range(9)
CLOSED = HEAD, HAIR, CLOTH  # parts that nobody sees from behind

# Columns of the per-vertex arrays.
POSITION, NORMAL, TANGENT = 0, 3, 6  # of the moving one [V, 9], world frame
REST, COLOUR, OPENNESS, SHADOW, DEPTH, SCALP = 0, 3, 6, 7, 8, 9  # of the fixed one [V, 10]

# Columns of a sheet's row in the table of sheets.
FIRST_ROW, ROWS, COLUMNS, LOW_X, LOW_Y, TEXEL = range(6)

# Columns of the scene: camera (3), how far the mouth is open, whorl (x, z), the line between face and neck (y, slope,
# z), the head's frame (origin, x axis, y axis, y of the origin), optical axes of left and right eye, half the
# aperture's width and the eyes' offset.
CAMERA, OPENING, WHORL_X, WHORL_Z, NECK_Y, NECK_SLOPE, NECK_Z, ORIGIN = 0, 3, 4, 5, 6, 7, 8, 9
X_AXIS, Y_AXIS, ORIGIN_Y, OPTICAL_AXES, HALF_APERTURE, EYE_OFFSET, SCENE_SIZE = 12, 15, 18, 19, 25, 26, 27


@njit(cache=True, fastmath=True)
def place(points, normals, tangents, stiffness, motion, camera, moving, screen):  # pragma: no cover - compiled
    """Move vertices with the head and project them.

    A loop, because whole-array arithmetic on this many vertices spends its time on temporary memory.

    Args:
        points, normals, tangents: [V, 3] float32 in the head frame; stiffness: [V] float32, 1 follows the skull.
        motion: [3, 4] rigid motion of the skull, mm.
        camera: [4] focal length and half the image in samples, height and distance of the camera in mm.
        moving: [V, 9] float32 and screen: [V, 3] float32: outputs as `rasterize` and `shade` want them.
    """
    focal, middle, height, distance = camera[0], camera[1], camera[2], camera[3]
    for i in range(points.shape[0]):
        w = stiffness[i]
        for r in range(3):
            p, n, t = motion[r, 3], 0.0, 0.0
            for c in range(3):
                p += motion[r, c] * points[i, c]
                n += motion[r, c] * normals[i, c]
                t += motion[r, c] * tangents[i, c]
            moving[i, r] = points[i, r] + w * (p - points[i, r])
            moving[i, 3 + r] = normals[i, r] + w * (n - normals[i, r])
            moving[i, 6 + r] = t
        inverse = 1.0 / (distance - moving[i, 2])
        screen[i, 0] = middle + focal * moving[i, 0] * inverse - 0.5
        screen[i, 1] = middle - focal * (moving[i, 1] - height) * inverse - 0.5
        screen[i, 2] = inverse


@njit(cache=True, fastmath=True)
def _step(start, end, x):  # pragma: no cover - compiled
    t = min(1.0, max(0.0, (x - start) / (end - start)))
    return t * t * (3.0 - 2.0 * t)


@njit(cache=True, fastmath=True)
def _below_jaw(y, z, scene):  # pragma: no cover - compiled
    """Whether a point at rest belongs to the neck: the line follows the jaw forward and rises towards the nape."""
    forward = z - scene[NECK_Z]
    return y < scene[NECK_Y] - (scene[NECK_SLOPE] * forward if forward > 0 else 0.3 * forward)


@njit(cache=True, fastmath=True)
def _sheet(atlas, row, x, y, out):  # pragma: no cover - compiled
    """Bilinear sample of one sheet into `out` [8]; the label comes from the nearest texel. False outside the sheet."""
    u = (x - row[LOW_X]) / row[TEXEL] - 0.5
    v = (y - row[LOW_Y]) / row[TEXEL] - 0.5
    columns, rows, first = int(row[COLUMNS]), int(row[ROWS]), int(row[FIRST_ROW])
    i, j = int(math.floor(u)), int(math.floor(v))
    if i < 0 or j < 0 or i >= columns - 1 or j >= rows - 1:
        return False
    fu, fv = u - i, v - j
    j += first
    for c in range(6):
        low = atlas[j, i, c] * (1 - fu) + atlas[j, i + 1, c] * fu
        high = atlas[j + 1, i, c] * (1 - fu) + atlas[j + 1, i + 1, c] * fu
        out[c] = low * (1 - fv) + high * fv
    ii, jj = i + int(fu + 0.5), j + int(fv + 0.5)
    out[6], out[7] = atlas[jj, ii, 6], atlas[jj, ii, 7]
    return True


@njit(cache=True, fastmath=True)
def shade(moving, fixed, triangles, part, owner, weights, atlas, table, lights, colours, scene, lids, irradiance,
          albedo, gloss, label):  # pragma: no cover - compiled  # fmt: skip
    """Light every sample.

    Args:
        moving: [V, 9] world position (mm), normal, hair tangent. fixed: [V, 10], see the column names above.
        owner, weights: from `rasterize`.
        atlas: [R, C, 8] all sheets stacked; table: [9, 6] one row a part, TEXEL 0 where a part has none.
        lights: [3, 3] unit directions to the key, fill and rim light.
        colours: [3, 3, 2]: per light and colour channel, strength and wrap offset; see `render.LIGHTS`.
        scene: what changes per frame, columns as named above.
        lids: [2, 2, 65] height of the upper and lower lid edge of the left and of the right eye over t in -1..1.
        irradiance, albedo, gloss: [H, W, 3] float32 outputs, linear RGB; label: [H, W] uint8 output.
    """
    height, width = owner.shape
    texel = np.empty(8, np.float64)
    m = np.empty(9, np.float64)
    f = np.empty(10, np.float64)
    for py in range(height):
        for px in range(width):
            k = owner[py, px]
            if k < 0:
                label[py, px] = 0
                continue
            a, b, c = triangles[k, 0], triangles[k, 1], triangles[k, 2]
            u0, u1 = weights[py, px, 0], weights[py, px, 1]
            u2 = 1.0 - u0 - u1
            for i in range(9):
                m[i] = u0 * moving[a, i] + u1 * moving[b, i] + u2 * moving[c, i]
            for i in range(10):
                f[i] = u0 * fixed[a, i] + u1 * fixed[b, i] + u2 * fixed[c, i]
            p = part[k]
            vx, vy, vz = scene[CAMERA] - m[0], scene[CAMERA + 1] - m[1], scene[CAMERA + 2] - m[2]
            length = math.sqrt(vx * vx + vy * vy + vz * vz)
            vx, vy, vz = vx / length, vy / length, vz / length
            nx, ny, nz = m[3], m[4], m[5]
            length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
            nx, ny, nz = nx / length, ny / length, nz / length
            if (EYE_LEFT <= p <= TONGUE or p == STRAND) and nx * vx + ny * vy + nz * vz < 0:
                nx, ny, nz = -nx, -ny, -nz
            red, green, blue = f[3], f[4], f[5]
            x, y, z = f[0], f[1], f[2]
            openness, lit = f[6], f[7]
            rough, shine, soft, strand, name = 0.46, 0.0, 0.0, 0.0, 1
            mouth = scene[OPENING]
            if p == HEAD:
                soft, shine = 1.0, 0.55 * (1 - f[9])
                if z < 92 and _below_jaw(y, z, scene):
                    name = 9
                if f[9] > 0.6:
                    name = 8
                if z > 40 and _sheet(atlas, table[p], x, y, texel):
                    keep = _step(texel[6] + 1.0, texel[6] - 1.0, f[8])
                    alpha = texel[3] * keep
                    red = red * (1 - alpha) + texel[0] * keep
                    green = green * (1 - alpha) + texel[1] * keep
                    blue = blue * (1 - alpha) + texel[2] * keep
                    shine = shine * (1 - alpha) + texel[4] * keep
                    nx += texel[5] * keep
                    if texel[7] == 5:
                        # Lips turn darker and wetter inwards.
                        inward = 1 - 0.45 * _step(0.5, 5.5, f[8])
                        red, green, blue = red * inward, green * inward, blue * inward
                        rough = 0.36
                    if texel[7] > 0 and keep > 0.5:
                        name = int(texel[7])
                if f[8] > 5.5 and z > 30 and abs(x) < 30 and -95 < y < -50:
                    deep = _step(5.5, 16.0, f[8])
                    red = 0.32 * (1 - deep) + 0.085 * deep
                    green = 0.09 * (1 - deep) + 0.018 * deep
                    blue = 0.08 * (1 - deep) + 0.017 * deep
                    name, shine = 7, 0.3
                    openness = (0.80 - 0.40 * deep) * (0.4 + 0.6 * mouth)
                    lit *= 0.6 * (1 - deep)
            elif p == EYE_LEFT or p == EYE_RIGHT:
                soft, rough, name = 0.8, 0.12, 3
                if z > 0 and _sheet(atlas, table[p], x, y, texel):
                    red, green, blue, shine = texel[0], texel[1], texel[2], texel[4]
                # In the head's frame, to know how far below the moving lid this point lies.
                dx, dy, dz = m[0] - scene[ORIGIN], m[1] - scene[ORIGIN + 1], m[2] - scene[ORIGIN + 2]
                hx = scene[X_AXIS] * dx + scene[X_AXIS + 1] * dy + scene[X_AXIS + 2] * dz
                hy = scene[Y_AXIS] * dx + scene[Y_AXIS + 1] * dy + scene[Y_AXIS + 2] * dz + scene[ORIGIN_Y]
                t = (abs(hx) - scene[EYE_OFFSET]) / scene[HALF_APERTURE]
                slot = min(63.999, max(0.0, (t + 1) * 32))
                i, e = int(slot), int(p - EYE_LEFT)
                w = slot - i
                under = lids[e, 0, i] * (1 - w) + lids[e, 0, i + 1] * w - hy
                over = hy - (lids[e, 1, i] * (1 - w) + lids[e, 1, i + 1] * w)
                openness = (0.30 + 0.70 * _step(-0.3, 4.8, under)) * (0.72 + 0.28 * _step(-0.4, 2.0, over))
                openness *= 0.55 + 0.45 * _step(1.03, 0.72, abs(t))
                lit = 0.22 + 0.78 * _step(0.2, 5.0, under)
                if t < -0.76:
                    flesh = _step(-0.76, -0.92, t)
                    red = red * (1 - flesh) + 0.50 * flesh
                    green = green * (1 - flesh) + 0.22 * flesh
                    blue = blue * (1 - flesh) + 0.19 * flesh
                radius = math.sqrt(x * x + y * y)
                if z > 0 and radius < 7.5:
                    # The cornea bulges: its normals lean away from the optical axis more than the eyeball's do.
                    g = OPTICAL_AXES + 3 * e
                    along = nx * scene[g] + ny * scene[g + 1] + nz * scene[g + 2]
                    bulge = 0.7 * _step(7.5, 5.5, radius)
                    nx += bulge * (nx - along * scene[g])
                    ny += bulge * (ny - along * scene[g + 1])
                    nz += bulge * (nz - along * scene[g + 2])
            elif p == TEETH_UPPER or p == TEETH_LOWER:
                soft, rough, shine, name = 1.0, 0.25, 0.5, 6
                if _sheet(atlas, table[p], x, y, texel):
                    red, green, blue, name = texel[0], texel[1], texel[2], int(texel[7])
                openness = (0.55 + 0.45 * mouth) * (1 - 0.70 * _step(8, 22, abs(x)))
                lit = 0.70 * openness
                if p == TEETH_LOWER:
                    openness, lit = 0.8 * openness, 0.75 * lit
            elif p == TONGUE:
                soft, rough, shine, name = 0.9, 0.4, 0.45, 7
                openness = (0.22 + 0.55 * _step(58, 84, z)) * (0.45 + 0.55 * mouth)
                lit = 0.35 * openness
            elif p == HAIR or p == STRAND:
                name, soft = 8, 0.9
                tx, ty, tz = m[6], m[7], m[8]
                fine = 0.6
                if p == HAIR:
                    azimuth = math.atan2(x - scene[WHORL_X], z - scene[WHORL_Z])
                    radius = math.sqrt((x - scene[WHORL_X]) ** 2 + (z - scene[WHORL_Z]) ** 2)
                    polar = math.atan2(radius, y - 20) if y > 20 else 1.5708 + (20 - y) / 90.0
                    if _sheet(atlas, table[p], azimuth * 60.0, polar * 60.0, texel):
                        red, green, blue = red * texel[0], green * texel[1], blue * texel[2]
                        fine = texel[4]
                        nx += texel[5]
                        nz += 0.6 * texel[5]
                        tx, ty, tz = tx + 0.5 * texel[5] * nx, ty + 0.5 * texel[5] * ny, tz + 0.5 * texel[5] * nz
                # Kajiya and Kay (1989): the highlight depends on the angle between the strand and the half vector.
                hx, hy, hz = lights[0, 0] + vx, lights[0, 1] + vy, lights[0, 2] + vz
                length = math.sqrt((hx * hx + hy * hy + hz * hz) * (tx * tx + ty * ty + tz * tz)) + 1e-9
                cosine = (tx * hx + ty * hy + tz * hz) / length
                sine = math.sqrt(max(0.0, 1 - cosine * cosine))
                facing = max(0.0, nx * lights[0, 0] + ny * lights[0, 1] + nz * lights[0, 2])
                strand = (0.10 * sine**60 + 0.045 * sine**14) * (0.35 + 0.9 * fine) * lit * (0.25 + 0.75 * facing)
            else:
                name, soft, rough, shine = 10, 0.3, 0.8, 0.12
                if _sheet(atlas, table[p], x, y, texel) and z > -40:
                    red, green, blue = red * texel[0], green * texel[1], blue * texel[2]
            length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
            nx, ny, nz = nx / length, ny / length, nz / length
            key = nx * lights[0, 0] + ny * lights[0, 1] + nz * lights[0, 2]
            fill = nx * lights[1, 0] + ny * lights[1, 1] + nz * lights[1, 2]
            rim = max(0.0, nx * lights[2, 0] + ny * lights[2, 1] + nz * lights[2, 2])
            sky = 0.55 + 0.45 * (0.5 + 0.5 * ny)
            for ch in range(3):
                # Light wraps around skin, red the farthest; shadows on it have reddish edges for the same reason.
                wrap = soft * colours[ch, 4]
                direct = max(0.0, (key + wrap) / (1 + wrap)) * max(lit, 1e-4) ** colours[ch, 5]
                around = max(0.0, (fill + 0.4 + 0.5 * wrap) / (1.4 + 0.5 * wrap))
                ambient = colours[ch, 1] * around + colours[ch, 2] * sky + colours[ch, 3] * rim
                irradiance[py, px, ch] = colours[ch, 0] * direct + ambient * max(openness, 1e-4) ** colours[ch, 6]
            albedo[py, px, 0], albedo[py, px, 1], albedo[py, px, 2] = red, green, blue
            if shine > 0:
                facing = max(0.05, nx * vx + ny * vy + nz * vz)
                spread = rough**4
                for i in range(2):
                    reach = key if i == 0 else fill
                    if reach <= 0:
                        continue
                    hx, hy, hz = lights[i, 0] + vx, lights[i, 1] + vy, lights[i, 2] + vz
                    length = math.sqrt(hx * hx + hy * hy + hz * hz)
                    hx, hy, hz = hx / length, hy / length, hz / length
                    nh = max(0.0, nx * hx + ny * hy + nz * hz)
                    lobe = spread / (math.pi * (nh * nh * (spread - 1) + 1) ** 2)
                    fresnel = 0.03 + 0.97 * (1 - (vx * hx + vy * hy + vz * hz)) ** 5
                    power = 1.6 * lit if i == 0 else 0.45 * openness
                    strand += shine * lobe * fresnel * reach * power / (4 * facing * max(reach, 0.1) + 0.1)
            strand = min(strand, 2.5)
            if name == 8:  # light that went through hair takes its colour
                gloss[py, px, 0], gloss[py, px, 1], gloss[py, px, 2] = strand, 0.80 * strand, 0.60 * strand
            else:
                gloss[py, px, 0], gloss[py, px, 1], gloss[py, px, 2] = strand, 0.97 * strand, 0.93 * strand
            label[py, px] = name


def majority_2x2(label: Array) -> Array:
    """The commonest label of every 2 x 2 block; of four different ones the first."""
    a, b, c, d = label[::2, ::2], label[::2, 1::2], label[1::2, ::2], label[1::2, 1::2]
    later = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    return np.where((a == b) | (a == c) | (a == d), a, later)
