"""Small corrections of the poses of training frames, learnt together with a field."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.gaussians.field import GaussianField
from models.methods.talking_gaussian import Deformation, shifted


class PoseLearner:
    """A turn and a shift for every frame, for training frames alone: no other frame's pixels may be learnt from.

    What all corrections have in common is taken out, or the head would drift away from the frames that have none.
    """

    def __init__(self, frames: np.ndarray, count: int, rate: float, pivot: Tensor, known: np.ndarray | None = None):
        """Prepare.

        Args:
            frames: indices of the training frames.
            count: of all frames.
            rate: learning rate, metres; 0: the corrections stay as they are.
            pivot: `[3]` what heads turn about.
            known: `[T, 6]` corrections to begin with.
        """
        self.rate, self.pivot = rate, pivot
        start = torch.zeros(count, 6) if known is None else torch.from_numpy(known.copy())
        self.frames = torch.from_numpy(np.asarray(frames, np.int64)).to(pivot.device)
        self.table = nn.Embedding.from_pretrained(start.to(pivot.device), freeze=rate == 0, sparse=True)
        self.optimizer = torch.optim.SparseAdam(list(self.table.parameters()), lr=rate) if rate else None

    def moved(self, frame: int, gaussians: GaussianField, deformation: Deformation | None) -> Deformation:
        """Return the deformation with a frame's correction in it."""
        twist = self.table(torch.tensor(frame, device=self.pivot.device)) - self._common()
        return shifted(gaussians, deformation, twist, self.pivot)

    def _common(self) -> Tensor:
        return self.table.weight.detach()[self.frames].mean(0)

    def step(self, frozen: bool = False) -> None:
        """Use up the gradients."""
        if self.optimizer and not frozen:
            self.optimizer.step()
        self.table.zero_grad(set_to_none=True)

    def corrections(self) -> np.ndarray:
        """Return the turn (axis times angle times 10 cm) and shift of every frame `[T, 6]`, metres; others are 0."""
        table = torch.zeros_like(self.table.weight)
        table[self.frames] = self.table.weight.detach()[self.frames] - self._common()
        return table.cpu().numpy()

    def state_dict(self) -> dict[str, Any]:
        """Return corrections and optimiser."""
        return {"table": self.table.state_dict(), "optimizer": self.optimizer.state_dict() if self.optimizer else {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.table.load_state_dict(state["table"])
        if self.optimizer:
            self.optimizer.load_state_dict(state["optimizer"])
