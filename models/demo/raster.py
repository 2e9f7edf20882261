"""The compiled loops: placing vertices, and the shading of what the rasteriser of triangles found.

They are compiled by Numba on first use and cached. Everything that does not need a loop over pixels lives elsewhere,
so that compiling takes seconds.
"""

import math

import numpy as np
from numba import njit

HEAD, EYE_LEFT, EYE_RIGHT, TEETH_UPPER, TEETH_LOWER, TONGUE, HAIR, STRAND, CLOTH = range(9)
CLOSED = HEAD, HAIR, CLOTH  # parts that nobody sees from behind

# Columns of the per-vertex arrays.
POSITION, NORMAL = 0, 3  # of the moving one [V, 6], world frame
REST, COLOUR, OPENNESS, SHADOW, DEPTH, SCALP = 0, 3, 6, 7, 8, 9  # of the fixed one [V, 10]

# Columns of a sheet's row in the table of sheets.
FIRST_ROW, ROWS, COLUMNS, LOW_X, LOW_Y, PER_MM = range(6)

# Columns of the scene: camera (3), how far the mouth is open, whorl (x, z), the line between face and neck (y, slope,
# z), the head's frame (origin, x, y and z axis, y of the origin), optical axes of left and right eye, half the
# aperture's width and the eyes' offset.
CAMERA, OPENING, WHORL_X, WHORL_Z, NECK_Y, NECK_SLOPE, NECK_Z, ORIGIN = 0, 3, 4, 5, 6, 7, 8, 9
X_AXIS, Y_AXIS, Z_AXIS, ORIGIN_Y, OPTICAL_AXES, HALF_APERTURE, EYE_OFFSET, SCENE_SIZE = 12, 15, 18, 21, 22, 28, 29, 30

_JIT = {"cache": True, "fastmath": True, "error_model": "numpy"}


