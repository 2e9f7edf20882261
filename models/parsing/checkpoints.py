"""Turns official checkpoints of the parsing networks into the ONNX files that `models.parsing.networks` runs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from models.checkpoints import load_strictly, read_state
from models.errors import MissingAssetError
from models.parsing.layers import Normalised

OPERATOR_SET = 17  # of ONNX; onnxruntime has known it since 2022


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
