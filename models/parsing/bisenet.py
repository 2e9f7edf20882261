"""BiSeNet with a ResNet-18 (Yu et al. 2018) for the 19 classes of CelebAMask-HQ, as the papers parse faces.

Names and shapes of the parameters are those of the public checkpoint 79999_iter.pth of zllrunning/face-parsing.PyTorch.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from models.parsing import checkpoints
from models.parsing import labels as L
from models.parsing.layers import ConvolutionUnit, Residual

MODEL = "bisenet-resnet18 celebamask-hq"
SIZE = 512  # frames are resized to it, as in training
MEAN = tuple(255 * value for value in (0.485, 0.456, 0.406))  # of ImageNet
DEVIATION = tuple(255 * value for value in (0.229, 0.224, 0.225))

# The official class, and what it is here. The papers count a necklace to the neck, an earring and a hat to the head.
CLASSES: tuple[tuple[str, int], ...] = (
    ("background", L.BACKGROUND),
    ("skin", L.SKIN),
    ("left brow", L.BROWS),
    ("right brow", L.BROWS),
    ("left eye", L.EYES),
    ("right eye", L.EYES),
    ("glasses", L.GLASSES),
    ("left ear", L.SKIN),
    ("right ear", L.SKIN),
    ("earring", L.OTHER),
    ("nose", L.SKIN),
    ("mouth", L.MOUTH),
    ("upper lip", L.LIPS),
    ("lower lip", L.LIPS),
    ("neck", L.NECK),
    ("necklace", L.NECK),
    ("cloth", L.CLOTH),
    ("hair", L.HAIR),
    ("hat", L.OTHER),
)


class _Backbone(nn.Module):
    """ResNet-18 without its classifier; gives the features at 1/8, 1/16 and 1/32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        layers: list[nn.Sequential] = []
        before = 64
        for index, width in enumerate((64, 128, 256, 512)):
            first = Residual(before, (width, width), (3, 3), stride=1 if index == 0 else 2)
            layers.append(nn.Sequential(first, Residual(width, (width, width), (3, 3))))
            before = width
        self.layer1, self.layer2, self.layer3, self.layer4 = layers

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        eighth = self.layer2(x)
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class _AttentionRefinement(nn.Module):
    """Weighs features by a gate that sees their mean over the picture."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ConvolutionUnit(inputs, outputs)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.sigmoid(self.bn_atten(self.conv_atten(self.mean(x))))


class _ContextPath(nn.Module):
    """The backbone and the way back up from 1/32 to 1/8."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = _Backbone()
        self.arm16 = _AttentionRefinement(256, 128)
        self.arm32 = _AttentionRefinement(512, 128)
        self.conv_head32 = ConvolutionUnit(128, 128)
        self.conv_head16 = ConvolutionUnit(128, 128)
        self.conv_avg = ConvolutionUnit(512, 128, kernel=1)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.twice = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the backbone's features and the context, both at 1/8."""
        eighth, sixteenth, coarsest = self.resnet(x)
        # The mean is one pixel; adding it spreads it over the picture.
        context = self.arm32(coarsest) + self.conv_avg(self.mean(coarsest))
        context = self.arm16(sixteenth) + self.conv_head32(self.twice(context))
        return eighth, self.conv_head16(self.twice(context))


class _FeatureFusion(nn.Module):
    """Joins detail and context, and adds them once more where a gate says so."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convblk = ConvolutionUnit(inputs, outputs, kernel=1)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.conv1 = nn.Conv2d(outputs, outputs // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs // 4, outputs, 1, bias=False)
        self.relu = nn.ReLU()
        self.sigmoid = nn.Sigmoid()

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        x = self.convblk(torch.cat([detail, context], dim=1))
        return x + x * self.sigmoid(self.conv2(self.relu(self.conv1(self.mean(x)))))


class _Output(nn.Module):
    """Scores of the classes from features."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.conv = ConvolutionUnit(inputs, width)
        self.conv_out = nn.Conv2d(width, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """The network; the sides of its input are multiples of 32.

    conv_out16 and conv_out32 guide the training only. They are here because the checkpoint has them.
    """

    def __init__(self, classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.cp = _ContextPath()
        self.ffm = _FeatureFusion(256, 256)
        self.conv_out = _Output(256, 256, classes)
        self.conv_out16 = _Output(128, 64, classes)
        self.conv_out32 = _Output(128, 64, classes)
        self.enlarge = nn.Upsample(scale_factor=8, mode="bilinear", align_corners=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised frames `[N, 3, H, W]` to scores `[N, classes, H, W]`."""
        detail, context = self.cp(x)
        return self.enlarge(self.conv_out(self.ffm(detail, context)))


def convert(checkpoint: Path, onnx: Path) -> None:
    """Convert the official checkpoint; see `models.parsing.checkpoints.convert`."""
    checkpoints.convert(BiSeNet(), checkpoint, onnx, (MEAN, DEVIATION), MODEL)
