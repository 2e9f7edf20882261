"""Close the eyes of a fitted head exactly when the person blinks.

Landmarks of closed lids keep a gap of 1 to 2 percent of the eye distance, and a least-squares fit stops short of
that. Both show: a doll that never quite shuts its eyes. So each eye's blink is solved for alone, such that the mesh's
lid gap is the measured one after the landmarker's floor has been taken off. A model whose expressions have names has
a blink among them; for one made of principal components the combination is found that moves these lids and little
else.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.heads.fit_state import Basis, Observations, State
from models.heads.mediapipe_points import (
    BLENDSHAPE_BLINK_LEFT,
    BLENDSHAPE_BLINK_RIGHT,
    EYE_OUTER_LEFT,
    EYE_OUTER_RIGHT,
    EYE_RINGS,
    LID_PAIRS_LEFT,
    LID_PAIRS_RIGHT,
)
from models.heads.model import NAMED_SHAPES, HeadModel

Array = np.ndarray

CLOSED_SCORE, OPEN_SCORE = 0.6, 0.2  # a blink score above or below tells closed and open eyes apart
_SNAP_FROM, _SNAP_FULL = 0.25, 0.5  # the correction fades in between these scores
_TYPICAL_FLOOR = 0.015  # gap over eye distance that the landmarker reports for closed lids
_LARGEST_COEFFICIENT = 1.4  # wide eyes of some identities need more than the full blink
_WIDEST_OPENING = 0.5  # of a combination of components, as a share of closing the neutral eye
_ELSEWHERE_M = 0.001  # by how much such a combination may move the rest of the face
_BISECTIONS = 20


def blink_scores(blendshapes: Array | None, frames: int) -> Array | None:
    """Return the blink scores `[T, 2]` (right, left) out of MediaPipe's 52 blendshapes, or None without them."""
    if blendshapes is None or blendshapes.shape != (frames, 52):
        return None
    return np.nan_to_num(blendshapes[:, [BLENDSHAPE_BLINK_RIGHT, BLENDSHAPE_BLINK_LEFT]].astype(np.float64))


def lid_gap(points: Array, pairs: Array, eyes: Array) -> Array:
    """Return the lid opening over the eye distance, across the line between the eyes; crossed lids are negative.

    Args:
        points: `[T, L, 2]` image points.
        pairs: `[N, 2]` rows of upper and lower lid.
        eyes: The rows of the right and the left outer eye corner.

    Returns:
        `[T]`.
    """
    across = points[:, eyes[1]] - points[:, eyes[0]]
    up = np.stack([across[:, 1], -across[:, 0]], 1)
    opening = points[:, pairs[:, 0]].mean(1) - points[:, pairs[:, 1]].mean(1)
    return (opening * up).sum(1) / np.maximum((across**2).sum(1), 1e-12)


def calibrate(gap: Array, score: Array | None) -> tuple[Array, Array]:
    """Take the landmarker's floor off a measured gap.

    Args:
        gap: `[T]` lid gap over eye distance of the frames in which it was seen.
        score: `[T]` blink scores, or None: then the gap itself tells how closed the eye is.

    Returns:
        The true gap `[T]`, 0 where closed, and a blink score `[T]`.
    """
    opened = float(np.percentile(gap, 70))
    if score is None:
        smallest = float(np.percentile(gap, 0.5))
        floor = smallest if smallest < 0.35 * opened else min(_TYPICAL_FLOOR, 0.35 * opened)
    else:
        closed, wide = score > CLOSED_SCORE, score < OPEN_SCORE
        opened = float(np.median(gap[wide])) if wide.any() else opened
        floor = float(np.median(gap[closed])) if closed.sum() >= 2 else min(_TYPICAL_FLOOR, 0.35 * opened)
    openness = np.clip((gap - floor) / max(opened - floor, 1e-6), 0.0, None)
    closing = np.clip(1 - openness, 0.0, 1.0)
    # The landmarker's score misses some slow and half blinks that its landmarks show.
    return openness * opened, closing if score is None else np.maximum(score, closing)


