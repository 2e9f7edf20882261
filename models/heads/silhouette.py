"""How a camera sees a mesh: where in the picture it is, and which of its triangles face the camera."""

from __future__ import annotations

import cv2
import numpy as np

from models.heads.triangles import rasterize


def silhouette(
    vertices: np.ndarray,
    triangles: np.ndarray,
    world_to_camera: np.ndarray,
    intrinsics: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """Return where a mesh is seen `[H, W]` bool; its openings, as those of eyes, count as it.

    Args:
        vertices: `[V, 3]`.
        triangles: `[F, 3]` vertex ids.
        world_to_camera: `[4, 4]`.
        intrinsics: `[3, 3]`.
        size: height and width of the picture, pixels.
    """
    seen = vertices @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    screen = seen @ intrinsics.T
    screen = np.concatenate([screen[:, :2] / screen[:, 2:] - 0.5, 1 / screen[:, 2:]], 1).astype(np.float32)
    nearness, owner, weights = np.zeros(size, np.float32), np.full(size, -1, np.int32), np.empty((*size, 2), np.float32)
    rasterize(screen, triangles.astype(np.int32), np.ones(len(triangles), bool), nearness, owner, weights)
    outlines, _ = cv2.findContours((owner >= 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros(size, np.uint8), outlines, -1, 1, cv2.FILLED) > 0


def facing(vertices: np.ndarray, triangles: np.ndarray, world_to_camera: np.ndarray) -> np.ndarray:
    """Return the cosine `[F]` of the angle between the normal of each triangle and the way to the camera.

    Args:
        vertices: `[V, 3]` metres.
        triangles: `[F, 3]` vertex ids, counter-clockwise seen from outside.
        world_to_camera: `[4, 4]`.
    """
    corners = (vertices @ world_to_camera[:3, :3].T + world_to_camera[:3, 3])[triangles].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    ways = -corners.mean(1)
    lengths = np.linalg.norm(normals, axis=1) * np.linalg.norm(ways, axis=1)
    return (normals * ways).sum(1) / np.maximum(lengths, 1e-20)
