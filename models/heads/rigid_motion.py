"""How a head turns between frames, told by optical flow.

Corners all over the rigid parts of a face lie on the fitted head, so their places in space are known up to the error of
the fit. One rigid motion has to explain where all of them go; that flow and depth tell it is Longuet-Higgins and
Prazdny, "The interpretation of a moving retinal image", Proc. R. Soc. B 1980. Here the motions to the frame before and
to the next are found by Gauss-Newton steps under one robust loss. What is wrong with a corner's place is wrong in both
and cancels in their sum, the acceleration, as long as the corner counts alike in both.

Only the rotation is handed on. Sideways the nose alone tells more, because no other part is as rigid; and the depth
that skin seems to tell is its own stretching.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from models.heads.fit_state import Basis, State, project
from models.heads.mediapipe_points import RIGID_PARTS
from models.heads.model import HeadModel, vertex_normals
from models.heads.skinning import skew

Array = np.ndarray

_CHUNK = 256  # frames worked on together; bounds the memory of long clips
_FEWEST = 12  # corners that must be left
_STEPS = 4
_ROBUST = 2.5  # in median distances: where the loss begins to level off
_FACING = 0.35  # cosine to the line of sight, below which a place on the head is seen too edge-on, or not at all
_APART_M = 0.009  # between points of the surface; a corner farther from all of them does not lie on it
# Neighbouring corners share pixels and skin, so they tell less than as many independent ones. How much less: by how
# well four fitted heads went with their hair, which no fit sees.
_CORRELATED = 2.0


@dataclass(frozen=True)
class Surface:
    """Points all over a head from the nose upwards, dense enough to tell how far away anything on it is.

    Attributes:
        basis: Landmarks, and vertices where no landmark is near, such as on the forehead.
        normals: `[S, 3]` outward normals there, head frame.
    """

    basis: Basis
    normals: Array

    @classmethod
    def of(cls, model: HeadModel, pivot: Array, basis: Basis) -> Surface:
        """Return the surface of a head model whose landmarks are those of `basis`, about the same pivot."""
        normals = vertex_normals(model.neutral.astype(np.float64), model.triangles)
        facing = np.flatnonzero(normals[:, 2] > _FACING)
        facing = facing[np.argsort(-model.neutral[facing, 2])]  # the foremost is not inside the head
        facing = facing[np.unique(np.floor(model.neutral[facing, :2] / _APART_M), axis=0, return_index=True)[1]]
        landmarks = model.landmarks()
        away, _ = KDTree(landmarks[:, :2]).query(model.neutral[facing, :2])
        chosen = facing[away > _APART_M]
        lowest = landmarks[model.rows_of(sum(RIGID_PARTS, ())), 1].min(initial=np.inf) - _APART_M
        chosen, rows = chosen[model.neutral[chosen, 1] > lowest], np.flatnonzero(landmarks[:, 1] > lowest)
        return cls(
            Basis(
                rest=np.concatenate([basis.rest[rows], model.neutral[chosen] - pivot]),
                identity=np.concatenate([basis.identity[:, rows], model.identity[:, chosen]], 1),
                expression=np.concatenate([basis.expression[:, rows], model.expression[:, chosen]], 1),
                pairs=np.empty((0, 2), np.int64),
                ranges=basis.ranges,
            ),
            np.concatenate([model.at_landmarks(normals)[rows], normals[chosen]]),
        )


def rotation_accelerations(state: State, surface: Surface, corners: Array) -> tuple[Array, Array]:
    """Find how a head's rotation accelerates from the motion of corners on it.

    Args:
        state: A pose for every frame, right to a few degrees: it says where the corners lie on the head, not how the
            head moves.
        surface: That head.
        corners: `[T, N, 3, 2]` in normalised coordinates: in the frame before, in this one, in the next; NaN for none.

    Returns:
        Second differences of the rotation `[T, 3]` (rotation vectors in the camera's axes, radians), NaN where unknown,
        and their standard deviations `[T, 3]`, infinite there.
    """
    value, deviation = np.full((len(corners), 3), np.nan), np.full((len(corners), 3), np.inf)
    enough = np.flatnonzero(np.isfinite(corners[:, :, 1, 0]).sum(1) >= _FEWEST)
    for start in range(0, len(enough), _CHUNK):
        frames = enough[start : start + _CHUNK]
        seen = corners[frames].astype(np.float64)
        places = _places(state.of(frames), surface, seen[:, :, 1])
        usable = np.isfinite(places[..., 0]).sum(1) >= _FEWEST
        if not usable.any():
            continue
        pivot = state.translation()[frames[usable]]
        value[frames[usable]], deviation[frames[usable]] = _rotations(pivot, places[usable], seen[usable])
    return value, deviation


def _places(state: State, surface: Surface, corners: Array) -> Array:
    """Return where corners `[T, N, 2]` lie on the head, `[T, N, 3]` in the camera about the pivot, NaN if nowhere."""
    turned, image = project(state, surface.basis)
    pivot = state.translation()
    camera = turned + pivot[:, None]
    sight = camera / np.linalg.norm(camera, axis=2, keepdims=True)
    facing = -(surface.normals @ state.rotation.transpose(0, 2, 1) * sight).sum(2) > _FACING
    depth = np.full(corners.shape[:2], np.nan)
    for t, chosen in enumerate(facing):
        known = np.flatnonzero(np.isfinite(corners[t, :, 0]))
        if chosen.sum() < 3:
            continue
        tree = KDTree(image[t, chosen], compact_nodes=False, balanced_tree=False)  # asked too little to pay for more
        away, nearest = tree.query(corners[t, known], k=3)
        weight = 1 / (away**2 + 1e-12)
        depth[t, known] = (weight * camera[t, chosen, 2][nearest]).sum(1) / weight.sum(1)
        depth[t, known[away[:, 0] * pivot[t, 2] > _APART_M]] = np.nan
    homogeneous = np.concatenate([corners, np.ones((*corners.shape[:2], 1))], 2)
    return homogeneous * depth[..., None] - pivot[:, None]


def _rotations(pivot: Array, places: Array, corners: Array) -> tuple[Array, Array]:
    """Return accelerations `[T, 3]` and their deviations from places about the pivot `[T, N, 3]` and corners."""
    known = np.isfinite(places[..., 0])
    places = np.where(known[..., None], places, 0.0)[:, None]
    seen = np.where(known[..., None, None], corners[:, :, [0, 2]], 0.0).transpose(0, 2, 1, 3)  # [T, 2, N, 2]
    # Rotation, ray and log depth of the pivot, as in a fit, of the frame before and of the next against this one.
    motion = np.zeros((len(pivot), 2, 6))
    for _ in range(_STEPS):
        turn = Rotation.from_rotvec(motion[..., :3].reshape(-1, 3)).as_matrix().reshape(-1, 2, 3, 3)
        depth = pivot[:, None, 2] * np.exp(motion[..., 5])
        ray = pivot[:, None, :2] / pivot[:, None, 2:] + motion[..., 3:5]
        moved = np.concatenate([ray * depth[..., None], depth[..., None]], 2)[:, :, None]
        turned = places @ turn.transpose(0, 1, 3, 2)
        camera = turned + moved
        image = camera[..., :2] / camera[..., 2:]
        residual = image - seen
        # Derivative of the image point by the camera point: (1, 0, -u; 0, 1, -v) / z.
        by_camera = np.zeros((*image.shape, 3))
        by_camera[..., 0, 0] = by_camera[..., 1, 1] = 1.0
        by_camera[..., 2] = -image
        by_camera /= camera[..., 2, None, None]
        by_pose = np.empty((*image.shape, 6))
        by_pose[..., :3] = by_camera @ skew(-turned)
        by_pose[..., 3:5] = by_camera[..., :2] * depth[..., None, None, None]
        by_pose[..., 5] = (by_camera @ moved[..., None])[..., 0]
        squared = (residual**2).sum((1, 3))
        scale = _ROBUST**2 * np.nanmedian(np.where(known, squared, np.nan), axis=1, keepdims=True) + 1e-12
        weight = known / (1 + squared / scale) ** 2
        root = np.sqrt(weight)[:, None, :, None]
        jacobian = (by_pose * root[..., None]).reshape(len(pivot), 2, -1, 6)
        normal = jacobian.swapaxes(-1, -2) @ jacobian + 1e-9 * np.eye(6)
        gradient = jacobian.swapaxes(-1, -2) @ (residual * root).reshape(len(pivot), 2, -1, 1)
        motion = motion - np.clip(np.linalg.solve(normal, gradient)[..., 0], -0.2, 0.2)
    uneven = ((residual.sum(1) ** 2).sum(2) * weight).sum(1) / (2 * np.maximum(weight.sum(1) - 3, 1))
    spread = np.diagonal(np.linalg.inv(normal.mean(1)), axis1=1, axis2=2)[:, :3]
    return motion.sum(1)[:, :3], _CORRELATED * np.sqrt(uneven[:, None] * spread)
