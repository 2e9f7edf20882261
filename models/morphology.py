"""Masks that grow and shrink, by square neighbourhoods."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import max_pool2d


def grow(mask: Tensor, reach: int) -> Tensor:
    """Return the largest value within `reach` pixels (a square) of a mask `[H, W]`; differentiable, float stays float.

    What lies beyond the border counts for nothing.
    """
    if reach <= 0:
        return mask
    values = mask if mask.is_floating_point() else mask.float()
    side = 2 * reach + 1
    # Down each column, then along each row: the same as the square, and far less work.
    columns = max_pool2d(values[None, None], (side, 1), 1, (reach, 0))
    grown = max_pool2d(columns, (1, side), 1, (0, reach))[0, 0]
    return grown if mask.is_floating_point() else grown.to(mask.dtype)


def shrink(mask: Tensor, reach: int) -> Tensor:
    """Return the smallest value within `reach` pixels of a mask `[H, W]`."""
    return 1 - grow(1 - mask, reach) if mask.is_floating_point() else ~grow(~mask, reach)


def close(mask: Tensor, reach: int = 1) -> Tensor:
    """Fill what is narrower than `2 * reach` in a mask `[H, W]`."""
    return shrink(grow(mask, reach), reach)
