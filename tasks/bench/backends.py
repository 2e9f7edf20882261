"""Runs the method's own code on named backends: the names it calls are bound to them for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from models import losses
from models.methods import talking_gaussian, talking_gaussian_networks

PLACES: dict[str, Any] = {
    "rasterize": talking_gaussian,
    "encode": talking_gaussian_networks,
    "evaluate_sh": talking_gaussian,
    "ssim": losses,
}
"""The functions that have backends, and the modules of the method that call them."""

FAST = {
    "cpu": {"rasterize": "cpu", "encode": "cpu", "evaluate_sh": "cpu", "ssim": "cpu"},
    # The method's grids are laid out for torch-ngp, which tiny-cuda-nn cannot draw on; see models/encoders/hashgrid.
    "cuda": {"rasterize": "gsplat", "encode": "reference", "evaluate_sh": "reference", "ssim": "reference"},
}
REFERENCE = dict.fromkeys(PLACES, "reference")

Wrap = Callable[[str, Callable[..., Any]], Callable[..., Any]]


@contextmanager
def using(backends: dict[str, str], wrap: Wrap = lambda _, function: function) -> Iterator[None]:
    """Let the method use these backends.

    Args:
        backends: function name to backend.
        wrap: puts something around each function, for example a clock.
    """
    before = {name: getattr(module, name) for name, module in PLACES.items()}
    try:
        for name, module in PLACES.items():
            setattr(module, name, wrap(name, partial(before[name], backend=backends[name])))
        yield
    finally:
        for name, module in PLACES.items():
            setattr(module, name, before[name])


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch's own operations use `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
