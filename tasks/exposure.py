"""What the camera's automatics do to a frame's colours: a gain and an offset of red, green and blue for each.

Without it the Gaussians are asked for colours that no frame has, the mean of all exposures, and motion for brightness.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

RATE = 0.05  # plain descent: a frame comes a few times only, and its next step should be as large as it is wrong
HOLD = 0.3  # weight of the squared distance from the identity, to which a head in use goes back


class Exposure:
    """Gains and offsets `[2, 3]` of every frame of a clip; those that are not trained on keep the identity."""

    def __init__(self, frames: int, device: str = "cpu", learnt: np.ndarray | None = None) -> None:
        """Begin with what was `learnt` (`[T, 2, 3]`, less the identity), or with the identity."""
        first = torch.zeros(frames, 2, 3) if learnt is None else torch.from_numpy(learnt.copy())
        self.codes = first.to(device).requires_grad_()
        self.identity = torch.tensor([[1.0] * 3, [0.0] * 3], device=device)

    def of(self, frame: int) -> Tensor:
        """Return gain and offset `[2, 3]` of a frame."""
        return self.identity + self.codes[frame]

    def hold(self, frame: int) -> Tensor:
        """Return the loss that keeps a frame near the identity."""
        return HOLD * self.codes[frame].square().sum()

    @torch.no_grad()
    def step(self) -> None:
        """Use up the gradients."""
        assert self.codes.grad is not None
        self.codes -= RATE * self.codes.grad
        self.codes.grad = None

    def learnt(self) -> np.ndarray:
        """Return `[T, 2, 3]`, less the identity."""
        return self.codes.detach().cpu().numpy().copy()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {"codes": self.codes.detach()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        with torch.no_grad():
            self.codes.copy_(state["codes"])
