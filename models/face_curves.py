"""Curves of a face over time, measured on its landmarks in a frame fixed to the head: brows, lids, lips, irises."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, IRISES, LIP_PAIRS

Array = np.ndarray

# Landmarks of the subject's right side; the mirrored ones of the left follow in the same order.
INNER_BROW = ((55, 65, 66, 107), (285, 295, 296, 336))
OUTER_BROW = ((46, 53, 63, 70), (276, 283, 293, 300))
EYE_CORNERS = ((33, 133), (263, 362))
UPPER_LID = ((161, 160, 159, 158, 157), (388, 387, 386, 385, 384))
LOWER_LID = ((163, 144, 145, 153, 154), (390, 373, 374, 380, 381))
LID_MIDDLE = (159, 145, 386, 374)
CHEEK = ((50, 101, 117, 118), (280, 330, 346, 347))
NOSE_WING = ((48, 64, 98), (278, 294, 327))
MOUTH_CORNER = ((61, 78), (291, 308))
NOSE_BASE = (2, 94, 97, 326)
UPPER_LIP_EDGE = (37, 0, 267)
LOWER_LIP_EDGE = (84, 17, 314)
UPPER_LIP_INSIDE = (82, 13, 312)
LOWER_LIP_INSIDE = (87, 14, 317)
CHIN = (148, 152, 377, 175)

LEAST_OPEN = 0.04  # IOD; a speaker whose lids are always nearer to each other keeps the eyes closed
CORNER_ON_JAW = 0.6  # of the chin's drop that the corners of the mouth follow without any smile
EYE_WIDTH_PER_GAZE = 0.25  # of its width an iris moves for a gaze of 1, which is 30 degrees


def face_on(
    points: Array, world_to_camera: Array, intrinsics: Array, landmark_index: Array, rest_landmarks: Array
) -> Array:
    """Look at the landmarks straight from the front: take the pose of the head out of them.

    Each landmark is put back on the plane of its own resting depth, so turning and nodding change it little. Landmarks
    that the head model lacks (irises) take the depth of the middle of the lids: at that of the eye corners, a
    centimetre behind, a turn of the head would look like a turn of the eyes.

    Args:
        points: `[T, 478, 2]` px.
        world_to_camera: `[T, 4, 4]`.
        intrinsics: `[3, 3]`.
        landmark_index: `[L]` MediaPipe numbers of the rest landmarks.
        rest_landmarks: `[L, 3]` m in the head frame.

    Returns:
        `[T, 478, 2]` in units of the rest face's IOD, x to the subject's left, y up.
    """
    rest = np.full((points.shape[1], 3), np.nan)
    rest[landmark_index] = rest_landmarks
    corners = rest[[EYE_OUTER_RIGHT, EYE_OUTER_LEFT]]
    lids = rest[list(LID_MIDDLE), 2]
    irises = float(np.nanmean(lids)) if np.isfinite(lids).any() else float(corners[:, 2].mean())
    depth = np.where(np.isfinite(rest[:, 2]), rest[:, 2], irises)
    focal, centre = intrinsics[[0, 1], [0, 1]].astype(np.float64), intrinsics[:2, 2].astype(np.float64)
    direction = np.concatenate([(points - centre) / focal, np.ones((*points.shape[:2], 1))], axis=2)
    rotation = world_to_camera[:, :3, :3].astype(np.float64)
    eye = -np.einsum("tji,tj->ti", rotation, world_to_camera[:, :3, 3].astype(np.float64))
    towards = np.einsum("tji,tpj->tpi", rotation, direction)
    steps = (depth - eye[:, 2:]) / towards[..., 2]
    head = eye[:, None, :2] + steps[..., None] * towards[..., :2]
    return head / float(np.linalg.norm(corners[1] - corners[0]))


def _height(faces: Array, numbers: Sequence[int]) -> Array:
    return faces[:, list(numbers), 1].mean(axis=1)


def _both(faces: Array, sides: tuple[Sequence[int], Sequence[int]]) -> Array:
    return _height(faces, (*sides[0], *sides[1]))


def _lid_gap(faces: Array) -> Array:
    return _both(faces, UPPER_LID) - _both(faces, LOWER_LID)


def distances(faces: Array) -> dict[str, tuple[Array, float]]:
    """Return for each unit a curve `[T]` in IOD that grows with it, and the least span that counts as movement."""
    eyes = _both(faces, EYE_CORNERS)
    nose = _height(faces, NOSE_BASE)
    narrow = faces[:, list(INNER_BROW[0]), 0].mean(axis=1) - faces[:, list(INNER_BROW[1]), 0].mean(axis=1)
    inner, outer = _both(faces, INNER_BROW) - eyes, _both(faces, OUTER_BROW) - eyes
    corners = _both(faces, MOUTH_CORNER)
    half_width = (faces[:, list(MOUTH_CORNER[1]), 0].mean(axis=1) - faces[:, list(MOUTH_CORNER[0]), 0].mean(axis=1)) / 2
    opening = np.mean([faces[:, upper, 1] - faces[:, lower, 1] for upper, lower in LIP_PAIRS], axis=0)
    gap = _lid_gap(faces)
    red = (_height(faces, UPPER_LIP_EDGE) - _height(faces, UPPER_LIP_INSIDE)) + (
        _height(faces, LOWER_LIP_INSIDE) - _height(faces, LOWER_LIP_EDGE)
    )
    drop = nose - _height(faces, CHIN)
    lift = corners - nose + CORNER_ON_JAW * drop
    curves: dict[str, tuple[Callable[[], Array], float]] = {
        # The corrugator draws the brows together while it lowers them; raisers do not. That tells 4 from -1.
        "AU01": (lambda: inner - 0.6 * outer + narrow / 2, 0.03),
        "AU02": (lambda: outer, 0.04),
        "AU04": (lambda: narrow / 2 - 0.5 * (inner - 0.6 * outer), 0.03),
        "AU05": (lambda: np.maximum(gap, np.nanmedian(gap)), 0.03),
        "AU06": (lambda: _both(faces, CHEEK) - eyes, 0.02),
        "AU07": (lambda: _both(faces, LOWER_LID) - eyes, 0.02),
        "AU09": (lambda: _both(faces, NOSE_WING) - eyes, 0.02),
        "AU10": (lambda: _height(faces, UPPER_LIP_EDGE) - nose, 0.03),
        "AU12": (lambda: lift, 0.04),
        "AU15": (lambda: -lift, 0.04),
        "AU17": (lambda: _height(faces, LOWER_LIP_EDGE) - nose, 0.04),
        "AU20": (lambda: half_width, 0.03),
        "AU23": (lambda: -red, 0.03),
        "AU25": (lambda: opening, 0.03),
        "AU26": (lambda: drop, 0.05),
    }
    measured = {unit: (curve(), span) for unit, (curve, span) in curves.items()}
    return {unit: (curve, span) for unit, (curve, span) in measured.items() if np.isfinite(curve).any()}


def closure(faces: Array, frames: Array) -> Array | None:
    """Return how far the eyes are closed `[T]`, 0..1: the lid gap against its open and its closed value."""
    gap = _lid_gap(faces)
    known = gap[frames & np.isfinite(gap)]
    if not len(known):
        return None
    open_gap, least = max(float(np.percentile(known, 60)), LEAST_OPEN), float(np.percentile(known, 0.5))
    # Without a single blink the least gap is an open one; a closed lid leaves about a seventh of the gap.
    closed = least if least < 0.5 * open_gap else 0.15 * open_gap
    return np.clip((open_gap - gap) / max(open_gap - closed, 1e-6), 0, 1)


def iris_gaze(faces: Array, closed: Array | None, frames: Array) -> Array:
    """Return gaze `[T, 4]` from where the irises stand between the eye corners; zero when they are absent."""
    offsets: list[Array] = []
    for corners, iris in zip(EYE_CORNERS, IRISES, strict=True):
        width = np.linalg.norm(faces[:, corners[0]] - faces[:, corners[1]], axis=1)
        middle = faces[:, list(corners)].mean(axis=1)
        offsets.append((faces[:, list(iris)].mean(axis=1) - middle) / (EYE_WIDTH_PER_GAZE * width)[:, None])
    offset = np.mean(offsets, axis=0)
    if closed is not None:
        offset[closed > 0.5] = np.nan  # no iris to be seen
    seen = np.isfinite(offset).all(axis=1)
    if not (seen & frames).any():
        return np.zeros((len(faces), 4))
    offset = offset - np.median(offset[seen & frames], axis=0)
    frame = np.arange(len(faces))
    x, y = (np.interp(frame, frame[seen], offset[seen, axis]) for axis in (0, 1))
    return np.clip(np.stack([-y, y, -x, x], axis=1), 0, 1)
