"""SSIM in plain torch: any device, float64-capable, the specification of the kernels."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from models.ssim import C1, C2, RADIUS, window


@lru_cache(maxsize=8)
def _window(dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # it may be first asked for while nothing is learnt, and then in training
        return window(dtype).to(device)  # copied there once, not in every step


def _blur(planes: Tensor) -> Tensor:
    """Window mean of `[P, H, W]`, zero beyond the border."""
    weights, count = _window(planes.dtype, planes.device), len(planes)
    # Depth-wise: on a CPU, planes as a batch of one channel each take torch twenty times as long.
    along, down = (
        weights.view(1, 1, 1, -1).expand(count, -1, -1, -1),
        weights.view(1, 1, -1, 1).expand(count, -1, -1, -1),
    )
    planes = F.conv2d(planes[None], along, padding=(0, RADIUS), groups=count)
    return F.conv2d(planes, down, padding=(RADIUS, 0), groups=count)[0]


def ssim_map(image: Tensor, target: Tensor) -> Tensor:
    """SSIM of `[B, H, W, C]` images at every pixel; see `models.ssim.ssim_map`."""
    batch, height, width, channels = image.shape
    x, y = (side.permute(0, 3, 1, 2).reshape(-1, height, width) for side in (image, target))
    mean_x, mean_y, square_x, square_y, product = _blur(torch.cat((x, y, x * x, y * y, x * y))).chunk(5)
    var_x, var_y = square_x - mean_x * mean_x, square_y - mean_y * mean_y
    covariance = product - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x * mean_x + mean_y * mean_y + C1)
    structure = (2 * covariance + C2) / (var_x + var_y + C2)
    return (luminance * structure).reshape(batch, channels, height, width).permute(0, 2, 3, 1)
