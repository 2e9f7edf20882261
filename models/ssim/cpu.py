"""SSIM on the CPU: Numba kernels behind a torch autograd function. float32 only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.ssim import kernels


class _SsimMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor) -> Tensor:
        # Rows of pixels and channels together; see the kernels.
        rows = tuple(side.detach().contiguous().flatten(-2) for side in (image, target))
        similarity = torch.empty_like(rows[0])
        derivatives = np.empty((3, *rows[0].shape), np.float32)
        kernels.forward(rows[0].numpy(), rows[1].numpy(), image.shape[-1], similarity.numpy(), *derivatives)
        ctx.save_for_backward(*rows)
        ctx.derivatives = derivatives
        return similarity.view(image.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        image, target = ctx.saved_tensors
        gradient = torch.empty_like(image)
        d_mean, d_square, d_product = ctx.derivatives
        kernels.backward(
            image.numpy(), target.numpy(), upstream.shape[-1], upstream.contiguous().flatten(-2).numpy(),
            d_mean, d_square, d_product, gradient.numpy(),
        )  # fmt: skip
        return gradient.view(upstream.shape), None


def ssim_map(image: Tensor, target: Tensor) -> Tensor:
    """SSIM of `[B, H, W, C]` images at every pixel; see `models.ssim.ssim_map`."""
    return _SsimMap.apply(image, target)
