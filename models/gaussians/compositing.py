"""Put one picture over another (Porter and Duff, 1984, "over", premultiplied colours)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def over(image: Tensor, alpha: Tensor, behind: Tensor) -> Tensor:
    """Return `image + (1 - alpha) behind`; gradients reach all three.

    Args:
        image: `[H, W, 3]`, premultiplied.
        alpha: `[H, W]`.
        behind: `[H, W, 3]`.

    Returns:
        `[H, W, 3]`.

    Raises:
        ValueError: for shapes that do not fit.
    """
    if image.shape != (*alpha.shape, 3) or behind.shape != image.shape or alpha.ndim != 2:
        shapes = [list(part.shape) for part in (image, alpha, behind)]
        raise ValueError(f"image, alpha and what is behind have shapes {shapes}; expected [H, W, 3], [H, W], [H, W, 3]")
    if all(part.dtype == torch.float32 and part.device.type == "cpu" for part in (image, alpha, behind)):
        return _Over.apply(image, alpha, behind)
    return image + (1 - alpha[..., None]) * behind


class _Over(torch.autograd.Function):
    """Beside torch's own arithmetic, which is slow on a factor that is shared by three neighbours in memory."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, alpha: Tensor, behind: Tensor) -> Tensor:
        from models.gaussians import compositing_kernels as kernels

        image, alpha, behind = (part.detach().contiguous() for part in (image, alpha, behind))
        out = torch.empty_like(image)
        kernels.forward(image.numpy(), alpha.numpy(), behind.numpy(), out.numpy())
        ctx.save_for_backward(alpha, behind)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from models.gaussians import compositing_kernels as kernels

        alpha, behind = ctx.saved_tensors
        v_alpha, v_behind = torch.empty_like(alpha), torch.empty_like(behind)
        outputs = (v_alpha.numpy(), v_behind.numpy())
        kernels.backward(alpha.numpy(), behind.numpy(), upstream.contiguous().numpy(), *outputs)
        return upstream, v_alpha, v_behind
