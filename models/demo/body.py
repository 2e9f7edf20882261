"""All the meshes of one speaker, joined into one, with what does not change from frame to frame."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from models.demo import hair, paint
from models.demo.cloth import cloth_distance
from models.demo.fields import Array, smoothstep
from models.demo.identity import Identity, Look
from models.demo.mesh import Field, Volume, axis, by_rows, evaluate, extract, occlusion, soft_shadow
from models.demo.raster import (
    CLOSED,
    CLOTH,
    EYE_LEFT,
    EYE_RIGHT,
    HAIR,
    HEAD,
    STRAND,
    TEETH_LOWER,
    TEETH_UPPER,
    TONGUE,
    vertex_normals,
)
from models.demo.shape import EYEBALL_RADIUS, MOUTH_Y, head_distance, skin_distance

KEY_LIGHT = np.array([-0.52, 0.66, 0.64], np.float32) / np.float32(np.linalg.norm([-0.52, 0.66, 0.64]))

# Fine where the face has detail, coarse elsewhere.
_HEAD_AXES = (
    axis([(0, 48, 1.25), (48, 110, 3.4)]),
    axis([(-214, -96, 3.0), (-96, -84, 1.6), (-84, -54, 0.85), (-54, -14, 1.4), (-14, 14, 0.9), (14, 34, 1.4),
          (34, 126, 3.6)]),
    axis([(-110, 40, 4.0), (40, 66, 2.0), (66, 124, 1.1)]),
)  # fmt: skip
_HAIR_AXES = (axis([(-118, 118, 2.6)]), axis([(-138, 142, 2.6)]), axis([(-124, 124, 2.6)]))
_CLOTH_AXES = (axis([(-290, 290, 4.5)]), axis([(-330, -140, 3.4)]), axis([(-150, 90, 4.5)]))
# Corners of the box in which light is traced.
_LIT_LOW, _LIT_HIGH = (-200.0, -240.0, -120.0), (200.0, 170.0, 150.0)


@dataclass(frozen=True)
class Body:
    """One joined mesh at rest. `slices` say where each part's vertices lie. Lengths in mm."""

    rest: Array  # [V, 3] float32
    triangles: Array  # [F, 3] int32
    part: Array  # [F] int8
    slices: dict[int, slice]
    fixed: Array  # [V, 10] float32, columns as in raster.py
    tangents: Array  # [V, 3] float32, zero where there is no hair
    stiffness: Array  # [V] float32: 1 follows the skull, 0 stays with the shoulders

    def only(self, *parts: int) -> "Body":
        """Some parts of this mesh, joined in their order."""
        vertices = np.concatenate([np.arange(self.slices[p].start, self.slices[p].stop) for p in parts])
        renumbered = np.empty(len(self.rest), np.int32)
        renumbered[vertices] = np.arange(len(vertices))
        kept = np.isin(self.part, parts)
        return Body(
            self.rest[vertices],
            renumbered[self.triangles[kept]],
            self.part[kept],
            _slices({p: self.rest[self.slices[p]] for p in parts}),
            self.fixed[vertices],
            self.tangents[vertices],
            self.stiffness[vertices],
        )

    @cached_property
    def open(self) -> Array:
        """Which triangles are seen from behind as well `[F]` bool."""
        return ~np.isin(self.part, CLOSED)


def head_mesh(who: Identity) -> tuple[Array, Array]:
    """Head and neck at rest, lips apart: vertices [V, 3] mm and triangles [F, 3]."""
    vertices, triangles = extract(lambda p: head_distance(p, who), _HEAD_AXES, mirrored=True)
    capped = (vertices[triangles][:, :, 1] < -211).all(axis=1)  # the cut through the neck
    return vertices, triangles[~capped]


