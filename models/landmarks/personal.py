"""Landmarks of one known face, learnt from that person's own frames: a landmarker that needs no outside weights.

A first regressor places the face in the whole frame, a second one straightens an upright crop of it, and a regressor
for each part (mouth, either eye, the rest) reads the part's points from its own crop. So the lips are read from the
lips' pixels only: a face that says something else than it did in training is measured, not guessed from context.
Every regressor is ridge regression on principal components of the crop with kernel ridge regression (Gaussian kernel)
on what is left. Training crops are shifted, turned, scaled, blurred and tinted, as renders may be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh

from models.errors import InputError
from models.heads.mediapipe_points import (
    EYE_OUTER_LEFT,
    EYE_OUTER_RIGHT,
    EYE_RINGS,
    LANDMARK_COUNT,
    LIP_POINTS,
)
from models.landmarks.placing import (
    PLACING,
    chain,
    cut,
    fit_box,
    invert,
    make_upright,
    mean_shape,
    move,
    similarity_between,
)
from models.storage import FrameStore

MIN_FRAMES = 24
MAX_FRAMES = 600  # more training frames than these do not help one face, and the kernel grows with their square
COPIES = 4  # distorted copies of each training frame
THUMBNAIL = 48  # side of the picture of the whole frame, pixels
FACE = (64, 64)  # width and height of the crop of the face, pixels
FOLDS, STRETCHES = 5, 4  # every fifth of 20 stretches of frames is held out to choose the regularisation
RIDGES = (3e-4, 3e-3, 3e-2, 0.3)
TRUSTS = (0.02, 0.1, 0.5, 2.5, 12.0)
PLACE_JITTER = (
    0.06,
    0.05,
    0.05,
)  # standard deviation of shift (in IOD), turn (radians) and log scale, placing the face
PART_JITTER = (0.025, 0.02, 0.02)  # the same when the parts are read
FACE_REACH = 1.25  # half the side of the face crop, in IOD
MIN_LIKENESS = 0.65  # correlation of the face crop with the faces of training below which there is no face
# Points, size of the crop, and how much larger it is than the box of the points in training.
PARTS = ((LIP_POINTS, (56, 44), 1.5), *((ring, (40, 28), 1.45) for ring in EYE_RINGS))


class Regressor:
    """Ridge regression on principal components, then kernel ridge regression on its residual.

    How far either trusts the targets is chosen on held-out stretches of frames, because landmarks may tremble.
    """

    def __init__(self, inputs: np.ndarray, targets: np.ndarray, copies: int, components: int = 80) -> None:
        """Learn to give `targets` `[n, k]` from `inputs` `[n, d]`, `copies` of each frame after another."""
        self._centre = inputs.mean(0)
        centred = inputs - self._centre
        values, vectors = _leading(centred, min(components, len(inputs) - 1))
        # Not whitened: the leading components carry the shape, the last ones mostly noise.
        self._basis = vectors / np.sqrt(max(float(values.sum()), 1e-12))
        z = centred @ self._basis
        distances = _squared_distances(z, z)
        self._centres, self._width = z, float(np.median(distances)) + 1e-9
        kernel = np.exp(-distances / self._width)
        stretch = np.arange(len(z)) // copies * STRETCHES * FOLDS // max(1, len(z) // copies)
        held_out = stretch % FOLDS == 0
        ridge, trust = _choose(z, kernel, targets, held_out)
        everything = np.ones(len(z), bool)
        self._mean, self._linear, self._weights = _solve(z, kernel, targets, everything, ridge, trust)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Return the targets `[n, k]` for `inputs` `[n, d]`."""
        z = (inputs - self._centre) @ self._basis
        kernel = np.exp(-_squared_distances(z, self._centres) / self._width)
        return self._mean + z @ self._linear + kernel @ self._weights

    def state(self) -> dict[str, np.ndarray]:
        """Return what was learnt, as arrays by name."""
        return {name.removeprefix("_"): np.atleast_1d(value) for name, value in vars(self).items()}

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Self:
        """Return the regressor that `state()` was taken from."""
        made = cls.__new__(cls)
        vars(made).update({f"_{name}": value for name, value in state.items()})
        return made


