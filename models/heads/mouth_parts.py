"""Teeth and a mouth cavity for head models that have none.

Built from the ring of the inner lips, whose points are linear in identity and expression as all vertices are: the
cavity is a bag behind the ring; the upper teeth are a strip that stays with the skull, the lower ones a strip that goes
with the chin.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.errors import UsageError
from models.heads.mediapipe_points import CURVES, LIP_RING_INNER
from models.heads.model import Array, HeadModel
from models.heads.skinning import Skeleton

REGION = "mouth_parts"
CHIN = (152, 175, 199, 17)  # the first of these that a model has tells how the jaw goes
ROWS = 5  # of the cavity's wall
DEPTH, HEIGHT = 0.6, 0.3  # of the cavity, over the mouth's width
COLUMNS = 15  # of a strip of teeth
STRIP = np.array([(0.04, 0.0), (0.02, 0.12), (0.0, 0.24)])  # rows: behind and beyond the lips' line, over the width
ARCH, REACH = 0.22, 0.46  # how far the strips bend backwards and to the sides, over the width
BEHIND = 0.09  # of the front teeth behind the lips, over the width


def with_mouth(model: HeadModel) -> HeadModel:
    """Return the model with teeth and a cavity, as it is if it has teeth.

    Raises:
        UsageError: its inner lips are not known.
    """
    if "teeth" in model.regions or REGION in model.regions:
        return model
    ring = model.rows_of(LIP_RING_INNER)
    if len(ring) < 8:
        raise UsageError(
            f"head model {model.name}: {len(ring)} landmarks on the inner lips",
            "the inside of the mouth is built behind a ring of at least 8 of them",
            "use a head model with more landmarks, or one that has teeth",
        )
    lips = model.at_landmarks(model.neutral)[ring]  # [n, 3]
    width, middle = float(np.ptp(lips[:, 0])), lips.mean(0)
    # How much each ring point belongs to the lower lip, 0..1; the corners to both.
    is_lower = np.isin(model.landmark_index[ring], CURVES["lip_inner_lower"])
    inwards = np.sqrt(np.clip(1 - ((lips[:, 0] - middle[0]) / (width / 2)) ** 2, 0, 1))
    lower = 0.5 + np.where(is_lower, 0.5, -0.5) * inwards

    places, shares, skulls, jaws = [], [], [], []  # [P, 3], [P, n] of ring points, [P] and [P]
    for row in range(1, ROWS + 1):
        depth = row / ROWS
        shift = np.stack([-0.4 * depth * (lips[:, 0] - middle[0]), (1 - 2 * lower) * HEIGHT * width * depth,
                          np.full(len(lips), -DEPTH * width * depth)], 1)  # fmt: skip
        places.append(lips + shift)
        shares.append(np.eye(len(lips)) * (1 - depth))
        skulls.append(depth * (1 - lower))
        jaws.append(depth * lower)
    for side in (1, -1):  # upper, lower
        along = np.linspace(-1, 1, COLUMNS)
        for back, high in STRIP:
            z = middle[2] - width * (BEHIND + back + ARCH * along**2)
            y = middle[1] + side * width * (high - 0.02)
            places.append(np.stack([middle[0] + REACH * width * along, np.full(COLUMNS, y), z], 1))
            shares.append(np.zeros((COLUMNS, len(lips))))
            skulls.append(np.full(COLUMNS, float(side > 0)))
            jaws.append(np.full(COLUMNS, float(side < 0)))
    place, share, skull, jaw = (np.concatenate(parts) for parts in (places, shares, skulls, jaws))
    return _extended(model, ring, place, share, skull, jaw)


def _extended(model: HeadModel, ring: Array, place: Array, share: Array, skull: Array, jaw: Array) -> HeadModel:
    """Append vertices that follow the ring by `share`, the skull and the jaw by the rest."""
    first, known = len(model.neutral), model.landmark_index.tolist()
    chin = next((known.index(number) for number in CHIN if number in known), None)
    identity = model.at_landmarks(model.identity)[:, ring]
    expression = model.at_landmarks(model.expression)
    along = np.einsum("pn,enc->epc", share, expression[:, ring])
    if chin is not None:
        along += jaw[:, None] * expression[:, chin, None]
    # Identity carries all of it as it carries the lips: the ring's points where they lead, else their mean.
    mix = share + (1 - share.sum(1, keepdims=True)) / share.shape[1]
    skeleton = model.skeleton
    return replace(
        model,
        neutral=np.concatenate([model.neutral, place.astype(model.neutral.dtype)]),
        triangles=np.concatenate([model.triangles, _triangles(len(ring), first, model, ring)]),
        identity=np.concatenate(
            [model.identity, np.einsum("pn,knc->kpc", mix, identity).astype(model.identity.dtype)], 1
        ),
        expression=np.concatenate([model.expression, along.astype(model.expression.dtype)], 1),
        regions=model.regions | {REGION: (first, first + len(place))},
        skeleton=None if skeleton is None else _joined(skeleton, model, ring, share, skull, jaw),
    )


def _joined(skeleton: Skeleton, model: HeadModel, ring: Array, share: Array, skull: Array, jaw: Array) -> Skeleton:
    """Carry the new vertices by the joints: the ring's share as the ring, the rest by the jaw and what it hangs on."""
    weights = share @ model.at_landmarks(skeleton.weights)[ring]
    weights[:, skeleton.jaw] += jaw
    weights[:, int(skeleton.parents[skeleton.jaw])] += skull
    correctives = np.einsum("pn,fnc->fpc", share, model.at_landmarks(skeleton.correctives)[:, ring])
    nothing = np.zeros((len(skeleton.names), len(share)))
    return replace(
        skeleton,
        regressor=np.concatenate([skeleton.regressor, nothing], 1),
        weights=np.concatenate([skeleton.weights, weights]),
        correctives=np.concatenate([skeleton.correctives, correctives], 1),
    )


def _triangles(around: int, first: int, model: HeadModel, ring: Array) -> Array:
    """Return the triangles of the wall, of its end and of both strips, as ids of the new vertices."""
    following = np.roll(np.arange(around), -1)
    # The wall begins at the vertices nearest to the ring's points.
    corner = model.landmark_barycentric[ring].argmax(1)
    rows = [model.landmark_triangle[ring, corner], *(first + np.arange(around) + around * row for row in range(ROWS))]
    triangles = []
    for outer, inner in zip(rows[:-1], rows[1:], strict=True):
        triangles += [np.stack([outer, inner, outer[following]], 1)]
        triangles += [np.stack([outer[following], inner, inner[following]], 1)]
    end = rows[-1]
    triangles.append(np.stack([np.full(around - 2, end[0]), end[1:-1], end[2:]], 1))
    start = first + around * ROWS
    for strip in range(2):
        grid = start + (strip * len(STRIP) + np.arange(len(STRIP))[:, None]) * COLUMNS + np.arange(COLUMNS)
        a, b, c, d = (part.ravel() for part in (grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]))
        triangles += [np.stack([a, b, c], 1), np.stack([a, c, d], 1)]
    found = np.concatenate(triangles)
    a, b, c = found.T
    return found[(a != b) & (b != c) & (a != c)].astype(np.int32)
