"""On CUDA: functions whose kernels are recorded once and then repeated together.

A step of training issues hundreds of small kernels, and Python takes longer to issue them than a GPU to compute them. A
CUDA graph issues all kernels of a function in one call. What is recorded is bound to shapes, so points, whose number
changes when Gaussians come and go, are padded to a power of two.

Recording happens only where $GAUSSTALK_REPLAY is 1 and the tensors are on CUDA; else functions are just called.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

LEAST_ROWS = 1024
"""Points are padded to at least as many, so that no axis of features is mistaken for theirs."""
MOST = 12
"""Recordings of one function; what would need more is called."""

R = TypeVar("R")


def recorded(tensor: Tensor) -> bool:
    """Return whether functions of such a tensor are to be recorded."""
    return tensor.is_cuda and os.environ.get("GAUSSTALK_REPLAY") == "1"


class Replay(Generic[R]):
    """A function of tensors that is recorded, once for each of its inputs' shapes, where recording pays.

    The function issues the same kernels whatever its tensors hold, copies nothing from the CPU, returns none of its
    inputs, and has gradients with respect to its inputs and to the parameters of its modules alone. Inputs are
    positional: tensors, or constants that can be hashed.
    """

    def __init__(self, function: Callable[..., R], *modules: nn.Module, rows: int = 0) -> None:
        """Prepare.

        Args:
            function: returns tensors, and constants between them, in tuples.
            modules: whose parameters it uses.
            rows: that many of its first inputs have one row a point, `[N, ...]`, as one axis of every output has; what
                happens to one point must not depend on the others.
        """
        self.function, self.modules, self.rows = function, modules, rows
        self.recordings: dict[Any, list[_Recording]] = {}

    def __call__(self, *inputs: Any) -> R:
        """Do what the function does. Outputs live until the next call after their backward."""
        if not recorded(next(part for part in inputs if isinstance(part, Tensor))):
            return self.function(*inputs)
        count = len(inputs[0]) if self.rows else 0
        room = max(LEAST_ROWS, 1 << (count - 1).bit_length()) if self.rows else 0
        padded = [_pad(part, room) if index < self.rows else part for index, part in enumerate(inputs)]
        recording = self._free(padded)
        if recording is None:
            return self.function(*inputs)
        outputs = recording(padded)
        return tree_map(lambda part: _cut(part, room, count), outputs) if self.rows else outputs

    def _free(self, inputs: list[Any]) -> _Recording | None:
        """Return a recording for such inputs whose last outputs wait for no backward."""
        key = (torch.is_grad_enabled(), *(_kind(part) for part in inputs))
        found = self.recordings.setdefault(key, [])
        for recording in found:
            if not recording.waits:
                return recording
        if sum(map(len, self.recordings.values())) >= MOST:
            return None
        found.append(_Recording(self.function, self.modules, inputs))
        return found[-1]


class _Recording:
    """Kernels of a function, of its backward too, for inputs of certain shapes."""

    def __init__(self, function: Callable[..., Any], modules: tuple[nn.Module, ...], inputs: list[Any]) -> None:
        call = _Call(function, modules, inputs)
        sample = tuple(_twin(part) for part in inputs if isinstance(part, Tensor))
        self.repeat: Callable[..., Any] = torch.cuda.make_graphed_callables(call, sample, allow_unused_input=True)
        self.rebuild = call.rebuild
        self.waits = False  # for the backward of its outputs, which lie where the next ones will

    def __call__(self, inputs: list[Any]) -> Any:
        outputs = self.repeat(*(part for part in inputs if isinstance(part, Tensor)))
        node = outputs[0].grad_fn
        if node is None:
            return self.rebuild(tuple(part.clone() for part in outputs))
        self.waits = True
        node.register_hook(self._done)
        return self.rebuild(outputs)

    def _done(self, *_: Any) -> None:
        self.waits = False


class _Call(nn.Module):
    """A function as what torch records: of tensors only, to a tuple of tensors, with the parameters it uses."""

    def __init__(self, function: Callable[..., Any], modules: tuple[nn.Module, ...], inputs: list[Any]) -> None:
        super().__init__()
        self.function, self.used = function, nn.ModuleList(modules)
        self.inputs = [None if isinstance(part, Tensor) else part for part in inputs]
        self.places = [index for index, part in enumerate(inputs) if isinstance(part, Tensor)]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = list(self.inputs)
        for place, tensor in zip(self.places, tensors, strict=True):
            inputs[place] = tensor
        outputs, self.form = tree_flatten(self.function(*inputs))
        self.outputs = [Tensor if isinstance(part, Tensor) else part for part in outputs]
        return tuple(part for part in outputs if isinstance(part, Tensor))

    def rebuild(self, tensors: tuple[Tensor, ...]) -> Any:
        """Return the outputs as the function does."""
        left = iter(tensors)
        return tree_unflatten([next(left) if part is Tensor else part for part in self.outputs], self.form)


def _kind(part: Any) -> Any:
    return (part.shape, part.dtype, part.requires_grad) if isinstance(part, Tensor) else part


def _twin(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _pad(part: Any, room: int) -> Any:
    """Append rows of zeros."""
    missing = room - len(part)
    return nn.functional.pad(part, (0, 0) * (part.ndim - 1) + (0, missing)) if missing else part


def _cut(part: Any, room: int, count: int) -> Any:
    """Take the padding off the axis of points."""
    return part.narrow(part.shape.index(room), 0, count) if isinstance(part, Tensor) else part
