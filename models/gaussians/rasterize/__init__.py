"""Draw 3D Gaussians (Kerbl et al., 3D Gaussian Splatting, 2023) with one call and three interchangeable backends.

* `reference`: plain torch, any floating type, any device. It is the specification: the other two are tested against it.
* `cpu`: Numba kernels, float32.
* `gsplat`: the CUDA kernels of gsplat 1.5.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Backend = Literal["auto", "reference", "cpu", "gsplat"]


class Raster(NamedTuple):
    """What `rasterize` returns. A leading camera axis `B` is there exactly when a batch of cameras was given."""

    image: Tensor
    """`[..., H, W, C]` blended features over the background; premultiplied where the background is zero."""
    alpha: Tensor
    """`[..., H, W]` opacity, differentiable."""
    depth: Tensor
    """`[..., H, W]` sum of weight times camera depth in metres; divide by alpha for the mean depth of a pixel.
    It carries a gradient in `reference` and `gsplat`, none in `cpu`."""
    radii: Tensor
    """`[..., N]` int32, pixels from the centre to the edge of the box drawn; 0 for a Gaussian not drawn."""
    means2d: Tensor
    """`[..., N, 2]` projected centres in pixels, meaningful where `radii > 0`. After a backward its `.grad` holds
    d loss / d centre in pixels, the quantity that density control accumulates."""


def choose_backend(means: Tensor, backend: Backend = "auto") -> Literal["reference", "cpu", "gsplat"]:
    """Name the backend that `rasterize` will use.

    Args:
        means: any tensor of the scene, its device and type decide for `auto`.
        backend: `auto` takes `gsplat` on CUDA, `cpu` for float32 on the CPU and `reference` for everything else.

    Returns:
        The name of the backend.

    Raises:
        ValueError: for an unknown name, or a backend that cannot take this type or device.
    """
    if backend == "auto":
        if means.dtype != torch.float32:
            return "reference"
        return {"cpu": "cpu", "cuda": "gsplat"}.get(means.device.type, "reference")  # type: ignore[return-value]
    if backend not in ("reference", "cpu", "gsplat"):
        raise ValueError(f"unknown rasteriser {backend!r}; choose auto, reference, cpu or gsplat")
    if backend != "reference" and means.dtype != torch.float32:
        raise ValueError(f"the {backend} rasteriser takes float32, not {means.dtype}; use backend='reference'")
    device = {"cpu": "cpu", "gsplat": "cuda"}.get(backend)
    if device is not None and means.device.type != device:
        raise ValueError(f"the {backend} rasteriser needs tensors on {device}, not on {means.device.type}")
    return backend


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    features: Tensor,
    world_to_camera: Tensor,
    intrinsics: Tensor,
    width: int,
    height: int,
    background: Tensor | None = None,
    backend: Backend = "auto",
) -> Raster:
    """Draw Gaussians as seen by one camera or by a batch of cameras.

    Gradients reach means, quats, scales, opacities and features; cameras and background are constants (only
    `reference`, being plain torch, also differentiates those). A Gaussian with a non-finite position, shape or opacity
    is not drawn and has zero gradients.

    Args:
        means: `[N, 3]` centres, metres.
        quats: `[N, 4]` rotations, wxyz, any length.
        scales: `[N, 3]` standard deviations along the Gaussian's own axes, metres.
        opacities: `[N]` in 0..1.
        features: `[N, C]` what is blended: three channels of colour, more for maps drawn along with it. Any `C >= 1`.
        world_to_camera: `[4, 4]` or `[B, 4, 4]`, OpenCV axes.
        intrinsics: `[3, 3]` or `[B, 3, 3]`; the skew is ignored.
        width: of the image, pixels.
        height: of the image, pixels.
        background: `[C]`, zero when not given.
        backend: see `choose_backend`.

    Returns:
        A `Raster`.

    Raises:
        ValueError: for shapes that do not fit, or a backend that cannot take these tensors.
        MachineError: when gsplat is asked for and is not usable here.
    """
    name = choose_backend(means, backend)
    _check_shapes(means, quats, scales, opacities, features, world_to_camera, intrinsics, width, height, background)
    if background is None:
        background = features.new_zeros(features.shape[1])
    if name == "cpu":
        from models.gaussians.rasterize import cpu as implementation
    elif name == "gsplat":
        from models.gaussians.rasterize import gsplat as implementation
    else:
        from models.gaussians.rasterize import reference as implementation
    return implementation.rasterize(
        means, quats, scales, opacities, features, world_to_camera, intrinsics, width, height, background
    )


def _check_shapes(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    features: Tensor,
    world_to_camera: Tensor,
    intrinsics: Tensor,
    width: int,
    height: int,
    background: Tensor | None,
) -> None:
    count = means.shape[0] if means.ndim else 0
    expected = {
        "means": (means, (count, 3)),
        "quats": (quats, (count, 4)),
        "scales": (scales, (count, 3)),
        "opacities": (opacities, (count,)),
        "world_to_camera": (world_to_camera, (*world_to_camera.shape[:-2], 4, 4)),
        "intrinsics": (intrinsics, (*world_to_camera.shape[:-2], 3, 3)),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {list(tensor.shape)}, expected {list(shape)}")
        if tensor.dtype != means.dtype:
            raise ValueError(f"{name} is {tensor.dtype}, but means are {means.dtype}")
    if world_to_camera.ndim > 3:
        raise ValueError(f"world_to_camera has shape {list(world_to_camera.shape)}, expected [4, 4] or [B, 4, 4]")
    if features.ndim != 2 or features.shape[0] != count or features.shape[1] < 1:
        raise ValueError(f"features has shape {list(features.shape)}, expected [{count}, C] with C of at least 1")
    if background is not None and tuple(background.shape) != (features.shape[1],):
        raise ValueError(f"background has shape {list(background.shape)}, expected [{features.shape[1]}]")
    if width < 1 or height < 1:
        raise ValueError(f"an image of {width} x {height} pixels cannot be drawn")
