"""Where the first Gaussians of a head are placed: on the face's landmarks and on a shell that the masks carve."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from models.heads.mediapipe_points import CURVES, EYE_OUTER_LEFT, EYE_OUTER_RIGHT

SHELL_TRIES = 40000


def head_center(rest: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the middle of the head `[3]`: at the height of the eyes, as deep as the rearmost landmarks.

    Args:
        rest: `[L, 3]` landmarks of the neutral face, metres.
        index: `[L]` their numbers.
    """
    return np.array([(rest[:, 0].min() + rest[:, 0].max()) / 2, _eye_height(rest, index), rest[:, 2].min()], np.float32)


def _eye_height(rest: np.ndarray, index: np.ndarray) -> float:
    """The eyes lie half way up a head. Not every source gives landmarks on the forehead, so those tell nothing."""
    corners = rest[np.isin(index, (EYE_OUTER_RIGHT, EYE_OUTER_LEFT))]
    return float(corners[:, 1].mean()) if len(corners) else float(rest[:, 1].mean() + 0.2 * np.ptp(rest[:, 1]))


def face_points(
    rest: np.ndarray, index: np.ndarray, count: int, views: list[tuple[np.ndarray, np.ndarray, np.ndarray]], seed: int
) -> np.ndarray:
    """Scatter points over the face and the rest of the head.

    Args:
        rest: `[L, 3]` landmarks of the neutral face, metres.
        index: `[L]` their numbers.
        count: how many points; half of them on the face.
        views: `(mask [H, W] bool, world_to_camera [4, 4], intrinsics [3, 3])` of some frames. A point outside any
            of these masks is not part of the head.
        seed: of the scatter.

    Returns:
        `[<= count, 3]` metres.
    """
    random = np.random.default_rng(seed)
    on_face = _between_neighbours(rest, count // 2, random)
    center, width = head_center(rest, index), np.ptp(rest[:, 0])
    radii = np.array([0.66 * width, 1.25 * (center[1] - rest[:, 1].min()), 0.62 * width])
    directions = random.normal(size=(SHELL_TRIES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    shell = center + directions * radii * random.uniform(0.75, 1.0, (SHELL_TRIES, 1))
    shell = shell[shell[:, 2] > center[2] - 0.3 * radii[2]]  # no camera of a talk sees the back of the head
    # Leave the face itself to its landmarks: drop what lies before it or just behind.
    covered = cKDTree(rest[:, :2]).query(shell[:, :2])[0] < 0.006
    shell = shell[~(covered & (shell[:, 2] > center[2]))]
    for mask, world_to_camera, intrinsics in views:
        shell = shell[inside(shell, mask, world_to_camera, intrinsics)]
    return np.concatenate([on_face, shell[: count - len(on_face)]])


def mouth_points(rest: np.ndarray, index: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Scatter points behind the lips.

    Args:
        rest: `[L, 3]` landmarks of the neutral face, metres.
        index: `[L]` their numbers.
        count: how many points.
        seed: of the scatter.

    Returns:
        `[count, 3]` metres.
    """
    lips = rest[np.isin(index, CURVES["lip_inner_upper"] + CURVES["lip_inner_lower"])]
    if not len(lips):
        lips = rest[np.isin(index, CURVES["lip_outer_upper"] + CURVES["lip_outer_lower"])]
    middle, width = lips.mean(0), np.ptp(lips[:, 0])
    # Somewhat larger than the closed lips, lower because the jaw opens downwards, and a centimetre behind them.
    reach = width * np.array([0.62, 0.40, 0.24])
    offset = width * np.array([0.0, -0.08, -0.28])
    return middle + offset + np.random.default_rng(seed).uniform(-1, 1, (count, 3)) * reach


def pick_colors(
    points: np.ndarray, image: np.ndarray, world_to_camera: np.ndarray, intrinsics: np.ndarray
) -> np.ndarray:
    """Return the colours `[N, 3]` in 0..1 that `points` have in an image `[H, W, 3]` uint8."""
    rows, columns = _pixels(points, image.shape[:2], world_to_camera, intrinsics)
    return image[rows, columns].astype(np.float32) / 255


def _between_neighbours(points: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Scatter over the surface that `points` sample: inside triangles of a point and two of its neighbours."""
    neighbours = cKDTree(points).query(points, 7)[1][:, 1:]
    spread = np.linalg.norm(points[neighbours[:, -1]] - points, axis=1)
    first = random.choice(len(points), count, p=spread**2 / (spread**2).sum())
    second, third = (neighbours[first, random.integers(0, 6, count)] for _ in range(2))
    weights = random.dirichlet(np.ones(3), count)[..., None]
    return (np.stack([points[first], points[second], points[third]], 1) * weights).sum(1)


def _pixels(
    points: np.ndarray, size: tuple[int, ...], world_to_camera: np.ndarray, intrinsics: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    camera = points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    projected = camera @ intrinsics.T
    places = np.floor(projected[:, :2] / projected[:, 2:]).astype(int)
    return places[:, 1].clip(0, size[0] - 1), places[:, 0].clip(0, size[1] - 1)


def inside(points: np.ndarray, mask: np.ndarray, world_to_camera: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Return which points `[N, 3]` fall into a mask `[H, W]` bool."""
    rows, columns = _pixels(points, mask.shape, world_to_camera, intrinsics)
    return mask[rows, columns]
