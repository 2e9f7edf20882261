"""Where the person and its hair are: a probability a pixel, from MediaPipe's networks or from colours alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from models.errors import UsageError
from models.parsing.geometry import FaceFrame, face_oval

Array = np.ndarray

NETWORK_SIZE = 256
NO_RECTANGLE = (0, 0, 0, 0)  # the mask says where to look
COLOUR_SIZE = 128  # the cut is solved at this size; the border is then drawn at the frame's own


class Segmenter(Protocol):
    """Finds the person in one frame."""

    def probability(self, frame: Array, points: Array | None) -> Array:
        """Return float32 `[H, W]` in 0..1 for a frame `[H, W, 3]` and its landmarks `[478, 2]`, None without a face."""
        ...


def follow_edges(frame: Array, probability: Array) -> Array:
    """Pull the border of a soft mask onto the edges of the frame (guided filter, He et al. 2013; the fast one, 2015).

    Args:
        frame: `[H, W, 3]` uint8.
        probability: `[H, W]` float32 in 0..1.
    """
    radius = max(2, round(frame.shape[0] / 64))
    # The regulariser is a variance of colours: below about 3 of 255 nothing counts as an edge.
    # Its coefficients are found in a picture no larger than what the networks see: they are smooth.
    scale = min(1.0, NETWORK_SIZE / frame.shape[0])
    filtered = cv2.ximgproc.guidedFilter(frame, probability, radius, (0.012 * 255) ** 2, scale=scale)
    return np.clip(filtered, 0.0, 1.0)


class SelfieSegmenter:
    """MediaPipe's selfie segmentation: one small network, any background, hair included."""

    def __init__(self, model: Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(model), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def probability(self, frame: Array, points: Array | None) -> Array:
        """See `Segmenter`; the landmarks are not needed."""
        height, width = frame.shape[:2]
        scale = cv2.INTER_AREA if height > NETWORK_SIZE else cv2.INTER_LINEAR
        small = cv2.resize(frame, (NETWORK_SIZE, NETWORK_SIZE), interpolation=scale)
        self._interpreter.set_tensor(self._input, small[None].astype(np.float32) / 255)
        self._interpreter.invoke()
        mask = np.clip(self._interpreter.get_tensor(self._output)[0, ..., 0], 0.0, 1.0)
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
        return follow_edges(frame, mask)


class HairSegmenter:
    """MediaPipe's hair segmentation. It knows long hair that lies on the shoulders, which colours do not."""

    SIZE = 512

    def __init__(self, model: Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(model), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        # The fourth channel may hold the hair of the frame before. It stays empty: no frame then depends on others.
        self._planes = np.zeros((1, self.SIZE, self.SIZE, 4), np.float32)

    def probability(self, frame: Array) -> Array:
        """Return float32 `[H, W]` in 0..1 for a frame `[H, W, 3]` uint8."""
        height, width = frame.shape[:2]
        scale = cv2.INTER_AREA if height > self.SIZE else cv2.INTER_LINEAR
        square = cv2.resize(frame, (self.SIZE, self.SIZE), interpolation=scale)
        np.divide(square, 255, out=self._planes[0, ..., :3])
        self._interpreter.set_tensor(self._input, self._planes)
        self._interpreter.invoke()
        scores = self._interpreter.get_tensor(self._output)[0]
        hair = 1 / (1 + np.exp(np.clip(scores[..., 0] - scores[..., 1], -30, 30)))
        hair = cv2.resize(hair, (width, height), interpolation=cv2.INTER_AREA if height < self.SIZE else scale)
        return follow_edges(frame, hair)


class ColourSegmenter:
    """A graph cut between two mixtures of colours that are learnt once from a few frames (GrabCut, Rother et al. 2004).

    It needs no weights. It works where room and person differ in colour, so for a plain room.
    """

    def __init__(self, frames: Sequence[Array], points: Sequence[Array], iterations: int = 6) -> None:
        """Learn the colours.

        Args:
            frames: about eight `[H, W, 3]` uint8 spread over the clip.
            points: their landmarks `[478, 2]`.
            iterations: of cutting and learning again.

        Raises:
            UsageError: no frames.
        """
        if not frames:
            raise UsageError("the colour parser has no frame with a face to learn from")
        self._background, self._person = np.zeros((1, 65)), np.zeros((1, 65))
        self._last_face = points[0]
        # One montage, cut as a whole: the mixtures then belong to all frames alike.
        montage = np.hstack([_shrink(frame) for frame in frames])
        seeds = np.hstack([_seeds(p * _scale(f)) for f, p in zip(frames, points, strict=True)])
        cv2.setRNGSeed(1)
        cv2.grabCut(montage, seeds, NO_RECTANGLE, self._background, self._person, iterations, cv2.GC_INIT_WITH_MASK)

    def probability(self, frame: Array, points: Array | None) -> Array:
        """See `Segmenter`; without a face, the last face tells where to look."""
        if points is not None:
            self._last_face = points
        cut = _seeds(self._last_face * _scale(frame))
        background, person = self._background.copy(), self._person.copy()
        cv2.grabCut(_shrink(frame), cut, NO_RECTANGLE, background, person, 1, cv2.GC_EVAL_FREEZE_MODEL)
        mask = ((cut == cv2.GC_FGD) | (cut == cv2.GC_PR_FGD)).astype(np.float32)
        mask = cv2.resize(mask, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        return follow_edges(frame, mask)


def _shrink(frame: Array) -> Array:
    return cv2.resize(frame, (COLOUR_SIZE, COLOUR_SIZE), interpolation=cv2.INTER_AREA)


def _scale(frame: Array) -> Array:
    return COLOUR_SIZE / np.array(frame.shape[1::-1], np.float64)


def _seeds(points: Array) -> Array:
    """Return what is surely and what is probably the person, in OpenCV's terms, from landmarks in the small picture."""
    face = FaceFrame.of(points)
    across, down = face.coordinates(COLOUR_SIZE, COLOUR_SIZE)
    seeds = np.full((COLOUR_SIZE, COLOUR_SIZE), cv2.GC_PR_BGD, np.uint8)
    head = (across / 1.25) ** 2 + ((down - 0.1) / 1.75) ** 2 < 1
    shoulders = (down > face.chin + 0.3) & (np.abs(across) < 2.2)
    seeds[head | shoulders | ((np.abs(across) < 0.6) & (down > 0))] = cv2.GC_PR_FGD
    far = ((across / 1.6) ** 2 + ((down - 0.1) / 2.2) ** 2 > 1) & (down < face.chin)
    seeds[far] = cv2.GC_BGD
    oval = face_oval(points, COLOUR_SIZE, COLOUR_SIZE).astype(np.uint8)
    seeds[cv2.erode(oval, np.ones((5, 5), np.uint8)) > 0] = cv2.GC_FGD
    seeds[(np.abs(across) < 0.35) & (down > face.chin)] = cv2.GC_FGD  # neck and chest
    return seeds


def steady(probabilities: Iterable[Array], cuts: Iterable[int]) -> Iterator[Array]:
    """Yield each frame's median with its two neighbours of the same shot: what lasts one frame only disappears.

    Args:
        probabilities: one `[H, W]` a frame, in order.
        cuts: first frames of new shots.
    """
    starts = set(cuts)
    window: deque[Array] = deque(maxlen=3)
    for index, probability in enumerate(probabilities):
        if index in starts and window:
            yield from _finish(window)
            window.clear()
        window.append(probability)
        if len(window) == 1:
            continue
        yield window[0] if len(window) == 2 else _median(*window)
    if window:
        yield from _finish(window)


def _finish(window: deque[Array]) -> Iterator[Array]:
    # The last frame of a shot has no successor; all earlier ones have been given.
    yield window[-1]


def _median(a: Array, b: Array, c: Array) -> Array:
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
