"""A feature pyramid on a ResNet-50 for the 8 face parsing classes of EasyPortrait, from which the papers take teeth.

Names and shapes of the parameters are those of the public checkpoint fpn-fp-512.pth, which mmsegmentation 0.30 wrote:
an EncoderDecoder of ResNetV1c, FPN and FPNHead.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from models.parsing import checkpoints
from models.parsing import labels as L
from models.parsing.layers import ConvolutionUnit, Residual

MODEL = "fpn-resnet50 easyportrait"
MEAN = (143.55267075, 132.96705975, 126.94924335)
DEVIATION = (60.2625333, 60.32740275, 59.30988645)

CLASSES: tuple[tuple[str, int], ...] = (
    ("background", L.BACKGROUND),
    ("skin", L.SKIN),
    ("left brow", L.BROWS),
    ("right brow", L.BROWS),
    ("left eye", L.EYES),
    ("right eye", L.EYES),
    ("lips", L.LIPS),
    ("teeth", L.TEETH),
)
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # width of the bottleneck and number of blocks


class _Backbone(nn.Module):
    """ResNet-50 whose stem is three small convolutions; gives the features at 1/4, 1/8, 1/16 and 1/32."""

    def __init__(self) -> None:
        super().__init__()
        stem: list[nn.Module] = []
        for inputs, outputs, stride in ((3, 32, 2), (32, 32, 1), (32, 64, 1)):
            stem += [nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs)]
            stem.append(nn.ReLU())
        self.stem = nn.Sequential(*stem)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        layers: list[nn.Sequential] = []
        before = 64
        for index, (width, count) in enumerate(STAGES):
            blocks: list[nn.Module] = []
            for number in range(count):
                # The 3x3 convolution strides ("pytorch" style), not the first.
                stride = 2 if index and number == 0 else 1
                blocks.append(Residual(before, (width, width, 4 * width), (1, 3, 1), stride, strided=1))
                before = 4 * width
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        quarter = self.layer1(self.maxpool(self.stem(x)))
        eighth = self.layer2(quarter)
        sixteenth = self.layer3(eighth)
        return quarter, eighth, sixteenth, self.layer4(sixteenth)


class _Plain(nn.Module):
    """A convolution with a bias under the name `conv`."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Pyramid(nn.Module):
    """A feature pyramid (Lin et al. 2017): coarse features are added to finer ones on the way back up."""

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(_Plain(4 * width, channels, 1) for width, _ in STAGES)
        self.fpn_convs = nn.ModuleList(_Plain(channels, channels, 3) for _ in STAGES)
        self.twice = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, features: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        quarter, eighth, sixteenth, coarsest = (self.lateral_convs[i](features[i]) for i in range(4))
        sixteenth = sixteenth + self.twice(coarsest)
        eighth = eighth + self.twice(sixteenth)
        quarter = quarter + self.twice(eighth)
        joined = (quarter, eighth, sixteenth, coarsest)
        first, second, third, fourth = (self.fpn_convs[i](joined[i]) for i in range(4))
        return first, second, third, fourth


class _Head(nn.Module):
    """Brings all levels to 1/4, adds them and scores the classes (panoptic FPN, Kirillov et al. 2019)."""

    def __init__(self, classes: int, inputs: int = 256, channels: int = 128) -> None:
        super().__init__()
        levels: list[nn.Module] = [nn.Sequential(ConvolutionUnit(inputs, channels))]
        for doublings in (1, 2, 3):
            steps: list[nn.Module] = []
            for number in range(doublings):
                steps.append(ConvolutionUnit(inputs if number == 0 else channels, channels))
                steps.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            levels.append(nn.Sequential(*steps))
        self.scale_heads = nn.ModuleList(levels)
        self.conv_seg = nn.Conv2d(channels, classes, 1)

    def forward(self, pyramid: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        total = self.scale_heads[0](pyramid[0])
        for level in (1, 2, 3):
            total = total + self.scale_heads[level](pyramid[level])
        return self.conv_seg(total)


class EasyPortraitFPN(nn.Module):
    """The network; the sides of its input are multiples of 32."""

    def __init__(self, classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.backbone = _Backbone()
        self.neck = _Pyramid()
        self.decode_head = _Head(classes)
        self.enlarge = nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised frames `[N, 3, H, W]` to scores `[N, classes, H, W]`."""
        return self.enlarge(self.decode_head(self.neck(self.backbone(x))))


def convert(checkpoint: Path, onnx: Path) -> None:
    """Convert the official checkpoint; see `models.parsing.checkpoints.convert`."""
    checkpoints.convert(EasyPortraitFPN(), checkpoint, onnx, (MEAN, DEVIATION), MODEL)