def _choose(z: np.ndarray, kernel: np.ndarray, targets: np.ndarray, held_out: np.ndarray) -> tuple[float, float]:
    """Return the strengths of regularisation with the least error on the samples `held_out`."""

    def error(ridge: float, trust: float) -> float:
        mean, linear, weights = _solve(z, kernel, targets, ~held_out, ridge, trust)
        found = mean + z[held_out] @ linear + kernel[np.ix_(held_out, ~held_out)] @ weights
        return float(((found - targets[held_out]) ** 2).mean())

    if held_out.all() or not held_out.any():
        return RIDGES[0], TRUSTS[0]
    ridge = min(RIDGES, key=lambda value: error(value, np.inf))
    return ridge, min(TRUSTS, key=lambda value: error(ridge, value))


def _solve(
    z: np.ndarray, kernel: np.ndarray, targets: np.ndarray, kept: np.ndarray, ridge: float, trust: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, linear map and kernel weights fitted to the samples `kept`; no kernel for infinite `trust`."""
    x, mean = z[kept], targets[kept].mean(0)
    residual = targets[kept] - mean
    gram = x.T @ x
    linear = np.linalg.solve(gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ residual)
    if np.isinf(trust):
        return mean, linear, np.zeros_like(residual)
    own = kernel[np.ix_(kept, kept)]
    return mean, linear, cho_solve(cho_factor(own + trust * np.eye(len(own))), residual - x @ linear)


def _leading(centred: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `count` largest eigenvalues and eigenvectors `[d, count]` of the covariance of `centred` `[n, d]`."""
    n, d = centred.shape
    # Single precision is twice as fast and far finer than the noise of the pictures.
    centred = centred.astype(np.float32)
    small = centred @ centred.T if n < d else centred.T @ centred
    values, vectors = eigh(small / n, subset_by_index=(len(small) - count, len(small) - 1))
    if n < d:
        vectors = centred.T @ vectors
        vectors /= np.maximum(np.linalg.norm(vectors, axis=0), 1e-12)
    return values, vectors


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0)


def _channels(frame: np.ndarray) -> np.ndarray:
    """Return brightness and redness `[H, W, 2]` float32 of an RGB frame: lips differ from skin in both."""
    rgb = frame.astype(np.float32)
    return np.stack([rgb @ np.array([0.299, 0.587, 0.114], np.float32), 2 * (rgb[..., 0] - rgb[..., 1])], -1)


