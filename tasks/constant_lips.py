"""The control that takes only speech away: lips that never move, on a head that does."""

from __future__ import annotations

import numpy as np

from models.landmarks.placing import PLACING, move, similarity_between
from models.metrics.lips import LIP_POINTS


def constant_lips(training: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the true points `[n, 478, 2]` with the lips replaced by their mean shape in training `[m, 478, 2]`.

    The shape shifts and turns with the head (by points beside the lips), so that only speech is taken away. It is not
    scaled: nodding changes distances on the face, and a shape that followed them would be the weaker control.
    """
    result = np.full_like(true, np.nan)
    training = training[np.isfinite(training).any((1, 2))]
    given = np.all(np.isfinite(training), axis=(0, 2)) & bool(len(training))
    seen = np.all(np.isfinite(true), axis=-1)
    anchors = [p for p in PLACING if given[p] and p not in LIP_POINTS and seen[:, p].any()]
    lips = [p for p in LIP_POINTS if given[p]]
    if len(anchors) < 2 or not lips:
        return result
    shapes = training.astype(np.float64)
    reference = shapes[0, anchors]
    upright = [similarity_between(shape[anchors], reference, scaled=False) for shape in shapes]
    mean, rest = (
        np.mean([move(t, s[part]) for t, s in zip(upright, shapes, strict=True)], 0) for part in (lips, anchors)
    )
    for k in np.flatnonzero(seen[:, anchors].all(1)):
        result[k] = true[k]
        place = similarity_between(rest, true[k, anchors].astype(np.float64), scaled=False)
        result[k, lips] = move(place, mean)
    return result
