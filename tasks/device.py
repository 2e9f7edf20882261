"""What computes: the CPU, or a CUDA device where there is one."""

from __future__ import annotations

import importlib.util

from models.errors import MachineError


def choose_device(wanted: str) -> str:
    """Return "cpu" or "cuda".

    Args:
        wanted: "cpu", "cuda", or "auto" for CUDA where there is a device.

    Raises:
        MachineError: CUDA is wanted and torch sees no device, or gsplat is not installed.
    """
    import torch

    drawable = importlib.util.find_spec("gsplat") is not None
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() and drawable else "cpu"
    if wanted == "cuda":
        if not torch.cuda.is_available():
            raise MachineError("no CUDA device here", "torch sees none", "--device cpu")
        if not drawable:
            raise MachineError("the rasteriser on CUDA is gsplat", "it is not installed", "pip install -e .[cuda]")
    return wanted
