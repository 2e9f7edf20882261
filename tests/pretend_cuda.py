"""A CUDA device without CUDA: tensors that lie on the CPU and behave as if they did not.

Everything is computed on the CPU, but a tensor that has been made on "cuda" or moved there says so, refuses to become
an array, and refuses to be computed with one of the CPU. So code that forgets to move something fails as on a GPU. What
a GPU computes with kernels of its own (gsplat) is computed by the references here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")


class OnCuda(Tensor):
    """A tensor of the pretended device."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # the mode sees all


class PretendCuda(TorchFunctionMode):
    """While it is on there is a CUDA device."""

    def __torch_function__(self, function, types, inputs=(), options=None):
        options = dict(options or {})
        name = getattr(function, "__name__", "")
        tensors = [leaf for leaf in tree_leaves((inputs, options)) if isinstance(leaf, Tensor)]
        ours = [isinstance(tensor, OnCuda) for tensor in tensors]
        if function == Tensor.device.__get__:
            return CUDA if ours[0] else CPU
        if function == Tensor.is_cuda.__get__:
            return ours[0]
        if name in ("numpy", "__array__") and ours[0]:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name in ("cpu", "cuda", "to") and tensors and function is getattr(Tensor, name, None):
            return self._move(function, name, inputs, options)
        target, options["device"] = options.get("device"), "cpu"
        if target is None:
            del options["device"]
        elif on_cuda(target) and isinstance(options.get("generator"), torch.Generator):
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        self._check(function, name, inputs, options)
        result = function(*inputs, **options)
        there = on_cuda(target) if target is not None else any(ours)
        known = {id(tensor) for tensor in tensors}
        return tree_map(lambda leaf: placed(leaf, there, known), result) if there else result

    def _move(self, function, name, inputs, options):
        tensor, *others = inputs
        targets = [option for option in (*others, *options.values()) if isinstance(option, str | torch.device | Tensor)]
        there = isinstance(tensor, OnCuda)
        if name == "to" and targets:
            there = isinstance(targets[0], OnCuda) or (not isinstance(targets[0], Tensor) and on_cuda(targets[0]))
        elif name != "to":
            there = name == "cuda"
        if name == "to":
            others = ["cpu" if isinstance(other, str | torch.device) else other for other in others]
            options = {key: "cpu" if key == "device" else value for key, value in options.items()}
            changed = function(tensor, *others, **options)
        else:
            changed = tensor
        if there == isinstance(tensor, OnCuda):
            return placed(changed, there, {id(tensor)}) if there else changed
        with torch._C.DisableTorchFunction():
            return (changed.clone() if changed is tensor else changed).as_subclass(OnCuda if there else Tensor)

    def _check(self, function, name, inputs, options):
        """Refuse to compute with tensors of two devices; a number may come from the CPU, and so may indices."""
        if torch._C._current_graph_task_id() != -1 or name in ALLOWED:
            return  # the gradients that torch hands to Python have no class
        leaves = [leaf for leaf in tree_leaves((inputs, options)) if isinstance(leaf, Tensor)]
        if name in ("__getitem__", "__setitem__") and isinstance(leaves[0], OnCuda):
            return
        large = [leaf for leaf in leaves if leaf.ndim or name in ("stack", "cat")]
        if len({isinstance(leaf, OnCuda) for leaf in large}) == 2:
            raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got cuda:0 and cpu")


ALLOWED = (
    "copy_",
    "__set__",
    "__get__",
    "backward",
    "grad",
    "apply",
    "register_hook",
    "retain_grad",
    "_has_compatible_shallow_copy_type",
)


def on_cuda(device):
    return torch.device(device).type == "cuda" if isinstance(device, str | torch.device) else False


def placed(leaf, there, known):
    """Mark what a function has returned, unless it was there before."""
    if not isinstance(leaf, Tensor) or isinstance(leaf, OnCuda) or id(leaf) in known or leaf.is_sparse:
        return leaf
    with torch._C.DisableTorchFunction():
        if leaf.requires_grad and leaf.is_leaf:
            return leaf.detach().as_subclass(OnCuda).requires_grad_()
        return leaf.as_subclass(OnCuda)


def unseen(function):
    """Let a function work as on the CPU: sparse tensors have no class of ours."""

    def call(*inputs):
        with torch._C.DisableTorchFunction():
            return function(*inputs)

    return call


def install(monkeypatch):
    """Let $GAUSSTALK_DEVICE=cuda find a device, and drawing do without gsplat; return the mode to train in."""
    from models.gaussians import rasterize, spherical_harmonics
    from tasks import device

    monkeypatch.setenv("GAUSSTALK_DEVICE", "cuda")
    monkeypatch.setattr(device, "look_for_cuda", lambda: (True, None))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (1 << 34, 1 << 34))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda *_: 0)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    # Optimisers ask whether its steps are being recorded, which a torch that is built for CUDA needs a driver for.
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_, **__: None)
    monkeypatch.setattr(spherical_harmonics, "_by_gsplat", spherical_harmonics._reference)
    monkeypatch.setattr(torch.optim.SparseAdam, "step", unseen(torch.optim.SparseAdam.step))
    choose = rasterize.choose_backend
    monkeypatch.setattr(rasterize, "choose_backend", lambda *inputs: choose(*inputs).replace("gsplat", "reference"))
    monkeypatch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
    return PretendCuda()
