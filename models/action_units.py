"""Facial action units 0..5 and gaze 0..1, from a landmarker's blendshape scores or from landmarks alone.

They are proxies, not a trained coder's work: each unit is a score or a distance whose resting level (a percentile over
the training frames) becomes 0 and whose usual maximum becomes 5. Which score stands for which unit follows public maps
between ARKit's shapes and FACS; where scores are known to stay silent (lids raised, lips parted), distances are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from models.errors import UsageError
from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, IRISES, LIP_PAIRS

Array = np.ndarray

FULL = 5.0
SMOOTH_FRAMES = 1.0  # sigma; blinks and parting lips are too short for it
QUICK = ("AU25", "AU45")
# Brows and lids rest most of the time, a speaking mouth hardly ever.
RESTING = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09")
REST_PERCENTILE, MOUTH_REST_PERCENTILE, FULL_PERCENTILE = 30.0, 5.0, 97.0

# Blendshapes of each unit, and the least span of scores that counts as movement and not as noise.
SHAPES: dict[str, tuple[tuple[str, ...], float]] = {
    "AU01": (("browInnerUp",), 0.10),
    "AU02": (("browOuterUpLeft", "browOuterUpRight"), 0.10),
    "AU04": (("browDownLeft", "browDownRight"), 0.10),
    "AU06": (("cheekSquintLeft", "cheekSquintRight"), 0.10),
    "AU07": (("eyeSquintLeft", "eyeSquintRight"), 0.15),
    "AU09": (("noseSneerLeft", "noseSneerRight"), 0.10),
    "AU10": (("mouthUpperUpLeft", "mouthUpperUpRight"), 0.15),
    "AU12": (("mouthSmileLeft", "mouthSmileRight"), 0.15),
    "AU14": (("mouthDimpleLeft", "mouthDimpleRight"), 0.10),
    "AU15": (("mouthFrownLeft", "mouthFrownRight"), 0.10),
    "AU17": (("mouthShrugLower",), 0.15),
    "AU20": (("mouthStretchLeft", "mouthStretchRight"), 0.15),
    "AU23": (("mouthPressLeft", "mouthPressRight", "mouthRollLower", "mouthRollUpper"), 0.10),
    "AU26": (("jawOpen",), 0.15),
    "AU45": (("eyeBlinkLeft", "eyeBlinkRight"), 0.40),
}
GAZE_SHAPES = (
    ("eyeLookDownLeft", "eyeLookDownRight"),
    ("eyeLookUpLeft", "eyeLookUpRight"),
    ("eyeLookInLeft", "eyeLookOutRight"),
    ("eyeLookOutLeft", "eyeLookInRight"),
)

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

CORNER_ON_JAW = 0.6  # of the chin's drop that the corners of the mouth follow without any smile
EYE_WIDTH_PER_GAZE = 0.25  # of its width an iris moves for a gaze of 1, which is 30 degrees


@dataclass(frozen=True)
class Units:
    """Intensities `[T, A]` 0..5 in the order of `names`, gaze `[T, 4]` 0..1: down, up, right, left (the subject's)."""

    names: tuple[str, ...]
    intensity: Array
    gaze: Array
    interpolated: Array  # [T] bool: frames without a face


def from_blendshapes(
    scores: Array, names: Sequence[str], faces: Array, valid: Array, train: Array, cuts: Sequence[int] = ()
) -> Units:
    """Turn MediaPipe's blendshape scores into action units.

    Args:
        scores: `[T, 52]`.
        names: of the scores.
        faces: landmarks `[T, 478, 2]` in a frame fixed to the head, in IOD (see `face_on`).
        valid: `[T]` frames with a face.
        train: `[T]` bool, the frames that decide what is rest and what is full.
        cuts: first frames of new shots.

    Raises:
        UsageError: a score that is needed is missing, or no training frame shows a face.
    """
    column = {name: i for i, name in enumerate(names)}

    def mean_of(shapes: tuple[str, ...]) -> Array:
        missing = [shape for shape in shapes if shape not in column]
        if missing:
            raise UsageError(f"the landmarks have no score {missing[0]!r}", f"they have {', '.join(names)}")
        return scores[:, [column[shape] for shape in shapes]].mean(axis=1)

    features = {unit: (mean_of(shapes), span) for unit, (shapes, span) in SHAPES.items()}
    geometry = _features(faces)
    features |= {unit: geometry[unit] for unit in ("AU05", "AU25") if unit in geometry}
    gaze = np.stack([mean_of(shapes) for shapes in GAZE_SHAPES], axis=1)
    return _units(features, np.clip(gaze, 0, 1), valid, train, cuts)


def from_geometry(faces: Array, valid: Array, train: Array, cuts: Sequence[int] = ()) -> Units:
    """Measure action units on landmarks alone: brow heights, lid gaps, lip shapes, irises.

    Units whose landmarks are absent are left out. Dimples (AU14) cannot be measured in two dimensions.

    Args:
        faces: landmarks `[T, 478, 2]` in a frame fixed to the head, in IOD (see `face_on`).
        valid: `[T]` frames with a face.
        train: `[T]` bool, the frames that decide what is rest and what is full.
        cuts: first frames of new shots.

    Raises:
        UsageError: no training frame shows a face.
    """
    features = _features(faces)
    closure = _closure(faces, valid & train)
    if closure is not None:
        features["AU45"] = (closure, 0.0)
    gaze = _iris_gaze(faces, closure, valid & train)
    return _units(features, gaze, valid, train, cuts)


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


def _features(faces: Array) -> dict[str, tuple[Array, float]]:
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


def _closure(faces: Array, frames: Array) -> Array | None:
    """Return how far the eyes are closed `[T]`, 0..1: the lid gap against its open and its closed value."""
    gap = _lid_gap(faces)
    known = gap[frames & np.isfinite(gap)]
    if not len(known):
        return None
    open_gap, least = float(np.percentile(known, 60)), float(np.percentile(known, 0.5))
    # Without a single blink the least gap is an open one; a closed lid leaves about a seventh of the gap.
    closed = least if least < 0.5 * open_gap else 0.15 * open_gap
    return np.clip((open_gap - gap) / max(open_gap - closed, 1e-6), 0, 1)


def _iris_gaze(faces: Array, closure: Array | None, frames: Array) -> Array:
    """Return gaze `[T, 4]` from where the irises stand between the eye corners; zero when they are absent."""
    offsets: list[Array] = []
    for corners, iris in zip(EYE_CORNERS, IRISES, strict=True):
        width = np.linalg.norm(faces[:, corners[0]] - faces[:, corners[1]], axis=1)
        middle = faces[:, list(corners)].mean(axis=1)
        offsets.append((faces[:, list(iris)].mean(axis=1) - middle) / (EYE_WIDTH_PER_GAZE * width)[:, None])
    offset = np.mean(offsets, axis=0)
    if closure is not None:
        offset[closure > 0.5] = np.nan  # no iris to be seen
    seen = np.isfinite(offset).all(axis=1)
    if not (seen & frames).any():
        return np.zeros((len(faces), 4))
    offset = offset - np.median(offset[seen & frames], axis=0)
    frame = np.arange(len(faces))
    x, y = (np.interp(frame, frame[seen], offset[seen, axis]) for axis in (0, 1))
    return np.clip(np.stack([-y, y, -x, x], axis=1), 0, 1)


def _units(
    features: dict[str, tuple[Array, float]], gaze: Array, valid: Array, train: Array, cuts: Sequence[int]
) -> Units:
    known = valid & train
    if not known.any():
        raise UsageError("no training frame shows a face, so no action unit has a resting level")
    columns: list[Array] = []
    for name, (curve, span) in features.items():
        curve = _steady(_bridge(curve, valid, cuts), cuts, 0.0 if name in QUICK else SMOOTH_FRAMES)
        if span > 0:
            level = REST_PERCENTILE if name in RESTING else MOUTH_REST_PERCENTILE
            rest, full = np.percentile(curve[known], [level, FULL_PERCENTILE])
            # A blink is rare: its full strength is nearly its maximum.
            full = np.percentile(curve[known], 99.5) if name == "AU45" else full
            curve = (curve - rest) / max(full - rest, span)
        columns.append(FULL * np.clip(curve, 0, 1))
    order = np.argsort(list(features))
    steady = [_steady(_bridge(column, valid, cuts), cuts, SMOOTH_FRAMES) for column in gaze.T]
    return Units(
        tuple(sorted(features)),
        np.stack([columns[i] for i in order], axis=1).astype(np.float32),
        np.stack(steady, axis=1).astype(np.float32),
        ~valid,
    )


def _shots(count: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    edges = [0, *sorted({int(cut) for cut in cuts if 0 < cut < count}), count]
    return list(zip(edges[:-1], edges[1:], strict=True))


def _bridge(curve: Array, valid: Array, cuts: Sequence[int]) -> Array:
    """Interpolate over frames without a face, within shots; a shot without any face takes the clip's median."""
    good = valid & np.isfinite(curve)
    result = np.array(curve, np.float64)
    frames = np.arange(len(curve))
    for first, end in _shots(len(curve), cuts):
        inside = frames[first:end]
        known = inside[good[first:end]]
        if len(known):
            result[first:end] = np.interp(inside, known, curve[known])
        else:
            result[first:end] = np.median(curve[good]) if good.any() else 0.0
    return result


def _steady(curve: Array, cuts: Sequence[int], sigma: float) -> Array:
    """Smooth a curve within shots."""
    if sigma <= 0:
        return curve
    result = curve.copy()
    for first, end in _shots(len(curve), cuts):
        result[first:end] = gaussian_filter1d(curve[first:end], sigma, mode="nearest")
    return result
