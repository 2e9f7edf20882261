"""The kernels one by one: rasteriser, grid, bound Gaussians, SSIM."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from models.encoders.hashgrid import HashGrid, encode
from models.gaussians.rasterize import rasterize
from models.ssim import ssim
from tasks.bench import scenes
from tasks.bench.backends import torch_threads
from tasks.bench.timing import Figure, Side, Tick, measure


@dataclass(frozen=True)
class Rig:
    """Where and how often things are measured."""

    device: str
    threads: int
    repeats: int

    def side(self, backend: str, call: Callable[[], object]) -> Side:
        """Return `call` as one of two implementations.

        The reference gets as many torch threads as our kernels get; beside the kernels torch has one, as in training.
        """
        count = self.threads if backend == "reference" else 1
        setting: Callable[[], AbstractContextManager[Any]] = nullcontext
        if self.device == "cpu":
            setting = lambda: torch_threads(count)  # noqa: E731 - one of two settings
        return Side(backend, call, setting, torch.cuda.synchronize if self.device == "cuda" else lambda: None)


def leaves(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """Return copies that gradients are asked for."""
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def raster_call(
    count: int, size: int, backend: str, backward: bool, device: str = "cpu", cover: float = scenes.COVER
) -> Callable[[], None]:
    """Return what draws a shell once, and differentiates the picture if `backward`."""
    scene = leaves(scenes.shell(count, size=256, cover=cover, device=device))
    means, quats, scales, opacities, colors = scene
    view = scenes.camera(size, device)
    weight = torch.rand(size, size, 3, generator=torch.Generator().manual_seed(1)).to(device)

    def call() -> None:
        with torch.set_grad_enabled(backward):
            image = rasterize(means, quats, scales, opacities, colors, *view, backend=backend).image  # type: ignore[arg-type]
        if backward:
            torch.autograd.grad(image, scene, weight)

    return call


def raster(rig: Rig, count: int, size: int, backward: bool, tick: Tick = lambda _: None) -> Figure:
    """Time the rasteriser: projection, sorting, blending and, if `backward`, all gradients."""
    names = "gsplat" if rig.device == "cuda" else "cpu", "reference"
    fast, slow = (rig.side(name, raster_call(count, size, name, backward, rig.device)) for name in names)
    direction = "forward and backward" if backward else "forward"
    name = f"raster_{_short(count)}" + ("" if backward else "_forward")
    what = f"rasteriser, {count} Gaussians, {size}x{size}, {direction}"
    return measure(name, what, fast, slow, rig.repeats, tick)


def grid(rig: Rig, count: int, tick: Tick = lambda _: None) -> Figure | None:
    """Time the tri-plane grid, forward and backward to table and points; None where there is nothing but the reference.

    On CUDA the fast one is tiny-cuda-nn, on a grid of its own layout.
    """
    convention: Literal["torch_ngp", "tcnn"] = "tcnn" if rig.device == "cuda" else "torch_ngp"
    names = "tcnn" if rig.device == "cuda" else "cpu", "reference"
    if names[0] == "tcnn" and importlib.util.find_spec("tinycudann") is None:
        return None
    shape = HashGrid(finest_resolution=38.4, convention=convention)
    generator = torch.Generator().manual_seed(0)
    points = scenes.shell(count, device=rig.device).means.requires_grad_()
    table = shape.new_table(generator).to(rig.device).requires_grad_()
    weight = torch.rand(count, shape.output_size, generator=generator).to(rig.device)

    def call(backend: str) -> None:
        encoded = encode(points, table, shape, backend)  # type: ignore[arg-type]
        torch.autograd.grad(encoded, [points, table], weight)

    fast, slow = (rig.side(name, partial(call, name)) for name in names)
    what = f"tri-plane grid, {count} points, {shape.output_size} outputs, forward and backward"
    return measure(f"grid_{_short(count)}", what, fast, slow, rig.repeats, tick)


def bound(rig: Rig, count: int, tick: Tick = lambda _: None) -> Figure | None:
    """Time Gaussians on a mesh of half as many triangles, with all gradients; None on CUDA, as for `structure`."""
    if rig.device == "cuda":
        return None
    field, vertices, triangles = scenes.sheet(count)
    weights = torch.linspace(-1, 1, scenes.SHAPES).requires_grad_()
    inputs = [vertices.requires_grad_(), weights, *(part for part in field.tensors().values() if part.requires_grad)]

    def call(backend: str) -> None:
        placed = field.place(vertices, triangles, weights, backend)  # type: ignore[arg-type]
        torch.autograd.grad(torch.stack([part.sum() for part in placed]).sum(), inputs)

    fast, slow = (rig.side(name, partial(call, name)) for name in ("cpu", "reference"))
    what = f"{count} Gaussians on {len(triangles)} triangles, {scenes.SHAPES} blend shapes, forward and backward"
    return measure(f"bound_{_short(count)}", what, fast, slow, rig.repeats, tick)


def structure(rig: Rig, size: int, tick: Tick = lambda _: None) -> Figure | None:
    """Time SSIM with its gradient; None on CUDA, where the reference is what is used."""
    if rig.device == "cuda":
        return None
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(size, size, 3, generator=generator).requires_grad_()
    target = torch.rand(size, size, 3, generator=generator)

    def call(backend: str) -> None:
        torch.autograd.grad(ssim(image, target, backend), image)  # type: ignore[arg-type]

    fast, slow = (rig.side(name, partial(call, name)) for name in ("cpu", "reference"))
    return measure("ssim", f"SSIM, {size}x{size}x3, forward and backward", fast, slow, rig.repeats, tick)


def _short(count: int) -> str:
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)
