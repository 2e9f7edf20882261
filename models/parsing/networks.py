"""Runs converted parsing networks by onnxruntime, on CUDA where wanted, and puts their classes into our labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from models.errors import UsageError
from models.onnx_session import open_session
from models.parsing import labels as L

Array = np.ndarray

BATCH = 4  # frames that a network sees at once; more bring nothing on a CPU and take memory
MULTIPLE = 32  # of which the sides of the input are
NEAR_LIPS = 0.04  # of the picture's side: teeth further from lips and mouth are false


class NetworkParser:
    """A network that labels frames, in batches of one size."""

    def __init__(
        self, path: Path, model: str, classes: Sequence[int], size: int | None, threads: int = 1, device: str = "cpu"
    ) -> None:
        """Open a network.

        Args:
            path: the ONNX file that `convert` of models.parsing.bisenet or easyportrait wrote.
            model: which network it has to be.
            classes: the label of models.parsing.labels of each of its classes.
            size: side of the square to which frames are resized; None runs them as they are.
            threads: on the CPU.
            device: of torch.

        Raises:
            InputError: the file is not a network.
            UsageError: it has another one.
        """
        self._session = open_session(path, device.startswith("cuda"), threads)
        found = self._session.get_modelmeta().custom_metadata_map.get("model")
        if found != model:
            raise UsageError(
                f"{path.name} is not the network {model}", f"it says {found!r}", "convert the official checkpoint again"
            )
        self._table = np.zeros(256, np.uint8)
        self._table[: len(classes)] = classes
        self._size = size

    @property
    def provider(self) -> str:
        """What the network runs on, in onnxruntime's words."""
        return self._session.get_providers()[0]

    def label(self, frames: Sequence[Array]) -> list[Array]:
        """Return labels `[H, W]` uint8 of models.parsing.labels for frames `[H, W, 3]` uint8 of one size."""
        if not frames:
            return []
        height, width = frames[0].shape[:2]
        batch = np.stack([self._prepare(frame) for frame in frames])
        planes = np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32)
        found = self._table[np.asarray(self._session.run(["labels"], {"frames": planes})[0])]
        if self._size is None:
            return list(found[:, :height, :width])
        return [cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST) for labels in found]

    def _prepare(self, frame: Array) -> Array:
        if self._size is not None:
            how = cv2.INTER_AREA if frame.shape[0] > self._size else cv2.INTER_LINEAR
            return cv2.resize(frame, (self._size, self._size), interpolation=how)
        # Repeating the border changes less near it than black would.
        below, right = (-side % MULTIPLE for side in frame.shape[:2])
        return cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REPLICATE)


def bisenet_parser(path: Path, threads: int = 1, device: str = "cpu") -> NetworkParser:
    """Open a converted BiSeNet; see `NetworkParser`."""
    from models.parsing.bisenet import CLASSES, MODEL, SIZE

    return NetworkParser(path, MODEL, [label for _, label in CLASSES], SIZE, threads, device)


def easyportrait_parser(path: Path, threads: int = 1, device: str = "cpu") -> NetworkParser:
    """Open a converted EasyPortrait network, which runs at the frames' own size; see `NetworkParser`."""
    from models.parsing.easyportrait import CLASSES, MODEL

    return NetworkParser(path, MODEL, [label for _, label in CLASSES], None, threads, device)


def overlay_teeth(labels: Array, teeth: Array, shared: bool = False) -> Array:
    """Lay teeth that one network found over the labels of another, as TalkingGaussian composes its masks.

    Args:
        labels: uint8 `[H, W]`.
        teeth: bool `[H, W]`.
        shared: False makes them the mouth's alone: the face is what it was AND NOT teeth. True is what the original
            does, face XOR teeth: teeth on what was not face, so nearly all of them, belong to face and mouth alike.

    Returns:
        uint8 `[H, W]`; teeth that are nowhere near lips or mouth are left out.
    """
    reach = 2 * max(1, round(NEAR_LIPS * max(labels.shape))) + 1
    lips = L.select(labels, (L.LIPS, L.MOUTH, L.TEETH)).astype(np.uint8)
    near = cv2.dilate(lips, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))) > 0
    face = L.select(labels, L.FACE)
    result = labels.copy()
    result[teeth & near] = L.TEETH
    if shared:
        result[teeth & near & ~face] = L.SHARED_TEETH
    return result
