"""Official checkpoints of the parsing networks: read without running what is in them, then loaded key by key."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import InputError, MissingAssetError
from models.parsing.layers import Normalised

OPERATOR_SET = 17  # of ONNX; onnxruntime has known it since 2022

# mmcv notes the best score of the training as a NumPy number; NumPy 2 has moved what makes one.
_SCALAR = np.float64(0).__reduce__()[0]
_NUMBERS = [
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
]


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the parameters of a checkpoint by name: a bare state dict, or one under "state_dict" (mmcv).

    Only tensors, plain containers and NumPy numbers are read; a file that would call anything else is refused.

    Raises:
        InputError: the file is damaged, is no checkpoint or would run code.
    """
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (torch.serialization.pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{path.name} cannot be read as a checkpoint", reason[0], "get the file again from its official source"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path.name} has no parameters in it", "a mapping from names to tensors was expected")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load parameters into a network; names and shapes must be exactly its own.

    Args:
        network: to be filled.
        state: parameters by name.
        source: what the error calls them.

    Raises:
        InputError: a name is missing, unknown, or of another shape.
    """
    own = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    wrong = [f"lacks {name}" for name in own.keys() - given.keys()]
    wrong += [f"has {name}, unknown here" for name in given.keys() - own.keys()]
    wrong += [
        f"{name} is {given[name]}, not {own[name]}" for name in own.keys() & given.keys() if given[name] != own[name]
    ]
    if wrong:
        shown = "; ".join(sorted(wrong)[:3])
        raise InputError(
            f"{source} is not the checkpoint of {type(network).__name__}",
            f"{len(wrong)} differences: {shown}" + ("; ..." if len(wrong) > 3 else ""),
            "use the official file",
        )
    network.load_state_dict(dict(state), strict=True)


class _Labelling(nn.Module):
    """What the file holds: RGB of 0..255 goes in; scores, and the label where the score is largest, come out."""

    def __init__(self, network: nn.Module, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.network = Normalised(network, mean, deviation)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.network(frames)
        return scores, scores.argmax(1).to(torch.uint8)


def convert(
    network: nn.Module,
    checkpoint: Path,
    onnx: Path,
    normalisation: tuple[Sequence[float], Sequence[float]],
    model: str,
) -> None:
    """Convert a checkpoint to the ONNX file that `models.parsing.networks` runs; it appears whole or not at all.

    The file's input "frames" is float32 `[N, 3, H, W]`; its outputs are "scores", float32 `[N, classes, H, W]`, and
    "labels", uint8 `[N, H, W]`. N, H and W are free as far as the network allows.

    Args:
        network: to be filled.
        checkpoint: the official file.
        onnx: what is written.
        normalisation: mean and deviation of the frames' channels, of 0..255.
        model: name that the file keeps.

    Raises:
        InputError: it is not the official checkpoint, or it would run code.
        MissingAssetError: the package onnx is not installed.
    """
    try:
        from onnx import helper, load, save
    except ImportError as error:
        raise MissingAssetError(
            f"converting {checkpoint.name} needs the package onnx",
            "it is installed only where checkpoints are converted",
            "pip install 'gausstalk[convert]', in this project: pip install -e '.[convert]' -c constraints.txt",
        ) from error

    load_strictly(network, read_state(checkpoint), checkpoint.name)
    part = onnx.with_name(onnx.name + ".part")
    free = {0: "N", 2: "H", 3: "W"}
    with warnings.catch_warnings():
        # torch's newer exporter takes ten times as long and writes this machine's paths into the file.
        warnings.filterwarnings("ignore", "You are using the legacy", DeprecationWarning)
        torch.onnx.export(
            _Labelling(network, *normalisation).eval(),
            (torch.zeros(1, 3, 128, 128),),
            part,
            input_names=["frames"],
            output_names=["scores", "labels"],
            dynamic_axes={"frames": free, "scores": free, "labels": {0: "N", 1: "H", 2: "W"}},
            opset_version=OPERATOR_SET,
            dynamo=False,
        )
    written = load(part)
    helper.set_model_props(written, {"model": model})
    save(written, part)
    os.replace(part, onnx)