@njit(**_JIT)
def vertex_normals(vertices, triangles):  # pragma: no cover - compiled
    """Unit normals [V, 3] float32 of a surface: every triangle [F, 3] counts by its area."""
    normals = np.zeros(vertices.shape, np.float32)
    for k in range(len(triangles)):
        a, b, c = triangles[k, 0], triangles[k, 1], triangles[k, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        wx, wy, wz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
        for i in (a, b, c):
            normals[i, 0] += nx
            normals[i, 1] += ny
            normals[i, 2] += nz
    for i in range(len(normals)):
        nx, ny, nz = normals[i, 0], normals[i, 1], normals[i, 2]
        length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
        normals[i, 0], normals[i, 1], normals[i, 2] = nx / length, ny / length, nz / length
    return normals


@njit(**_JIT)
def place(points, normals, stiffness, motion, camera):  # pragma: no cover - compiled
    """Move vertices with the head and project them.

    A loop, because whole-array arithmetic on this many vertices spends its time on temporary memory.

    Args:
        points, normals: [V, 3] float32 in the head frame; stiffness: [V] float32, 1 follows the skull.
        motion: [3, 4] rigid motion of the skull, mm.
        camera: [4] focal length and half the image in samples, height and distance of the camera in mm.

    Returns:
        moving: [V, 6] float32 and screen: [V, 3] float32 as `rasterize` and `shade` want them.
    """
    moving, screen = np.empty((len(points), 6), np.float32), np.empty((len(points), 3), np.float32)
    focal, middle, height, distance = camera[0], camera[1], camera[2], camera[3]
    for i in range(points.shape[0]):
        w = stiffness[i]
        for r in range(3):
            p, n = motion[r, 3], 0.0
            for c in range(3):
                p += motion[r, c] * points[i, c]
                n += motion[r, c] * normals[i, c]
            moving[i, r] = points[i, r] + w * (p - points[i, r])
            moving[i, 3 + r] = normals[i, r] + w * (n - normals[i, r])
        inverse = 1.0 / (distance - moving[i, 2])
        screen[i, 0] = middle + focal * moving[i, 0] * inverse - 0.5
        screen[i, 1] = middle - focal * (moving[i, 1] - height) * inverse - 0.5
        screen[i, 2] = inverse
    return moving, screen


@njit(**_JIT)
def _step(start, end, x):  # pragma: no cover - compiled
    t = min(1.0, max(0.0, (x - start) / (end - start)))
    return t * t * (3.0 - 2.0 * t)


@njit(**_JIT)
def _below_jaw(y, z, scene):  # pragma: no cover - compiled
    """Whether a point at rest belongs to the neck: the line follows the jaw forward and rises towards the nape."""
    forward = z - scene[NECK_Z]
    return y < scene[NECK_Y] - (scene[NECK_SLOPE] * forward if forward > 0 else 0.3 * forward)


@njit(forceinline=True, **_JIT)
def _sheet(atlas, table, part, x, y, out):  # pragma: no cover - compiled
    """Bilinear sample of a part's sheet into `out` [8], the label from the nearest texel. False outside the sheet.

    Written into the caller: the call takes as long as the work.
    """
    u = (x - table[part, LOW_X]) * table[part, PER_MM] - 0.5
    v = (y - table[part, LOW_Y]) * table[part, PER_MM] - 0.5
    if u < 0 or v < 0 or u >= table[part, COLUMNS] - 1 or v >= table[part, ROWS] - 1:
        return False
    i, j = int(u), int(v)
    fu, fv = u - i, v - j
    j += int(table[part, FIRST_ROW])
    for c in range(6):
        low = atlas[j, i, c] * (1 - fu) + atlas[j, i + 1, c] * fu
        high = atlas[j + 1, i, c] * (1 - fu) + atlas[j + 1, i + 1, c] * fu
        out[c] = low * (1 - fv) + high * fv
    ii, jj = i + int(fu + 0.5), j + int(fv + 0.5)
    out[6], out[7] = atlas[jj, ii, 6], atlas[jj, ii, 7]
    return True


@njit(**_JIT)
def _at(corners, shares, values, column):  # pragma: no cover - compiled
    """A column of the vertices at a point of a triangle."""
    a, b, c = corners
    return shares[0] * values[a, column] + shares[1] * values[b, column] + shares[2] * values[c, column]


@njit(**_JIT)
def _three_at(corners, shares, values, first):  # pragma: no cover - compiled
    return (
        _at(corners, shares, values, first),
        _at(corners, shares, values, first + 1),
        _at(corners, shares, values, first + 2),
    )


@njit(**_JIT)
def _turned(scene, x, y, z):  # pragma: no cover - compiled
    """A direction of the head frame in the world."""
    return (
        scene[X_AXIS] * x + scene[Y_AXIS] * y + scene[Z_AXIS] * z,
        scene[X_AXIS + 1] * x + scene[Y_AXIS + 1] * y + scene[Z_AXIS + 1] * z,
        scene[X_AXIS + 2] * x + scene[Y_AXIS + 2] * y + scene[Z_AXIS + 2] * z,
    )


@njit(**_JIT)
def _power(base, logarithm, exponent):  # pragma: no cover - compiled
    """Power of a base with this logarithm: two or three share one, and green's exponents are 1."""
    return base if exponent == 1 else math.exp(np.float32(exponent) * logarithm)


@njit(**_JIT)
def shade(moving, fixed, tangents, triangles, part, owner, weights, atlas, table, lights, colours, scene, lids,
          irradiance, albedo, gloss, label):  # pragma: no cover - compiled  # fmt: skip
    """Light every sample.

    Args:
        moving: [V, 6] world position (mm) and normal; fixed: [V, 10], see the column names above.
        tangents: [V, 3] directions of hair, head frame.
        owner, weights: from `rasterize`.
        atlas: [R, C, 8] all sheets stacked; table: [9, 6] one row a part, without columns where a part has none.
        lights: [3, 3] unit directions to the key, fill and rim light.
        colours: [3, 3, 2]: per light and colour channel, strength and wrap offset; see `render.LIGHTS`.
        scene: what changes per frame, columns as named above.
        lids: [2, 2, 65] height of the upper and lower lid edge of the left and of the right eye over t in -1..1.
        irradiance, albedo, gloss: [H, W, 3] float32 outputs, linear RGB; label: [H, W] uint8 output.
    """
    height, width = owner.shape
    texel = np.empty(8, np.float64)
    for py in range(height):
        for px in range(width):
            k = owner[py, px]
            if k < 0:
                continue
            p = part[k]
            corners = triangles[k, 0], triangles[k, 1], triangles[k, 2]
            u, v = weights[py, px, 0], weights[py, px, 1]
            shares = u, v, np.float32(1) - u - v
            wx, wy, wz = _three_at(corners, shares, moving, POSITION)
            vx, vy, vz = scene[CAMERA] - wx, scene[CAMERA + 1] - wy, scene[CAMERA + 2] - wz
            length = math.sqrt(vx * vx + vy * vy + vz * vz)
            vx, vy, vz = vx / length, vy / length, vz / length
            nx, ny, nz = _three_at(corners, shares, moving, NORMAL)
            length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
            nx, ny, nz = nx / length, ny / length, nz / length
            if (EYE_LEFT <= p <= TONGUE or p == STRAND) and nx * vx + ny * vy + nz * vz < 0:
                nx, ny, nz = -nx, -ny, -nz
            x, y, z = _three_at(corners, shares, fixed, REST)
            red, green, blue = _three_at(corners, shares, fixed, COLOUR)
            openness, lit = _at(corners, shares, fixed, OPENNESS), _at(corners, shares, fixed, SHADOW)
            rough, shine, soft, strand, name = 0.46, 0.0, 0.0, 0.0, 1
            mouth = scene[OPENING]
            if p == HEAD:
                depth, scalp = _at(corners, shares, fixed, DEPTH), _at(corners, shares, fixed, SCALP)
                soft, shine = 1.0, 0.55 * (1 - scalp)
                if z < 92 and _below_jaw(y, z, scene):
                    name = 9
                if scalp > 0.6:
                    name = 8
                if z > 40 and _sheet(atlas, table, p, x, y, texel):
                    keep = _step(texel[6] + 1.0, texel[6] - 1.0, depth)
                    alpha = texel[3] * keep
                    red = red * (1 - alpha) + texel[0] * keep
                    green = green * (1 - alpha) + texel[1] * keep
                    blue = blue * (1 - alpha) + texel[2] * keep
                    shine = shine * (1 - alpha) + texel[4] * keep
                    nx += texel[5] * keep
                    if texel[7] == 5:
                        # Lips turn darker and wetter inwards.
                        inward = 1 - 0.45 * _step(0.5, 5.5, depth)
                        red, green, blue = red * inward, green * inward, blue * inward
                        rough = 0.36
                    if texel[7] > 0 and keep > 0.5:
                        name = int(texel[7])
                if depth > 5.5 and z > 30 and abs(x) < 30 and -95 < y < -50:
                    deep = _step(5.5, 16.0, depth)
                    red = 0.32 * (1 - deep) + 0.085 * deep
                    green = 0.09 * (1 - deep) + 0.018 * deep
                    blue = 0.08 * (1 - deep) + 0.017 * deep
                    name, shine = 7, 0.3
                    openness = (0.80 - 0.40 * deep) * (0.4 + 0.6 * mouth)
                    lit *= 0.6 * (1 - deep)
            elif p == EYE_LEFT or p == EYE_RIGHT:
                soft, rough, name = 0.8, 0.12, 3
                if z > 0 and _sheet(atlas, table, p, x, y, texel):
                    red, green, blue, shine = texel[0], texel[1], texel[2], texel[4]
                # In the head's frame, to know how far below the moving lid this point lies.
                dx, dy, dz = wx - scene[ORIGIN], wy - scene[ORIGIN + 1], wz - scene[ORIGIN + 2]
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
                if _sheet(atlas, table, p, x, y, texel):
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
                tx, ty, tz = _turned(scene, *_three_at(corners, shares, tangents, 0))
                fine = 0.6
                if p == HAIR:
                    azimuth = math.atan2(x - scene[WHORL_X], z - scene[WHORL_Z])
                    radius = math.sqrt((x - scene[WHORL_X]) ** 2 + (z - scene[WHORL_Z]) ** 2)
                    polar = math.atan2(radius, y - 20) if y > 20 else 1.5708 + (20 - y) / 90.0
                    if _sheet(atlas, table, p, azimuth * 60.0, polar * 60.0, texel):
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
                if _sheet(atlas, table, p, x, y, texel) and z > -40:
                    red, green, blue = red * texel[0], green * texel[1], blue * texel[2]
            length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
            nx, ny, nz = nx / length, ny / length, nz / length
            key = nx * lights[0, 0] + ny * lights[0, 1] + nz * lights[0, 2]
            fill = nx * lights[1, 0] + ny * lights[1, 1] + nz * lights[1, 2]
            rim = max(0.0, nx * lights[2, 0] + ny * lights[2, 1] + nz * lights[2, 2])
            sky = 0.55 + 0.45 * (0.5 + 0.5 * ny)
            by_key, by_room = max(lit, 1e-4), max(openness, 1e-4)
            log_key, log_room = math.log(np.float32(by_key)), math.log(np.float32(by_room))
            for ch in range(3):
                # Light wraps around skin, red the farthest; shadows on it have reddish edges for the same reason.
                wrap = soft * colours[ch, 4]
                direct = max(0.0, (key + wrap) / (1 + wrap)) * _power(by_key, log_key, colours[ch, 5])
                around = max(0.0, (fill + 0.4 + 0.5 * wrap) / (1.4 + 0.5 * wrap))
                ambient = colours[ch, 1] * around + colours[ch, 2] * sky + colours[ch, 3] * rim
                irradiance[py, px, ch] = colours[ch, 0] * direct + ambient * _power(by_room, log_room, colours[ch, 6])
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
