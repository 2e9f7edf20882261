"""Adam (Kingma and Ba, 2015) for parameters whose number of rows changes while they are trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam


class FieldAdam:
    """Adam with a learning rate a parameter and moments that follow when Gaussians come and go.

    `torch.optim.Adam` identifies a parameter by its tensor object; density control replaces the tensors.
    """

    def __init__(self, tensors: dict[str, Tensor], betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-15):
        self.betas, self.eps = betas, eps
        self.counts = dict.fromkeys(
            tensors, 0
        )  # steps in which each could move: the moments of a frozen one stand still
        self.first = {name: torch.zeros_like(tensor, requires_grad=False) for name, tensor in tensors.items()}
        self.second = {name: torch.zeros_like(tensor, requires_grad=False) for name, tensor in tensors.items()}

    @torch.no_grad()
    def step(self, tensors: dict[str, Tensor], rates: dict[str, float]) -> None:
        """Move every tensor that has a gradient and a rate; then drop all gradients.

        Args:
            tensors: the parameters by name, of the shapes that the moments have.
            rates: learning rate by name; a name that is missing stays as it is.
        """
        for name, tensor in tensors.items():
            gradient, tensor.grad = tensor.grad, None
            if name not in rates:
                continue
            self.counts[name] += 1
            if gradient is None:
                continue
            done = torch.full((), self.counts[name] - 1.0, device=tensor.device)  # torch counts it up
            # One pass over memory, which is what a step costs: written out in tensors it takes twice as long.
            adam(
                [tensor], [gradient.contiguous()], [self.first[name]], [self.second[name]], [], [done], fused=True,
                amsgrad=False, beta1=self.betas[0], beta2=self.betas[1], lr=rates[name], weight_decay=0.0,
                eps=self.eps, maximize=False,
            )  # fmt: skip

    def resize(self, kept: Tensor, added: int) -> None:
        """Keep the moments of the rows `kept` (indices) and append `added` rows of zeros."""
        for moments in (self.first, self.second):
            for name, moment in moments.items():
                moments[name] = torch.cat([moment[kept], moment.new_zeros(added, *moment.shape[1:])])

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {"counts": dict(self.counts), "first": dict(self.first), "second": dict(self.second)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.counts = dict(state["counts"])
        for moments, saved in ((self.first, state["first"]), (self.second, state["second"])):
            for name in moments:
                moments[name] = saved[name].to(moments[name].device, copy=True)
