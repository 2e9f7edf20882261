"""SqueezeNet 1.1 as its authors trained it in Caffe, from the OpenVINO files into which others have converted it.

It is not torchvision's training of the same architecture: its channels are others, so LPIPS's weights do not go with
it, and a distance in its features is a distance of its own.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from models.errors import InputError
from models.perceptual.lpips import SCALE, SHIFT
from models.perceptual.networks import write

CAFFE_MEAN = (123.0, 117.0, 104.0)  # of red, green and blue of 0..255, which its authors subtract
FIRE = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}  # the number of a block, and its place in `features`
PARTS = {"squeeze1x1": "squeeze", "expand1x1": "expand1x1", "expand3x3": "expand3x3"}


def convert(folder: Path, output: Path) -> None:
    """Write the features as `models.perceptual.networks` reads them.

    Args:
        folder: has one .xml, which names the layers, and one .bin with their numbers as float16.
        output: the file to write.

    Raises:
        InputError: the files are damaged or describe something else.
    """
    description, numbers = (next(folder.glob(pattern), folder / pattern) for pattern in ("*.xml", "*.bin"))
    state = {
        name: value for layer, values in read_layers(description, numbers) for name, value in _named(layer, values)
    }
    if "features.0.weight" not in state:
        raise InputError(f"{description.name} describes no SqueezeNet", f"its layers are {', '.join(list(state)[:3])}")
    take_in_colours(state)
    write("squeeze", state, output, "its authors in Caffe", description.name)


def read_layers(description: Path, numbers: Path) -> list[tuple[str, dict[str, Tensor]]]:
    """Return name and parameters ("weight", "bias") of every convolution of an OpenVINO network of version 6.

    Raises:
        InputError: the description is damaged, or the numbers are fewer than it says.
    """
    try:
        blob = numbers.read_bytes()
        layers = ElementTree.parse(description).getroot().iter("layer")  # noqa: S314 - runs in a confined process
        found = []
        for layer in layers:
            if layer.get("type") != "Convolution":
                continue
            data, port, blobs = (_child(layer, part) for part in ("data", "input/port", "blobs"))
            outputs, inputs = int(data.attrib["output"]), int(port.findall("dim")[1].text or 0)
            kernel = tuple(int(side) for side in data.attrib["kernel"].split(","))
            shapes = {"weight": (outputs, inputs, *kernel), "bias": (outputs,)}
            values = {}
            for (name, shape), tag in zip(shapes.items(), ("weights", "biases"), strict=True):
                place, count = _child(blobs, tag), int(np.prod(shape))
                if int(place.attrib["size"]) != 2 * count:
                    raise InputError(f"{description.name}: {tag} of {layer.get('name')} are not float16 of {shape}")
                values[name] = torch.from_numpy(
                    np.frombuffer(blob, "<f2", count, int(place.attrib["offset"])).astype(np.float32).reshape(shape)
                )
            found.append((str(layer.get("name")), values))
    except (OSError, ElementTree.ParseError, KeyError, IndexError, ValueError) as error:
        raise InputError(
            f"{description.name} and {numbers.name} cannot be read",
            f"{type(error).__name__}: {error}",
            "get both again",
        ) from error
    return found


def _child(element: ElementTree.Element, path: str) -> ElementTree.Element:
    found = element.find(path)
    if found is None:
        raise KeyError(path)
    return found


def _named(layer: str, values: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    """Return a layer's parameters under the names that torchvision gives them."""
    block = re.fullmatch(r"fire(\d)/(\w+)", layer)
    if layer == "conv1":
        place = "features.0"
    elif layer == "conv10":
        place = "classifier.1"
    elif block and int(block[1]) in FIRE and block[2] in PARTS:
        place = f"features.{FIRE[int(block[1])]}.{PARTS[block[2]]}"
    else:
        place = layer
    return [(f"{place}.{name}", value) for name, value in values.items()]


def take_in_colours(state: dict[str, Tensor]) -> None:
    """Change the first convolution so that it takes RGB scaled as LPIPS does instead of BGR of 0..255 less its mean.

    It sees no border, so the two are exactly the same.
    """
    scale, shift, mean = (torch.tensor(values) for values in (SCALE, SHIFT, CAFFE_MEAN))
    weight = state["features.0.weight"].flip(1)
    # v = 127.5 (scale z + shift + 1) - mean, for z that comes in
    state["features.0.bias"] = state["features.0.bias"] + (
        weight * (127.5 * (shift + 1) - mean)[None, :, None, None]
    ).sum((1, 2, 3))
    state["features.0.weight"] = weight * (127.5 * scale)[None, :, None, None]
