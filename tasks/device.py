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
            log.warning("the CPU computes, though a CUDA device is here: %s; %s", missing.what, missing.fix)
        return "cpu" if missing else "cuda"
    if missing:
        raise MachineError(missing.what, missing.why, f"{missing.fix}; or --device cpu, {VARIABLE}=cpu")
    return wanted


def stage_device() -> str:
    """Return what a stage computes on: what $GAUSSTALK_DEVICE says, or else `auto`."""
    return choose_device(os.environ.get(VARIABLE) or "auto")


def asked_device(wanted: str | None) -> str:
    """Return what a command computes on that was told `wanted`, or nothing: then on what a stage does."""
    return stage_device() if wanted is None else choose_device(wanted)


def look_for_cuda() -> tuple[bool, MachineError | None]:
    """Return whether there is a CUDA device, and what keeps heads from being drawn on it."""
    import torch

    from models.gaussians.rasterize.gsplat import package

    try:
        package()
    except MachineError as error:
        return torch.cuda.is_available(), error
    return True, None
