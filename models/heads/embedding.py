"""Find where MediaPipe's landmarks lie on the mesh of a head model, from the two neutral meshes alone.

1. Lids and lips are curves, not surfaces: MediaPipe's rings are laid onto the mesh's lid and lip edges by their
   share of the arc length. A closest point would fall into the folds behind the edge. The mesh's edges are its
   shortest paths through the 68-point markup.
2. A similarity (Umeyama, PAMI 1991) on the rings, nose and chin brings the canonical face to the mesh.
3. Non-rigid ICP with decreasing stiffness (Amberg et al., "Optimal step nonrigid ICP", CVPR 2007), point to plane,
   bends it onto the skin; the rings and a few anchors are held.
4. The closest triangle of each point is its embedding. Points whose counterpart is doubtful are dropped,
   except along the jaw; whoever fits them should trust those less.

All lengths are metres in the head frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.csgraph import dijkstra
from scipy.sparse.linalg import spsolve
from scipy.spatial import KDTree

from models.errors import InputError
from models.heads.mediapipe_points import CURVES, JAW, MESH_POINT_COUNT, OVAL, RING_POINTS
from models.heads.model import vertex_normals

Array = np.ndarray

# Where the curves pass through the 68-point markup.
_CURVE_STOPS: dict[str, tuple[int, ...]] = {
    "eye_right_upper": (36, 37, 38, 39),
    "eye_right_lower": (36, 41, 40, 39),
    "eye_left_upper": (45, 44, 43, 42),
    "eye_left_lower": (45, 46, 47, 42),
    "lip_outer_upper": (48, 49, 50, 51, 52, 53, 54),
    "lip_outer_lower": (48, 59, 58, 57, 56, 55, 54),
    "lip_inner_upper": (60, 61, 62, 63, 64),
    "lip_inner_lower": (60, 67, 66, 65, 64),
}
# MediaPipe number -> point of the 68-point markup, and how firmly it holds.
_NOSE_ANCHORS = {168: 27, 197: 28, 5: 29, 4: 30, 98: 31, 97: 32, 2: 33, 326: 34, 327: 35}
_CHIN_ANCHORS = {152: 8}
_BROW_ANCHORS = {70: 17, 63: 18, 105: 19, 66: 20, 107: 21, 336: 22, 296: 23, 334: 24, 293: 25, 300: 26}
_RING_WEIGHT, _NOSE_WEIGHT, _CHIN_WEIGHT, _BROW_WEIGHT = 10.0, 3.0, 1.0, 0.5

_STIFFNESS = (50.0, 20.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.5, 0.5)
_OVAL_WEIGHT = 0.2  # the two meshes end differently at the rim
_POINT_TO_POINT = 0.05  # keeps points from sliding freely in their plane
_DISTANCE_SCALE_M = 0.003
_DISTANCE_LIMIT_M = 0.02
_MINIMUM_NORMAL_COSINE = 0.3
_CANDIDATE_TRIANGLES = 40

# Points beyond these lines, or farther off the skin, have no sure counterpart.
_FOREHEAD_Y_M = 0.034
_SIDE_X_M = 0.063
_RESIDUAL_LIMIT_M = 0.0012


@dataclass(frozen=True)
class Template:
    """The neutral mesh of a head model with what registering landmarks needs.

    Attributes:
        neutral: `[V, 3]` metres, head frame.
        triangles: `[F, 3]` of the face, without eyeballs, teeth and the like.
        skin: `[V]` bool, the vertices on which landmarks may come to lie; folds behind lids and lips need not be
            left out.
        landmarks68: `[68]` vertex ids in the numbering of the 68-point markup; those of lids and lips on the edge.
    """

    neutral: Array
    triangles: Array
    skin: Array
    landmarks68: Array


@dataclass(frozen=True)
class Embedding:
    """Landmarks as points of a mesh.

    Attributes:
        landmark_index: `[L]` int32, MediaPipe numbers, ascending.
        triangle: `[L, 3]` int32 vertex ids.
        barycentric: `[L, 3]` float32 weights.
        residual_m: `[L]` how far off the mesh the registered landmark ended.
    """

    landmark_index: Array
    triangle: Array
    barycentric: Array
    residual_m: Array


def load_canonical_face(path: Path) -> tuple[Array, Array]:
    """Read MediaPipe's canonical face model (a Wavefront file in centimetres).

    Returns:
        `[468, 3]` points in metres and `[F, 3]` triangles.

    Raises:
        InputError: The file has another number of points.
    """
    points, faces = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, *values = line.split() or [""]
        if kind == "v":
            points.append([float(value) for value in values[:3]])
        elif kind == "f":
            faces.append([int(value.split("/")[0]) - 1 for value in values[:3]])
    if len(points) != MESH_POINT_COUNT:
        raise InputError(f"{path} has {len(points)} points, MediaPipe's canonical face has {MESH_POINT_COUNT}")
    return np.array(points) * 0.01, np.array(faces)


def similarity(source: Array, target: Array) -> tuple[float, Array, Array]:
    """Return scale, rotation `[3, 3]` and shift `[3]` with `scale * source @ rotation.T + shift` nearest to target."""
    source_mean, target_mean = source.mean(0), target.mean(0)
    left, singular, right = np.linalg.svd((target - target_mean).T @ (source - source_mean) / len(source))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left @ (signs[:, None] * right)
    scale = float((singular * signs).sum() / ((source - source_mean) ** 2).sum(1).mean())
    return scale, rotation, target_mean - scale * rotation @ source_mean


def _edges(triangles: Array) -> Array:
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    return np.unique(np.sort(edges, 1), axis=0)


def _shortest_path(graph: sparse.csr_array, stops: Array) -> Array:
    path = [int(stops[0])]
    for start, end in zip(stops[:-1], stops[1:], strict=True):
        _, before = dijkstra(graph, directed=False, indices=int(start), return_predecessors=True)
        if before[end] < 0:
            raise InputError("a head model's lids or lips are not connected", f"no path from {start} to {end}")
        piece = [int(end)]
        while piece[-1] != start:
            piece.append(int(before[piece[-1]]))
        path.extend(piece[-2::-1])
    return np.array(path)


def _arc_fraction(points: Array) -> Array:
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    return length / length[-1]


def _place_rings(canonical: Array, neutral: Array, paths: dict[str, Array], stops: dict[str, Array]) -> dict:
    """Return MediaPipe number -> (vertex, next vertex, fraction) on the mesh's lid and lip edges."""
    placed: dict[int, tuple[int, int, float]] = {}
    for name, numbers in CURVES.items():
        path = paths[name]
        along_mesh, along_ring = _arc_fraction(neutral[path]), _arc_fraction(canonical[list(numbers)])
        if name.startswith("lip"):
            # The middle of the lip is a landmark in both markups: each half is stretched on its own.
            middle = len(numbers) // 2
            mesh_middle = along_mesh[list(path).index(stops[name][len(stops[name]) // 2])]
            along_ring = np.interp(along_ring, [0.0, along_ring[middle], 1.0], [0.0, mesh_middle, 1.0])
        for number, at in zip(numbers, along_ring, strict=True):
            segment = min(int(np.searchsorted(along_mesh, at, side="right")) - 1, len(path) - 2)
            fraction = (at - along_mesh[segment]) / (along_mesh[segment + 1] - along_mesh[segment])
            placed.setdefault(number, (int(path[segment]), int(path[segment + 1]), float(fraction)))
    return placed


def _behind_edges(count: int, triangles: Array, paths: dict[str, Array]) -> Array:
    """Return a mask `[count]` of the vertices that lid and lip edges cut off from the face: the folds behind them."""
    barrier = np.zeros(count, bool)
    for name, path in paths.items():
        if not name.startswith("lip_outer"):
            barrier[path] = True
    edges = _edges(triangles)
    edges = edges[~barrier[edges].any(1)]
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T), shape=(count, count))
    _, label = sparse.csgraph.connected_components(graph, directed=False)
    inside = np.zeros(count, bool)
    inside[np.unique(triangles)] = True
    inside &= ~barrier
    return inside & (label != np.bincount(label[inside]).argmax())


def _closest_on_triangles(points: Array, a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """Return barycentric weights `[N, k, 3]` and positions of the points of k triangles nearest to each point.

    The regions of the plane of a triangle are told apart as in Ericson, "Real-time collision detection", 5.1.5.
    """
    ab, ac = b - a, c - a
    ap, bp, cp = points[:, None] - a, points[:, None] - b, points[:, None] - c
    d1, d2 = (ab * ap).sum(-1), (ac * ap).sum(-1)
    d3, d4 = (ab * bp).sum(-1), (ac * bp).sum(-1)
    d5, d6 = (ab * cp).sum(-1), (ac * cp).sum(-1)
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    tiny = 1e-30
    total = va + vb + vc
    v, w = vb / (total + tiny), vc / (total + tiny)
    zero, one = np.zeros_like(v), np.ones_like(v)
    along_bc = (d4 - d3) / (d4 - d3 + d5 - d6 + tiny)
    regions = (
        ((va <= 0) & (d4 >= d3) & (d5 >= d6), 1 - along_bc, along_bc),
        ((vb <= 0) & (d2 >= 0) & (d6 <= 0), zero, d2 / (d2 - d6 + tiny)),
        ((vc <= 0) & (d1 >= 0) & (d3 <= 0), d1 / (d1 - d3 + tiny), zero),
        ((d6 >= 0) & (d5 <= d6), zero, one),
        ((d3 >= 0) & (d4 <= d3), one, zero),
        ((d1 <= 0) & (d2 <= 0), zero, zero),
    )
    for inside, region_v, region_w in regions:
        v, w = np.where(inside, region_v, v), np.where(inside, region_w, w)
    weights = np.stack([1 - v - w, v, w], -1)
    return weights, weights[..., :1] * a + weights[..., 1:2] * b + weights[..., 2:] * c


class _Surface:
    """Closest-point queries on the outer skin, refusing triangles that face away from the asking surface."""

    def __init__(self, neutral: Array, triangles: Array) -> None:
        self.triangles = triangles
        self.corners = neutral[triangles]
        normal = np.cross(self.corners[:, 1] - self.corners[:, 0], self.corners[:, 2] - self.corners[:, 0])
        self.normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)
        self.tree = KDTree(self.corners.mean(1))

    def nearest(self, points: Array, normals: Array) -> tuple[Array, Array, Array, Array]:
        """Return triangle id, weights, position and distance for each point."""
        candidate = np.asarray(self.tree.query(points, _CANDIDATE_TRIANGLES)[1])
        corner = self.corners[candidate]
        weights, position = _closest_on_triangles(points, corner[:, :, 0], corner[:, :, 1], corner[:, :, 2])
        distance = np.linalg.norm(position - points[:, None], axis=-1)
        facing = (self.normal[candidate] * normals[:, None]).sum(-1)
        best = np.where(facing < _MINIMUM_NORMAL_COSINE, np.inf, distance).argmin(1)
        row = np.arange(len(points))
        return candidate[row, best], weights[row, best], position[row, best], distance[row, best]


def _register(start: Array, triangles: Array, surface: _Surface, held: dict[int, tuple[Array, float]]) -> Array:
    """Bend `start` onto the surface; `held` gives number -> (target, weight)."""
    count = len(start)
    edges = _edges(triangles)
    row = np.arange(len(edges))
    difference = sparse.coo_matrix(
        (np.repeat([1.0, -1.0], len(edges)), (np.tile(row, 2), edges.T.ravel())), shape=(len(edges), count)
    ).tocsr()
    smoothness = difference.T @ difference
    hold_weight, hold_pull = np.zeros(count), np.zeros((count, 3))
    for number, (target, weight) in held.items():
        hold_weight[number] = weight
        hold_pull[number] = weight * (target - start[number])
    points = start
    for stiffness in _STIFFNESS:
        triangle, _, position, distance = surface.nearest(points, vertex_normals(points, triangles))
        weight = np.where(distance < _DISTANCE_LIMIT_M, 1 / (1 + (distance / _DISTANCE_SCALE_M) ** 2), 0.0)
        weight[list(OVAL)] *= _OVAL_WEIGHT
        weight[list(RING_POINTS)] = 0.0
        normal = surface.normal[triangle]
        plane = normal[:, :, None] * normal[:, None] + _POINT_TO_POINT * np.eye(3)
        plane *= weight[:, None, None]
        system = sparse.kron(smoothness * stiffness + sparse.diags(hold_weight + 1e-4), sparse.eye(3))
        system = system + sparse.block_diag(list(plane))
        pull = hold_pull + np.einsum("nij,nj->ni", plane, position - start)
        points = start + spsolve(system.tocsc(), pull.ravel()).reshape(-1, 3)
    return points


def _edge_embedding(place: tuple[int, int, float], faces: Array, behind: Array) -> tuple[Array, Array]:
    """Express a point on a mesh edge in one of the triangles at that edge, an outer one if there is one."""
    first, second, fraction = place
    at_edge = faces[((faces == first) | (faces == second)).sum(1) == 2]
    outer = at_edge[~behind[at_edge].any(1)]
    triangle = outer[0] if len(outer) else at_edge[0]
    return triangle, np.where(triangle == first, 1 - fraction, np.where(triangle == second, fraction, 0.0))


def embed_mediapipe(mesh: Template, canonical: Array, canonical_triangles: Array) -> Embedding:
    """Embed the landmarks of MediaPipe's canonical face into a mesh.

    Args:
        mesh: The neutral mesh in the head frame.
        canonical: `[468, 3]` points of the canonical face, metres, y up, z out of the face.
        canonical_triangles: `[F, 3]`.

    Returns:
        The landmarks with a sure counterpart, about 425 of 468.

    Raises:
        InputError: The lids or lips of the mesh are not connected, so the landmarks cannot be laid onto them.
    """
    neutral = mesh.neutral.astype(np.float64)
    faces = mesh.triangles
    edges = _edges(faces)
    length = np.linalg.norm(neutral[edges[:, 0]] - neutral[edges[:, 1]], axis=1)
    graph = sparse.csr_array((length, (edges[:, 0], edges[:, 1])), shape=(len(neutral),) * 2)
    stops = {name: mesh.landmarks68[list(ids)] for name, ids in _CURVE_STOPS.items()}
    paths = {name: _shortest_path(graph, ids) for name, ids in stops.items()}
    rings = _place_rings(canonical, neutral, paths, stops)

    held = {n: (neutral[a] * (1 - f) + neutral[b] * f, _RING_WEIGHT) for n, (a, b, f) in rings.items()}
    for anchors, weight in ((_NOSE_ANCHORS, _NOSE_WEIGHT), (_CHIN_ANCHORS, _CHIN_WEIGHT)):
        held.update({n: (neutral[mesh.landmarks68[k]], weight) for n, k in anchors.items()})
    scale, rotation, shift = similarity(canonical[list(held)], np.array([target for target, _ in held.values()]))
    # The brows of the two meshes differ in shape: they guide the bending but would tilt the similarity.
    held.update({n: (neutral[mesh.landmarks68[k]], _BROW_WEIGHT) for n, k in _BROW_ANCHORS.items()})

    behind = _behind_edges(len(neutral), faces, paths)
    skin = faces[mesh.skin[faces].all(1) & ~behind[faces].any(1)]
    surface = _Surface(neutral, skin)
    points = _register(scale * canonical @ rotation.T + shift, canonical_triangles, surface, held)

    nearest, weights, position, distance = surface.nearest(points, vertex_normals(points, canonical_triangles))
    triangle = skin[nearest]
    for number, place in rings.items():
        triangle[number], weights[number] = _edge_embedding(place, faces, behind)
        position[number] = held[number][0]
        distance[number] = np.linalg.norm(points[number] - position[number])

    in_ring = np.isin(np.arange(len(points)), RING_POINTS)
    keep = (position[:, 1] <= _FOREHEAD_Y_M) & (np.abs(position[:, 0]) <= _SIDE_X_M)
    keep &= (distance <= _RESIDUAL_LIMIT_M) | in_ring
    keep[list(OVAL)] = False
    keep[list(JAW)] = True  # 2 to 3 mm off the surface, but nothing else says where the chin ends
    chosen = np.flatnonzero(keep)
    return Embedding(
        chosen.astype(np.int32),
        triangle[chosen].astype(np.int32),
        weights[chosen].astype(np.float32),
        distance[chosen].astype(np.float32),
    )
