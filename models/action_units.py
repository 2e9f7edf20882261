"""Facial action units 0..5 and gaze 0..1: from blendshape scores, the fitted expression and distances of landmarks.

They are proxies, not a trained coder's work: each unit is a curve whose resting level (a percentile over the training
frames) becomes 0 and whose usual maximum becomes 5. Which score stands for which unit follows public maps between
ARKit's shapes and FACS. Distances stand for lids raised and lips parted, whose scores stay silent, and the fitted
expression for the blink, whose lids the fit has closed on the pixel, and for every unit whose score does not move.
How far a unit can be trusted travels with it, see `Origin`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter1d

from models.errors import UsageError
from models.face_curves import closure, distances, iris_gaze

Array = np.ndarray

FULL = 5.0
SMOOTH_FRAMES = 1.0  # sigma; blinks and parting lips are too short for it
QUICK = ("AU25", "AU45")
SLOW_FRAMES, SLOW = 6.0, ("AU06",)  # cheeks rise by less than a pixel and stay up for seconds
# Brows and lids rest most of the time, a speaking mouth hardly ever.
RESTING = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09")
REST_PERCENTILE, MOUTH_REST_PERCENTILE, FULL_PERCENTILE = 30.0, 5.0, 97.0
BLINK_FULL_PERCENTILE = 99.5  # a blink is rare: its full strength is nearly its maximum
OPENFACE_CLOSED = 2.0  # OpenFace's intensity of a closed eye
STILL = 0.1  # of the full range: what moves less does not move
OPEN_EYES = 0.4  # a blink score above this is no rest, even of a speaker who never opens the eyes
UNIT_NAMES = tuple(f"AU{number:02d}" for number in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45))

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


Level = Literal["solid", "weak", "absent", "given"]
# What a score or a distance is worth: how well public maps agree on it, and how well two ways of measuring it agree.
SOLID = ("AU01", "AU02", "AU12", "AU25", "AU26", "AU45")
SOLID_BY_DISTANCE = ("AU01", "AU02", "AU25", "AU26", "AU45")
UNSEEN = ("AU06",)  # raised cheeks: the score is 0 in every frame of every clip, and the fit only guesses


@dataclass(frozen=True)
class Origin:
    """Where a unit comes from and how far to trust it.

    Attributes:
        level: solid, weak or absent (always 0); "given" by a tool whose worth is not judged here.
        source: in words.
        moves: whether it moves in the training frames by more than its noise.
    """

    level: Level
    source: str
    moves: bool = True


@dataclass(frozen=True)
class Units:
    """Intensities `[T, A]` 0..5 in the order of `names`, gaze `[T, 4]` 0..1: down, up, right, left (the subject's)."""

    names: tuple[str, ...]
    intensity: Array
    gaze: Array
    measured: Array  # [T] bool: the other frames are interpolated
    origins: dict[str, Origin] = field(default_factory=dict)


@dataclass(frozen=True)
class _Curve:
    """A curve `[T]` that grows with a unit, and the least span that counts as movement (0: it is 0..1 already)."""

    values: Array
    span: float
    origin: Origin


def from_blendshapes(
    scores: Array,
    names: Sequence[str],
    faces: Array,
    valid: Array,
    train: Array,
    cuts: Sequence[int] = (),
    fitted: Mapping[str, Array] | None = None,
) -> Units:
    """Turn MediaPipe's blendshape scores, a fitted expression and distances into action units.

    Args:
        scores: `[T, 52]`.
        names: of the scores.
        faces: landmarks `[T, 478, 2]` in a frame fixed to the head, in IOD (see `models.face_curves.face_on`).
        valid: `[T]` frames with a face.
        train: `[T]` bool, the frames that decide what is rest and what is full.
        cuts: first frames of new shots.
        fitted: curves `[T]` of ARKit's shapes in the fit of a head model, named as ICT-FaceKit names them.

    Raises:
        UsageError: a score that is needed is missing, or no training frame shows a face.
    """
    column = {name: i for i, name in enumerate(names)}
    known = valid & train
    fitted = fitted or {}

    def mean_of(shapes: tuple[str, ...]) -> Array:
        missing = [shape for shape in shapes if shape not in column]
        if missing:
            raise UsageError(f"the landmarks have no score {missing[0]!r}", f"they have {', '.join(names)}")
        return scores[:, [column[shape] for shape in shapes]].mean(axis=1)

    def curve_of(unit: str, shapes: tuple[str, ...], span: float) -> _Curve:
        score, words = mean_of(shapes), f"score {_plain(shapes)}"
        if unit in UNSEEN:
            return _Curve(score, span, Origin("absent", words))
        fit = _fit_of(shapes, fitted)
        if fit is None or (unit != "AU45" and _span(score, known) >= span):
            return _Curve(score, span, Origin("solid" if unit in SOLID else "weak", words))
        level: Level = "solid" if unit == "AU45" else "weak"
        why = "" if unit == "AU45" else f"; the {words} does not move"
        return _Curve(fit, span, Origin(level, f"fitted {_plain(shapes)}{why}"))

    curves = {unit: curve_of(unit, shapes, span) for unit, (shapes, span) in SHAPES.items()}
    geometry = _distance_curves(faces)
    curves |= {unit: geometry[unit] for unit in ("AU05", "AU25") if unit in geometry}
    gaze = np.stack([mean_of(shapes) for shapes in GAZE_SHAPES], axis=1)
    return _units(curves, np.clip(gaze, 0, 1), valid, train, cuts)


def from_geometry(faces: Array, valid: Array, train: Array, cuts: Sequence[int] = ()) -> Units:
    """Measure action units on landmarks alone: brow heights, lid gaps, lip shapes, irises.

    Units whose landmarks are absent are left out. Dimples (AU14) cannot be measured in two dimensions.

    Args:
        faces: landmarks `[T, 478, 2]` in a frame fixed to the head, in IOD (see `models.face_curves.face_on`).
        valid: `[T]` frames with a face.
        train: `[T]` bool, the frames that decide what is rest and what is full.
        cuts: first frames of new shots.

    Raises:
        UsageError: no training frame shows a face, or all landmarks that would tell a unit are absent.
    """
    curves = _distance_curves(faces)
    closed = closure(faces, valid & train)
    if closed is not None:
        curves["AU45"] = _Curve(closed, 0.0, Origin("solid", "distance of the lids"))
    gaze = iris_gaze(faces, closed, valid & train)
    return _units(curves, gaze, valid, train, cuts)


def from_intensities(
    given: Mapping[str, Array],
    gaze: Array,
    measured: Array,
    train: Array,
    cuts: Sequence[int] = (),
    source: str = "",
) -> Units:
    """Take over intensities 0..5 that another tool measured, as TalkingGaussian does with OpenFace's.

    AU45 is clipped to 0..2, which is a closed eye there, and brought to 0..5; AU25 is clipped to its 95th percentile.

    Args:
        given: unit -> `[T]`, NaN where it was not measured.
        gaze: `[T, 4]` 0..1: down, up, right, left; NaN where it was not measured.
        measured: `[T]` frames in which the tool saw the face.
        train: `[T]` bool, the frames that decide on the percentile.
        cuts: first frames of new shots.
        source: in words.

    Raises:
        UsageError: the tool saw no face in any training frame.
    """
    curves: dict[str, _Curve] = {}
    known = measured & train
    for unit, values in given.items():
        curve = np.asarray(values, np.float64) / FULL
        if unit == "AU45":
            curve = np.clip(values, 0, OPENFACE_CLOSED) / OPENFACE_CLOSED
        if unit == "AU25" and known.any():
            # A clip in which the lips hardly ever part keeps its peaks.
            most = float(np.percentile(curve[known], 95))
            curve = np.minimum(curve, most) if most > 0 else curve
        curves[unit] = _Curve(curve, 0.0, Origin("given", source))
    return _units(curves, gaze, measured, train, cuts)


def _plain(shapes: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(shape.removesuffix("Left").removesuffix("Right") for shape in shapes))


def _fit_of(shapes: Sequence[str], fitted: Mapping[str, Array]) -> Array | None:
    """Return the mean fitted coefficient `[T]` of some shapes; a shape without sides has two halves in the fit."""
    halves: list[Array] = []
    for shape in shapes:
        one = shape.replace("Left", "_L").replace("Right", "_R")
        names = [name for name in (shape, one, f"{shape}_L", f"{shape}_R") if name in fitted]
        if not names:
            return None
        halves += [fitted[name] for name in dict.fromkeys(names)]
    return np.mean(halves, axis=0)


def _span(curve: Array, known: Array) -> float:
    if not known.any():
        return 0.0
    low, high = np.percentile(curve[known], [MOUTH_REST_PERCENTILE, BLINK_FULL_PERCENTILE])
    return float(high - low)


def _distance_curves(faces: Array) -> dict[str, _Curve]:
    return {
        unit: _Curve(curve, span, Origin("solid" if unit in SOLID_BY_DISTANCE else "weak", "distances of landmarks"))
        for unit, (curve, span) in distances(faces).items()
    }


def _units(curves: Mapping[str, _Curve], gaze: Array, valid: Array, train: Array, cuts: Sequence[int]) -> Units:
    known = valid & train
    if not known.any():
        raise UsageError("no training frame shows a face, so no action unit has a resting level")
    if not curves:
        raise UsageError("the landmarks tell no action unit", "those of brows, eyes and lips are all absent")
    columns: dict[str, Array] = {}
    origins: dict[str, Origin] = {}
    for name in sorted(curves):
        curve, span, origin = curves[name].values, curves[name].span, curves[name].origin
        smooth = 0.0 if name in QUICK or origin.level == "given" else SLOW_FRAMES if name in SLOW else SMOOTH_FRAMES
        curve = _steady(_bridge(curve, valid, cuts), cuts, smooth)
        moves = _span(curve, known) >= (span or STILL)
        if span > 0:
            level = REST_PERCENTILE if name in RESTING else MOUTH_REST_PERCENTILE
            top = BLINK_FULL_PERCENTILE if name == "AU45" else FULL_PERCENTILE
            rest, full = np.percentile(curve[known], [level, top])
            rest = min(rest, OPEN_EYES) if name == "AU45" else rest
            curve = (curve - rest) / max(full - rest, span)
        columns[name] = np.zeros_like(curve) if origin.level == "absent" else FULL * np.clip(curve, 0, 1)
        origins[name] = Origin(origin.level, origin.source, moves and origin.level != "absent")
    steady = [_steady(_bridge(column, valid, cuts), cuts, SMOOTH_FRAMES) for column in gaze.T]
    return Units(
        tuple(columns),
        np.stack(list(columns.values()), axis=1).astype(np.float32),
        np.stack(steady, axis=1).astype(np.float32),
        valid,
        origins,
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
