"""What computes: the CPU, or a CUDA device where there is one."""

from __future__ import annotations

import logging
import os

from models.errors import MachineError, UsageError

log = logging.getLogger("gausstalk")
VARIABLE = "GAUSSTALK_DEVICE"


def choose_device(wanted: str) -> str:
    """Return "cpu" or the name of a CUDA device.

    Args:
        wanted: "cpu", "cuda" or one such as "cuda:1", or "auto" for CUDA where heads can be drawn on it.

    Raises:
        MachineError: CUDA is wanted and cannot be used.
        UsageError: there is no such device.
    """
    if wanted == "cpu":
        return wanted
    if wanted != "auto" and not wanted.startswith("cuda"):
        raise UsageError(f"unknown device {wanted!r}", f"--device and ${VARIABLE} name it", "choose auto, cpu or cuda")
    here, missing = look_for_cuda()
    if wanted == "auto":
        if here and missing:
            log.warning("a CUDA device is here, but the CPU computes: %s", missing)
        return "cpu" if missing else "cuda"
    if missing:
        what = "heads cannot be drawn on the CUDA device" if here else "no CUDA device here"
        raise MachineError(what, missing, f"--device cpu, or {VARIABLE}=cpu")
    return wanted


def stage_device() -> str:
    """Return what a stage computes on: what $GAUSSTALK_DEVICE says, or else `auto`."""
    return choose_device(os.environ.get(VARIABLE) or "auto")


def look_for_cuda() -> tuple[bool, str]:
    """Return whether there is a CUDA device, and what keeps heads from being drawn on it."""
    import torch

    from models.gaussians.rasterize.gsplat import package

    if not torch.cuda.is_available():
        return False, "torch sees none"
    try:
        package()
    except RuntimeError as error:
        return True, str(error)
    return True, ""
