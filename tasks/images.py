"""Stored images as tensors: read when they are asked for on a CPU, kept on a GPU once they have been there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.parsing import labels
from models.storage import FrameStore


class Images:
    """Parts of stored images on one device. On a GPU every image stays, as long as half of the free memory lasts."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.room = 0 if device == "cpu" else torch.cuda.mem_get_info(device)[0] // 2  # bytes
        self._held: dict[tuple[int, int], Tensor] = {}
        self._tables: dict[tuple[int, ...], Tensor] = {}

    def part(self, store: FrameStore, index: int, rows: slice, columns: slice) -> Tensor:
        """Return a part `[h, w, ...]` of image `index`, in the type in which it is stored."""
        if self.device == "cpu":
            return torch.from_numpy(np.array(store[index][rows, columns]))
        image = self._held.get((id(store), index))
        if image is None:
            image = torch.from_numpy(np.array(store[index])).to(self.device)
            if image.nbytes <= self.room:
                self.room -= image.nbytes
                self._held[id(store), index] = image
        return image[rows, columns]

    def where(self, store: FrameStore, index: int, rows: slice, columns: slice, group: tuple[int, ...]) -> Tensor:
        """Return the part `[h, w]` bool of where label image `index` holds one of `group`."""
        part = self.part(store, index, rows, columns)
        if self.device == "cpu":  # numpy looks a table up several times faster than torch
            return torch.from_numpy(labels.select(part.numpy(), group))
        if group not in self._tables:
            table = labels.select(np.arange(256, dtype=np.uint8), group)
            self._tables[group] = torch.from_numpy(table).to(self.device)
        return self._tables[group][part.long()]