def build(who: Identity, look: Look, pitch: float) -> Body:
    """Build a speaker. `pitch`: size of a render sample on the face in mm, which strands must not undercut."""
    fields: dict[int, Field] = {
        HEAD: lambda p: skin_distance(p, who),
        HAIR: lambda p: hair.hair_distance(p, who),
        CLOTH: lambda p: cloth_distance(p, who),
    }
    solids = {HEAD: head_mesh(who), HAIR: extract(fields[HAIR], _HAIR_AXES), CLOTH: extract(fields[CLOTH], _CLOTH_AXES)}
    solids = _without_hidden(solids, fields)
    ball = _grid(40, 28, _sphere)
    ribbons = hair.strands(solids[HAIR][0], who, count=int(np.clip(2600 / max(pitch, 0.65), 500, 4000)), least=pitch)
    solids = {p: by_rows(*solid) for p, solid in solids.items()}
    parts: dict[int, tuple[Array, Array]] = {
        HEAD: solids[HEAD],
        EYE_LEFT: ball,
        EYE_RIGHT: ball,
        TEETH_UPPER: _grid(140, 14, lambda u, v: _teeth(u, v, True)),
        TEETH_LOWER: _grid(140, 14, lambda u, v: _teeth(u, v, False)),
        TONGUE: _grid(28, 20, _tongue),
        HAIR: solids[HAIR],
        STRAND: (ribbons[0], ribbons[1]),
        CLOTH: solids[CLOTH],
    }
    slices = _slices({p: vertices for p, (vertices, _) in parts.items()})
    rest = np.concatenate([v for v, _ in parts.values()]).astype(np.float32)
    triangles = np.concatenate([t + slices[p].start for p, (_, t) in parts.items()]).astype(np.int32)
    part = np.concatenate([np.full(len(t), p, np.int8) for p, (_, t) in parts.items()])

    fixed = np.zeros((len(rest), 10), np.float32)
    fixed[:, 0:3] = rest
    fixed[:, 3:6] = 0.4
    fixed[:, 6:8] = 1.0
    volumes = {p: Volume.of(field, _LIT_LOW, _LIT_HIGH, 4.0) for p, field in fields.items()}
    for p, (vertices, own) in solids.items():
        normals = vertex_normals(vertices, own)
        openness, lit = _light(p, vertices, normals, volumes)
        fixed[slices[p], 6], fixed[slices[p], 7] = openness, lit
    skin = slices[HEAD]
    fixed[skin, 8] = -evaluate(fields[HEAD], rest[skin])
    fixed[skin, 3:6], fixed[skin, 9] = paint.skin_colours(rest[skin], fixed[skin, 8], who, look)
    fixed[slices[HAIR], 3:6] = paint.hair_colours(rest[slices[HAIR]], who, look)
    fixed[slices[STRAND], 3:6] = paint.hair_colours(rest[slices[STRAND]], who, look) * ribbons[3][:, None]
    fixed[slices[CLOTH], 3:6] = paint.cloth_colours(rest[slices[CLOTH]], who, look)
    fixed[slices[TONGUE], 3:6] = (0.43, 0.135, 0.125)
    lit_hair = volumes[HEAD] | volumes[HAIR]
    out = _gradient(lit_hair, rest[slices[STRAND]])
    fixed[slices[STRAND], 6] = occlusion(rest[slices[STRAND]], out, lit_hair)
    fixed[slices[STRAND], 7] = soft_shadow(rest[slices[STRAND]], out, lit_hair, KEY_LIGHT, slack=4.0)

    tangents = np.zeros_like(rest)
    tangents[slices[STRAND]] = ribbons[2]
    tangents[slices[HAIR]] = hair.flow(rest[slices[HAIR]], who)
    return Body(rest, triangles, part, slices, fixed, tangents, _stiffness(rest, slices))


def _slices(vertices: dict[int, Array]) -> dict[int, slice]:
    """Where the vertices of every part lie when they are joined."""
    ends = np.cumsum([len(v) for v in vertices.values()])
    return {p: slice(int(end) - len(v), int(end)) for (p, v), end in zip(vertices.items(), ends, strict=True)}


def _stiffness(rest: Array, slices: dict[int, slice]) -> Array:
    """Skull 1, shoulders 0, a smooth change along the neck; the tips of long hair keep a third."""
    weight = np.ones(len(rest), np.float32)
    y, z = rest[slices[HEAD], 1], rest[slices[HEAD], 2]
    # The change starts on a plane below the chin, which must move with the skull.
    weight[slices[HEAD]] = smoothstep(-190.0, -104.0, y + 0.35 * np.clip(z, -40, 90))
    for p in (HAIR, STRAND):
        weight[slices[p]] = 0.35 + 0.65 * smoothstep(-150.0, -60.0, rest[slices[p], 1])
    weight[slices[CLOTH]] = 0.0
    return weight


