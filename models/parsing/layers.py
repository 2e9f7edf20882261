"""Pieces that both segmentation networks are built of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ConvolutionUnit(nn.Module):
    """A convolution that keeps the size (at stride 1), a normalisation and a ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, inputs, H, W]` to `[N, outputs, H, W]`."""
        return self.relu(self.bn(self.conv(x)))


class Residual(nn.Module):
    """A residual block (He et al. 2015) of convolutions of the given widths and kernels; the one at `strided` strides.

    The attributes conv1, bn1, conv2, ... and downsample are named as in the checkpoints.
    """

    def __init__(
        self, inputs: int, widths: Sequence[int], kernels: Sequence[int], stride: int = 1, strided: int = 0
    ) -> None:
        super().__init__()
        self.depth = len(widths)
        before = inputs
        for index, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
            step = stride if index == strided else 1
            layer = nn.Conv2d(before, width, kernel, stride=step, padding=kernel // 2, bias=False)
            setattr(self, f"conv{index + 1}", layer)
            setattr(self, f"bn{index + 1}", nn.BatchNorm2d(width))
            before = width
        self.relu = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != before:
            shortcut = nn.Conv2d(inputs, before, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(before))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, inputs, H, W]` to `[N, widths[-1], H / stride, W / stride]`."""
        y = x
        for index in range(1, self.depth + 1):
            y = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(y))
            if index < self.depth:
                y = self.relu(y)
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(y + shortcut)


class Normalised(nn.Module):
    """A network behind the normalisation of its input: frames come as RGB in 0..255."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(1, 3, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames `[N, 3, H, W]` in 0..255 to scores `[N, classes, H, W]`."""
        return self.network((frames - self.mean) / self.deviation)
