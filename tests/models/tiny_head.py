"""A small head model for tests: a bulging plate with a nose, lids that close and a mouth that opens, in metres."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.heads.model import COMPONENTS, HeadModel, triangulate
from models.heads.skinning import Range, Skeleton

_COLUMNS, _ROWS = 61, 73
_X, _Y = (-0.085, 0.085), (-0.115, 0.1)
_EYE_X, _EYE_Y, _LID = 0.032, 0.01, 0.0045
_MOUTH_Y, _LIP = -0.06, 0.001

EXPRESSIONS = ("blink_left", "blink_right", "jaw_open", "smile_left", "smile_right", "brows_up", "pucker")


def _eye(side: float, numbers: dict[str, tuple[int, int, int]]) -> dict[int, tuple[float, float]]:
    outer, inner, _ = numbers["corners"]
    places = {outer: (side * (_EYE_X + 0.013), _EYE_Y), inner: (side * (_EYE_X - 0.013), _EYE_Y)}
    for upper, lower, offset in zip(numbers["upper"], numbers["lower"], (0.005, 0.0, -0.005), strict=True):
        places[upper] = (side * (_EYE_X + offset), _EYE_Y + _LID)
        places[lower] = (side * (_EYE_X + offset), _EYE_Y - _LID)
    return places


def _landmark_places() -> dict[int, tuple[float, float]]:
    """Number -> (x, y). Eyes, lips, nose patch and brows where they belong; cheeks and forehead on a lattice."""
    places = _eye(-1, {"corners": (33, 133, 0), "upper": (160, 159, 158), "lower": (144, 145, 153)})
    places |= _eye(1, {"corners": (263, 362, 0), "upper": (387, 386, 385), "lower": (373, 374, 380)})
    for k, (upper, lower) in enumerate(((81, 178), (82, 87), (13, 14), (312, 317), (311, 402))):
        x = (k - 2) * 0.006
        places |= {upper: (x, _MOUTH_Y + _LIP), lower: (x, _MOUTH_Y - _LIP)}
    places |= {61: (-0.025, _MOUTH_Y), 291: (0.025, _MOUTH_Y), 0: (0.0, -0.05), 17: (0.0, -0.071)}
    places |= {9: (0.0, 0.03), 107: (-0.01, 0.03), 336: (0.01, 0.03), 122: (-0.01, 0.005), 351: (0.01, 0.005)}
    places |= {48: (-0.014, -0.028), 278: (0.014, -0.028), 4: (0.0, -0.025), 193: (-0.008, 0.015), 417: (0.008, 0.015)}
    places |= {70: (-0.05, 0.035), 105: (-0.03, 0.04), 334: (0.03, 0.04), 300: (0.05, 0.035), 2: (0.0, -0.035)}
    lattice = [(x, y) for y in (0.06, -0.01, -0.045, -0.085) for x in (-0.065, -0.045, 0.045, 0.065)]
    numbers = (21, 54, 284, 251, 50, 101, 330, 280, 205, 206, 426, 425, 210, 211, 431, 430)
    return places | dict(zip(numbers, lattice, strict=True))


def surface(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return how far out the head reaches at a place, metres."""
    plate = 0.1 * np.sqrt(np.clip(1 - (x / 0.12) ** 2 - (y / 0.16) ** 2, 0, None))
    return plate + 0.025 * np.exp(-((x / 0.012) ** 2) - ((y + 0.02) / 0.022) ** 2)


def _bump(x: np.ndarray, y: np.ndarray, at: tuple[float, float], width: float) -> np.ndarray:
    return np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / width**2)