def _without_hidden(solids: dict[int, tuple[Array, Array]], fields: dict[int, Field]) -> dict[int, tuple[Array, Array]]:
    """Drop triangles that can never be seen: at the back, and inside another part."""
    buried = {HEAD: ((HAIR, -4.0), (CLOTH, -5.0)), HAIR: ((HEAD, -5.0),), CLOTH: ((HEAD, -8.0),)}
    out = {}
    for p, (vertices, triangles) in solids.items():
        corners = vertices[triangles]
        centre = corners.mean(axis=1)
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        keep = ~((normal[:, 2] < -0.6) & (centre[:, 2] < 30))
        for other, limit in buried[p]:
            inside = evaluate(fields[other], centre) < limit
            keep &= ~(inside & (centre[:, 1] > -190)) if p == CLOTH else ~inside
        kept = triangles[keep]
        used = np.zeros(len(vertices), bool)
        used[kept] = True
        out[p] = vertices[used], (np.cumsum(used) - 1)[kept].astype(np.int32)
    return out


def _light(p: int, vertices: Array, normals: Array, volumes: dict[int, Volume]) -> tuple[Array, Array]:
    """Ambient openness and key light per vertex, baked at rest."""
    near = {
        HEAD: volumes[HEAD] | volumes[HAIR] | volumes[CLOTH],
        HAIR: volumes[HAIR] | volumes[CLOTH],
        CLOTH: volumes[HEAD] | volumes[HAIR],
    }[p]
    slack = 3.0 if p == HAIR else 0.0
    shadow = soft_shadow(vertices, normals, volumes[HEAD] | volumes[HAIR], KEY_LIGHT, slack)
    return occlusion(vertices, normals, near), shadow


def _gradient(volume: Volume, points: Array) -> Array:
    steps = 3.0 * np.eye(3, dtype=np.float32)
    slope = np.stack([volume(points + s) - volume(points - s) for s in steps], axis=1)
    return slope / (np.linalg.norm(slope, axis=1, keepdims=True) + 1e-9)


def _grid(
    columns: int, rows: int, surface: Callable[[Array, Array], tuple[Array, Array, Array]]
) -> tuple[Array, Array]:
    """Triangulate a parametric surface over the unit square."""
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows), indexing="ij")
    vertices = np.stack(surface(u.ravel(), v.ravel()), axis=1).astype(np.float32)
    i = np.arange(columns * rows).reshape(columns, rows)
    a, b, c, d = i[:-1, :-1].ravel(), i[1:, :-1].ravel(), i[1:, 1:].ravel(), i[:-1, 1:].ravel()
    return vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)


def _sphere(u: Array, v: Array) -> tuple[Array, Array, Array]:
    around, polar = 2 * np.pi * u, np.pi * v
    r = EYEBALL_RADIUS
    return r * np.sin(polar) * np.sin(around), r * np.sin(polar) * np.cos(around), r * np.cos(polar)


def _teeth(u: Array, v: Array, upper: bool) -> tuple[Array, Array, Array]:
    """A band on the arch of the jaw, each tooth slightly rounded; v goes from the biting edge to the gum."""
    x = (u - 0.5) * 46.0
    arch = (88.6 if upper else 86.0) - 0.024 * x * x - 0.9e-5 * x**4
    across = paint.tooth_position(x, upper)
    sign = 1.0 if upper else -1.0
    tip = paint.UPPER_TOOTH_TIP + 0.0025 * x * x + 0.5 * across**4 if upper else paint.LOWER_TOOTH_TIP + 0.3 * across**4
    y = MOUTH_Y + tip + sign * paint.TOOTH_HEIGHT * v
    bulge = 0.55 * np.sqrt(np.clip(1 - across**2, 0, 1)) * (v > 0)
    z = arch + bulge - 2.5 * np.clip(1 - v / 0.06, 0, 1) + sign * 0.07 * np.maximum(paint.TOOTH_HEIGHT * v - 6, 0)
    return x, y, z


def _tongue(u: Array, v: Array) -> tuple[Array, Array, Array]:
    around, polar = 2 * np.pi * u, np.pi * v
    x, y = 17 * np.sin(polar) * np.cos(around), MOUTH_Y - 11 + 6 * np.sin(polar) * np.sin(around)
    return x, y, 62 + 21 * np.cos(polar)
