"""CUDA graphs without CUDA: torch's own recording of callables, with graphs that note operations on the CPU.

A graph here is a tape. While it is recorded every operation runs and is noted with its tensors; to replay it is to do
all of them again on the same tensors, results going into the memory that they had. So a function that keeps a number
on the side of Python, reads what it should be given, or returns what the next call overwrites, fails as on a GPU.
"""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape:
    """Stands for `torch.cuda.CUDAGraph`."""

    replays = 0

    def __init__(self):
        self.steps = []

    def replay(self):
        Tape.replays += 1
        with torch._C._DisableTorchDispatch(), torch.no_grad():
            for function, inputs, options, results in self.steps:
                for old, new in zip(results, tensors_of(function(*inputs, **options)), strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class Recorder(TorchDispatchMode):
    """Stands for `torch.cuda.graph`."""

    def __init__(self, tape, pool=None):
        super().__init__()
        self.tape = tape

    def __torch_dispatch__(self, function, types, inputs=(), options=None):
        results = function(*inputs, **(options or {}))
        kept = tensors_of(results)
        self.tape.steps.append((function, inputs, options or {}, kept))
        return results


def tensors_of(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def install(monkeypatch):
    """Let `torch.cuda.make_graphed_callables` work on the CPU, and every `Replay` use it."""
    from models import replay

    monkeypatch.setattr(Tape, "replays", 0)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)
    monkeypatch.setattr(torch.cuda, "graph", Recorder)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda.graphs, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(replay, "recorded", lambda _: True)
    use_cuda_paths(monkeypatch)


def use_cuda_paths(monkeypatch):
    """Compute as on CUDA, in torch alone: kernels of Numba are no operations of torch."""
    from models import encoders, perceptron, ssim
    from models.methods import talking_gaussian_networks as networks

    for module in (perceptron, networks):
        monkeypatch.setattr(module, "perceive", perceptron.perceive_together)
    for module in (encoders.hashgrid, ssim):
        monkeypatch.setattr(module, "choose_backend", lambda *_: "reference")