def snap_lids(
    model: HeadModel, basis: Basis, state: State, seen: Observations, seen_frames: Array, scores: Array | None
) -> State:
    """Solve for the blinks of closing eyes.

    Args:
        model: The head model; an eye without lids among its landmarks or without a blink is left alone.
        basis: The model at its landmarks, with the fixed corrections.
        state: The fitted state.
        seen: The measured landmarks.
        seen_frames: `[T]` frames with a face.
        scores: `[T, 2]` blink scores, right and left, or None.

    Returns:
        The state with new expression coefficients.
    """
    eyes = model.rows_of((EYE_OUTER_RIGHT, EYE_OUTER_LEFT))
    for side, (name, numbers) in enumerate((("right", LID_PAIRS_RIGHT), ("left", LID_PAIRS_LEFT))):
        pairs, blink = model.pair_rows(numbers), model.expression_rows("blink", name)
        named = model.expression_range == NAMED_SHAPES
        if len(pairs) == 0 or (named and len(blink) != 1):
            continue
        needed = np.concatenate([pairs.ravel(), eyes])
        usable = np.flatnonzero(seen_frames & (seen.weight[:, needed] > 0).all(1))
        if len(usable) == 0:
            continue
        score = None if scores is None else scores[usable, side]
        target, score = calibrate(lid_gap(seen.points[usable], pairs, eyes), score)
        blend = np.clip((score - _SNAP_FROM) / (_SNAP_FULL - _SNAP_FROM), 0.0, 1.0)
        acting = blend > 0
        frames, target, blend = usable[acting], target[acting], blend[acting]
        if named:
            direction = np.eye(len(basis.expression))[blink[0]]
            already = state.expression[frames, blink[0]]
            low, high = -already, _LARGEST_COEFFICIENT - already
        else:
            direction = _closing(basis, pairs, np.isin(model.landmark_index, EYE_RINGS[side]))
            low, high = np.full(len(frames), -_WIDEST_OPENING), np.full(len(frames), _LARGEST_COEFFICIENT)
        amount = _solve_amount(basis, state.of(frames), direction, low, high, target, needed)
        expression = state.expression.copy()
        expression[frames, : len(direction)] += (blend * amount)[:, None] * direction
        state = replace(state, expression=expression)
    return state


def _closing(basis: Basis, pairs: Array, on_eye: Array) -> Array:
    """Return the likeliest expression `[E]` that closes the neutral lids and leaves the rest of the face alone."""
    opening = (basis.expression[:, pairs[:, 0], 1] - basis.expression[:, pairs[:, 1], 1]).mean(1)
    elsewhere = basis.expression[:, ~on_eye].reshape(len(opening), -1) / _ELSEWHERE_M
    cost = np.diag(np.broadcast_to(basis.deviation, basis.coefficients)[: len(opening)] ** -2.0)
    closing = -np.linalg.solve(cost + elsewhere @ elsewhere.T, opening)
    neutral = (basis.rest[pairs[:, 0], 1] - basis.rest[pairs[:, 1], 1]).mean()
    return closing * neutral / max(-float(closing @ opening), 1e-12)


def _solve_amount(
    basis: Basis, state: State, direction: Array, low: Array, high: Array, target: Array, needed: Array
) -> Array:
    """Bisect for how far to go along `direction [E]` until the projected gap is the target.

    `needed` are the rows of the lids' pairs and, last, of the eye corners.
    """
    moving = np.tensordot(direction, basis.expression, 1)[needed]
    still = state.shape(basis)[:, needed]
    count = len(needed)
    pairs, eyes = np.arange(count - 2).reshape(-1, 2), np.array([count - 2, count - 1])
    translation = state.translation()[:, None]
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        camera = (still + middle[:, None, None] * moving) @ state.rotation.transpose(0, 2, 1) + translation
        too_open = lid_gap(camera[..., :2] / camera[..., 2:], pairs, eyes) > target
        low, high = np.where(too_open, middle, low), np.where(too_open, high, middle)
    return (low + high) / 2
