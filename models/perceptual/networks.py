"""The feature stacks of AlexNet, VGG-16 and SqueezeNet 1.1, and the files that they are loaded from.

Names and shapes of the parameters are those of torchvision's public checkpoints. A checkpoint is compared with them
key by key, its classifier included, and its features alone are kept: a tenth of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.checkpoints import check_shapes, load_strictly, read_state
from models.errors import InputError, UsageError

TORCHVISION = "torchvision"  # whose training LPIPS's weights of channels belong to


class Fire(nn.Module):
    """SqueezeNet's block (Iandola et al. 2016): few channels, then many seen through 1x1 and 3x3."""

    def __init__(self, inputs: int, few: int, many: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, few, 1)
        self.expand1x1 = nn.Conv2d(few, many, 1)
        self.expand3x3 = nn.Conv2d(few, many, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Take `[B, inputs, H, W]` to `[B, 2 many, H, W]`."""
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()


def _alexnet() -> nn.Sequential:
    """AlexNet in one column (Krizhevsky 2014)."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


def _vgg16() -> nn.Sequential:
    """VGG-16 (Simonyan and Zisserman 2015): 3x3 convolutions, halved in size before the width grows."""
    layers: list[nn.Module] = []
    inputs = 3
    for stage, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        layers += [nn.MaxPool2d(2, 2)] if stage else []
        for _ in range(count):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
    return nn.Sequential(*layers)


def _squeezenet() -> nn.Sequential:
    """SqueezeNet 1.1; its poolings reach over the border, as Caffe's do."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
    )


def _layers(**weights: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return shapes of weights and biases of the classifier's layers, given as `layer_1=(outputs, inputs, ...)`."""
    names = {f"classifier.{key.removeprefix('layer_')}": shape for key, shape in weights.items()}
    return {f"{name}.weight": shape for name, shape in names.items()} | {
        f"{name}.bias": shape[:1] for name, shape in names.items()
    }


@dataclass(frozen=True)
class Network:
    """A stack of layers and where LPIPS looks at it.

    Attributes:
        make: the layers, with random parameters.
        taps: after which layers.
        channels: that there are.
        smallest: side of a picture of which something is left after the last tap, pixels.
        classifier: shapes of the parameters of the official file that are not needed here.
    """

    make: Callable[[], nn.Sequential]
    taps: tuple[int, ...]
    channels: tuple[int, ...]
    smallest: int
    classifier: dict[str, tuple[int, ...]]


NETWORKS = {
    "alex": Network(
        _alexnet,
        (1, 4, 7, 9, 11),
        (64, 192, 384, 256, 256),
        31,
        _layers(layer_1=(4096, 9216), layer_4=(4096, 4096), layer_6=(1000, 4096)),
    ),
    "vgg": Network(
        _vgg16,
        (3, 8, 15, 22, 29),
        (64, 128, 256, 512, 512),
        16,
        _layers(layer_0=(4096, 25088), layer_3=(4096, 4096), layer_6=(1000, 4096)),
    ),
    "squeeze": Network(
        _squeezenet,
        (1, 4, 7, 9, 10, 11, 12),
        (64, 128, 256, 384, 384, 512, 512),
        17,
        _layers(layer_1=(1000, 512, 1, 1)),
    ),
}


def known_network(name: str) -> Network:
    """Return a network by its name in LPIPS.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in NETWORKS:
        raise UsageError(f"no network {name!r}", f"LPIPS knows {', '.join(NETWORKS)}")
    return NETWORKS[name]


def official_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all parameters of a network's official checkpoint by name."""
    network = known_network(name)
    with torch.device("meta"):
        features = network.make().state_dict()
    return {f"features.{key}": tuple(value.shape) for key, value in features.items()} | network.classifier


def convert(checkpoint: Path, output: Path) -> None:
    """Keep the features of one of torchvision's checkpoints as safetensors; which network it is shows in its names.

    Raises:
        InputError: it is none of the three, lacks a parameter or has one too many, or it would run code.
    """
    state = read_state(checkpoint)
    nearest = min(NETWORKS, key=lambda name: len(official_shapes(name).keys() ^ state.keys()))
    write(nearest, state, output, TORCHVISION, checkpoint.name)


def write(name: str, state: dict[str, Tensor], output: Path, origin: str, source: str) -> None:
    """Write the features of a whole network's parameters.

    Args:
        name: of the network in LPIPS.
        state: all its parameters, named as torchvision names them.
        output: the file to write.
        origin: whose training it was; only `TORCHVISION`'s goes with the official weights of channels.
        source: what an error calls the parameters.

    Raises:
        InputError: a parameter is missing, unknown or of another shape.
    """
    shapes = official_shapes(name)
    check_shapes(shapes, state, source, name)
    kept = {key.removeprefix("features."): state[key].float().contiguous() for key in shapes if "features." in key}
    save_file(kept, output, {"network": name, "origin": origin})


def load_features(name: str, path: Path) -> tuple[nn.Sequential, str]:
    """Return a network's layers from a file of `write`, frozen, and whose training it was.

    Raises:
        InputError: the file is damaged or another network's.
    """
    network = known_network(name)
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path.name} cannot be read", str(error), "fetch it again") from error
    if about.get("network") != name:
        raise InputError(
            f"{path.name} is not the network {name}", f"it says {about.get('network')!r}", "fetch it again"
        )
    layers = network.make()
    load_strictly(layers, state, path.name)
    return layers.eval().requires_grad_(False), about.get("origin", "")