def _distort(channels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Blur, dim and tint as a render might."""
    sigma = random.uniform(0, 1.1)
    blurred = cv2.GaussianBlur(channels, (0, 0), sigma) if sigma > 0.25 else channels
    gain = 1 + 0.05 * random.standard_normal(2).astype(np.float32)
    return blurred * gain + (4 * random.standard_normal(2)).astype(np.float32)


def _jitter(spread: tuple[float, float, float], random: np.random.Generator) -> np.ndarray:
    """Return a random small similarity about the origin of the upright face frame."""
    turn, scale = np.array(spread[1:]) * random.standard_normal(2)
    c, s = np.exp(scale) * np.cos(turn), np.exp(scale) * np.sin(turn)
    x, y = spread[0] * random.standard_normal(2)
    return np.array([[c, -s, x], [s, c, y]])


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def _within(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays that `_under` named, by their own names again."""
    return {name.removeprefix(f"{prefix}/"): a for name, a in arrays.items() if name.startswith(f"{prefix}/")}


@dataclass(frozen=True)
class _Part:
    """Where a part lies in the upright face frame, and what reads its points."""

    points: np.ndarray
    to_crop: np.ndarray  # from the upright face frame to the crop
    size: tuple[int, int]
    read: Regressor


class PersonalLandmarks:
    """A landmarker for one face. Call it with an RGB frame to get its points and how much it looks like that face."""

    def __init__(self, frames: np.ndarray | FrameStore, points: np.ndarray, seed: int = 0) -> None:
        """Learn from `frames` `[n, H, W, 3]` uint8 and their `points` `[n, 478, 2]` in pixels (NaN: not given).

        Raises:
            InputError: there are too few frames with points, or the points to place a face by are missing.
        """
        usable = np.flatnonzero(~np.isnan(points[:, [EYE_OUTER_RIGHT, EYE_OUTER_LEFT]]).any((1, 2)))
        if len(usable) < MIN_FRAMES:
            raise InputError(
                f"{len(usable)} frames with landmarks to learn a face from", f"at least {MIN_FRAMES} are needed"
            )
        if len(usable) > MAX_FRAMES:
            usable = usable[np.linspace(0, len(usable) - 1, MAX_FRAMES).round().astype(int)]
        given = np.all(np.isfinite(points[usable]), axis=(0, 2))
        self.points = np.flatnonzero(given)
        placing = np.array([p for p in PLACING if given[p]])
        random = np.random.default_rng(seed)
        pictures = [_channels(frames[i]) for i in usable.tolist()]
        shapes = points[usable].astype(np.float64)
        face = make_upright(mean_shape(shapes[:, placing]), list(placing))
        to_face = [similarity_between(shape[placing], face) for shape in shapes]
        self._face_crop = _face_crop()
        self._learn(pictures, shapes, to_face, given, random)
        crops = np.array([_details(self._face_input(p, t)) for p, t in zip(pictures, to_face, strict=True)])
        mean = crops.mean(0)
        self._faces = mean, _leading(crops - mean, min(12, len(crops) - 1))[1]

    def state(self) -> dict[str, np.ndarray]:
        """Return what was learnt, as arrays by name: `from_state` makes the same landmarker of it."""
        mean, basis = self._faces
        state = {"points": self.points, "faces/mean": mean, "faces/basis": basis}
        regressors = {"coarse": self._coarse, "fine": self._fine}
        for k, part in enumerate(self._parts):
            state |= {f"part {k}/points": part.points, f"part {k}/to_crop": part.to_crop}
            state[f"part {k}/size"] = np.array(part.size)
            regressors[f"part {k}/read"] = part.read
        for name, regressor in regressors.items():
            state |= _under(name, regressor.state())
        return state

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Self:
        """Return the landmarker that `state()` was taken from."""
        made = cls.__new__(cls)
        made.points = state["points"]
        made._face_crop = _face_crop()
        made._faces = state["faces/mean"], state["faces/basis"]
        made._coarse, made._fine = (Regressor.from_state(_within(name, state)) for name in ("coarse", "fine"))
        made._parts = []
        while part := _within(f"part {len(made._parts)}", state):
            width, height = part["size"].tolist()
            read = Regressor.from_state(_within("read", part))
            made._parts.append(_Part(part["points"], part["to_crop"], (width, height), read))
        return made

    def __call__(self, frame: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the points `[478, 2]` float32 and the likeness.

        Points that were not learnt are NaN, and all are where there is no face. The likeness is the correlation, -1..1,
        of the upright face crop with its nearest face in training.
        """
        picture = _channels(frame)
        result = np.full((LANDMARK_COUNT, 2), np.nan, np.float32)
        to_face, likeness = self._place(picture)
        if likeness < MIN_LIKENESS:
            return result, likeness
        level = self._level(picture, to_face)
        for part in self._parts:
            to_crop = chain(part.to_crop, to_face)
            crop = (cut(picture, to_crop, part.size) - level[0]) / level[1]
            found = part.read(crop.reshape(1, -1)).reshape(-1, 2)
            result[part.points] = move(invert(to_crop), found)
        return result, likeness

    # -- learning

    def _learn(
        self,
        pictures: list[np.ndarray],
        shapes: np.ndarray,
        to_face: list[np.ndarray],
        given: np.ndarray,
        random: np.random.Generator,
    ) -> None:
        """Fit all regressors to distorted copies of the pictures, each copy with two small errors of placing."""
        plans = self._plans(shapes, to_face, given)
        thumbs, places, faces, corrections = [], [], [], []
        inputs: list[list[np.ndarray]] = [[] for _ in plans]
        targets: list[list[np.ndarray]] = [[] for _ in plans]
        for picture, shape, transform in zip(pictures, shapes, to_face, strict=True):
            for _ in range(COPIES):
                distorted = _distort(picture, random)
                thumbs.append(_thumbnail(distorted))
                places.append(_parameters(transform))
                moved = chain(_jitter(PLACE_JITTER, random), transform)
                faces.append(self._face_input(distorted, moved))
                corrections.append(_parameters(chain(transform, invert(moved))))
                moved = chain(_jitter(PART_JITTER, random), transform)
                level = self._level(distorted, moved)
                for k, (points, part_crop, size) in enumerate(plans):
                    to_crop = chain(part_crop, moved)
                    inputs[k].append(((cut(distorted, to_crop, size) - level[0]) / level[1]).ravel())
                    targets[k].append(move(to_crop, shape[points]).ravel())
        self._coarse = Regressor(np.array(thumbs), np.array(places), COPIES, 60)
        self._fine = Regressor(np.array(faces), np.array(corrections), COPIES)
        self._parts = [
            _Part(points, part_crop, size, Regressor(np.array(x), np.array(y), COPIES))
            for (points, part_crop, size), x, y in zip(plans, inputs, targets, strict=True)
        ]

    def _plans(
        self, shapes: np.ndarray, to_face: list[np.ndarray], given: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray, tuple[int, int]]]:
        """Return for every part its points, where its crop lies in the upright face frame, and the crop's size."""
        upright = np.array([move(t, s) for t, s in zip(to_face, shapes, strict=True)])
        plans = []
        for group, size, margin in PARTS:
            points = np.array([p for p in group if given[p]], int)
            if len(points):
                low, high = upright[:, points].min((0, 1)), upright[:, points].max((0, 1))
                plans.append((points, fit_box((low + high) / 2, (high - low) * margin, size), size))
        taken = {p for group, _, _ in PARTS for p in group}
        rest = np.array([p for p in PLACING if given[p] and p not in taken], int)
        return [*plans, (rest, self._face_crop, FACE)] if len(rest) else plans

    # -- measuring

    def _place(self, picture: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the transform from the frame to the upright face frame, and the likeness."""
        to_face = _from_parameters(self._coarse(_thumbnail(picture)[None])[0])
        for _ in range(3):
            crop = self._face_input(picture, to_face)
            to_face = chain(_from_parameters(self._fine(crop[None])[0]), to_face)
        mean, basis = self._faces
        crop = _details(self._face_input(picture, to_face))
        nearest = mean + basis @ (basis.T @ (crop - mean))
        length = np.linalg.norm(crop) * np.linalg.norm(nearest)
        return to_face, float(crop @ nearest / max(length, 1e-9))

    def _face_input(self, picture: np.ndarray, to_face: np.ndarray) -> np.ndarray:
        crop = cut(np.ascontiguousarray(picture[..., 0]), chain(self._face_crop, to_face), FACE)
        crop = cv2.GaussianBlur(crop, (0, 0), 0.8)
        return ((crop - crop.mean()) / (crop.std() + 1e-3)).ravel().astype(np.float64)

    def _level(self, picture: np.ndarray, to_face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and spread of the channels over the face crop: the light by which all parts are read."""
        crop = cut(picture, chain(self._face_crop, to_face), FACE).reshape(-1, 2)
        return crop.mean(0), crop.std(0) + 1e-3


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    """Return the brightness of a whole frame in few pixels, its mean and contrast taken out."""
    small = cv2.resize(picture[..., 0], (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return ((small - small.mean()) / (small.std() + 1e-3)).ravel().astype(np.float64)


def _details(crop: np.ndarray) -> np.ndarray:
    """Take the coarse light and dark out of a face crop: a smudge has them as well as a face."""
    picture = crop.reshape(FACE[::-1])
    return (picture - cv2.GaussianBlur(picture, (0, 0), 4)).ravel()


def _parameters(transform: np.ndarray) -> np.ndarray:
    return np.array([transform[0, 0], transform[1, 0], transform[0, 2], transform[1, 2]])


def _from_parameters(values: np.ndarray) -> np.ndarray:
    c, s, x, y = values
    return np.array([[c, -s, x], [s, c, y]])


def _face_crop() -> np.ndarray:
    """Return the transform from the upright face frame to the crop of the face."""
    return fit_box(np.zeros(2), 2 * FACE_REACH * np.ones(2), FACE)