def make_tiny_head() -> HeadModel:
    """Build the model; it is the same every time."""
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(*_X, _COLUMNS), np.linspace(*_Y, _ROWS)))
    z = surface(x, y)
    zero = np.zeros_like(x)
    first = (np.arange(_ROWS - 1)[:, None] * _COLUMNS + np.arange(_COLUMNS - 1)).ravel()
    quads = np.stack([first, first + 1, first + _COLUMNS + 1, first + _COLUMNS], 1)

    def field(dx: np.ndarray, dy: np.ndarray, dz: np.ndarray) -> np.ndarray:
        return np.stack([dx, dy, dz], 1)

    identity = [
        field(0.06 * x, zero, zero),
        field(zero, 0.06 * y, zero),
        field(zero, zero, 0.08 * z),
        field(zero, zero, 0.004 * _bump(x, y, (0, -0.02), 0.025)),
        field(0.05 * x * np.clip(-y / 0.1, 0, 1), -0.003 * np.clip(-y / 0.1, 0, 1), zero),
    ]
    expression = []
    for side in (1, -1):  # left, then right
        near = np.exp(-(((x - side * _EYE_X) / 0.02) ** 2) - ((y - _EYE_Y) / 0.012) ** 2)
        falling = np.clip((y - _EYE_Y + 0.002) / 0.004, 0, 1)
        expression.append(field(zero, -2 * _LID * 1.25 * near * falling, zero))
    below = np.clip((_MOUTH_Y - y + 0.0005) / 0.001, 0, 1)
    expression.append(field(zero, -0.02 * below, -0.006 * below))
    for side in (1, -1):
        corner = _bump(x, y, (side * 0.025, _MOUTH_Y), 0.018)
        expression.append(field(side * 0.008 * corner, 0.008 * corner, -0.002 * corner))
    brows = np.exp(-(((y - 0.037) / 0.015) ** 2))
    expression.append(field(zero, 0.006 * brows, zero))
    lips = _bump(x, y, (0, _MOUTH_Y), 0.02)
    expression.append(field(-0.3 * x * lips, zero, 0.006 * lips))

    places = _landmark_places()
    numbers = np.array(sorted(places))
    at = np.array([places[int(n)] for n in numbers])
    column = (at[:, 0] - _X[0]) / (_X[1] - _X[0]) * (_COLUMNS - 1)
    row = (at[:, 1] - _Y[0]) / (_Y[1] - _Y[0]) * (_ROWS - 1)
    i, j = np.floor(column).astype(int), np.floor(row).astype(int)
    u, v = column - i, row - j
    corner = j * _COLUMNS + i
    low = u >= v  # which of the quad's two triangles
    triangle = np.where(
        low[:, None],
        np.stack([corner, corner + 1, corner + _COLUMNS + 1], 1),
        np.stack([corner, corner + _COLUMNS + 1, corner + _COLUMNS], 1),
    )
    weights = np.where(low[:, None], np.stack([1 - u, u - v, v], 1), np.stack([1 - v, u, v - u], 1))
    return HeadModel(
        name="tiny",
        neutral=np.stack([x, y, z], 1),
        triangles=triangulate(quads),
        identity=np.array(identity),
        expression=np.array(expression),
        expression_names=EXPRESSIONS,
        landmark_index=numbers.astype(np.int32),
        landmark_triangle=triangle.astype(np.int32),
        landmark_barycentric=weights,
    )


def make_jointed_head() -> HeadModel:
    """Return the tiny head with FLAME's five joints, whose jaw opens it; its expressions are principal components."""
    plain = make_tiny_head()
    count, rng = len(plain.neutral), np.random.default_rng(11)
    y = plain.neutral[:, 1]
    jaw = 0.95 / (1 + np.exp((y - _MOUTH_Y) / 0.0004)) + 0.02
    weights = np.stack([0.01 + 0 * jaw, 0.97 - jaw, jaw, 0.01 + 0 * jaw, 0.01 + 0 * jaw], 1)
    joints = np.array(
        [[0, -0.15, -0.05], [0, -0.1, -0.02], [0, -0.02, -0.02], [0.032, 0.01, 0.05], [-0.032, 0.01, 0.05]]
    )
    regressor = np.zeros((5, count))
    for j, place in enumerate(joints):
        near = np.argsort(np.linalg.norm(plain.neutral - place, axis=1))[:20]
        regressor[j, near] = 1 / 20
    smooth = np.stack([np.ones(count), *(100 * plain.neutral.T), *(100 * plain.neutral.T) ** 2 / 5])
    correctives = 1e-4 * np.einsum("fcm,mv->fvc", rng.normal(size=(36, 3, 7)), smooth)
    kept = [i for i, name in enumerate(plain.expression_names) if name != "jaw_open"]
    return replace(
        plain,
        name="jointed",
        expression=0.3 * plain.expression[kept],
        expression_names=tuple(f"component_{i}" for i in range(len(kept))),
        expression_range=COMPONENTS,
        skeleton=Skeleton(
            names=("root", "neck", "jaw", "eye_left", "eye_right"),
            parents=np.array([-1, 0, 1, 1, 1]),
            joints=joints,
            regressor=regressor,
            weights=weights,
            correctives=correctives,
            jaw=2,
            jaw_range=(Range(0.0, 0.5, 0.15), Range(-0.1, 0.1, 0.03), Range(-0.1, 0.1, 0.03)),
        ),
    )
