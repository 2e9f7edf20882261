"""Structural similarity (Wang et al., 2004, eq. 13) of two images, as a map or a mean, with a gradient.

Window: 11 x 11 Gaussian of sigma 1.5, zero beyond the border; constants 0.01^2 and 0.03^2 for a data range of 1;
variances are those of the weighted window, without Bessel's correction. Channels are treated one by one.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

RADIUS = 5
"""The window reaches this many pixels from its centre."""
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2

Backend = Literal["auto", "reference", "cpu"]


def window(dtype: torch.dtype = torch.float64) -> Tensor:
    """One axis of the (separable) window, `[11]`, sums to 1."""
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    return (weights / weights.sum()).to(dtype)


def choose_backend(image: Tensor, backend: Backend = "auto") -> Literal["reference", "cpu"]:
    """Name the backend that `ssim` will use.

    Args:
        image: the first image; device and type decide for `auto`.
        backend: `auto` takes the Numba kernels for float32 on the CPU, else plain torch.

    Returns:
        The name of the backend.

    Raises:
        ValueError: for an unknown name, or kernels that cannot take this image.
    """
    fits_kernel = image.dtype == torch.float32 and image.device.type == "cpu"
    if backend == "auto":
        return "cpu" if fits_kernel else "reference"
    if backend not in ("reference", "cpu"):
        raise ValueError(f"unknown SSIM backend {backend!r}; choose auto, reference or cpu")
    if backend == "cpu" and not fits_kernel:
        raise ValueError(f"the SSIM kernels take float32 on the CPU, not {image.dtype} on {image.device}")
    return backend


def ssim_map(image: Tensor, target: Tensor, backend: Backend = "auto") -> Tensor:
    """SSIM at every pixel.

    Args:
        image: `[..., H, W, C]` in 0..1; the differentiable one.
        target: same shape; a constant (no gradient reaches it, with either backend).
        backend: see `choose_backend`.

    Returns:
        `[..., H, W, C]`, 1 where equal.

    Raises:
        ValueError: for shapes or types that differ, or a backend that cannot take them.
    """
    if image.shape != target.shape or image.ndim < 3:
        raise ValueError(
            f"SSIM compares two images of one shape [..., H, W, C], not {list(image.shape)} with {list(target.shape)}"
        )
    if image.dtype != target.dtype or image.device != target.device:
        raise ValueError(f"the images are {image.dtype} on {image.device} and {target.dtype} on {target.device}")
    if choose_backend(image, backend) == "cpu":
        from models.ssim import cpu as implementation
    else:
        from models.ssim import reference as implementation
    flat = implementation.ssim_map(image.reshape(-1, *image.shape[-3:]), target.detach().reshape(-1, *image.shape[-3:]))
    return flat.reshape(image.shape)


def ssim(image: Tensor, target: Tensor, backend: Backend = "auto") -> Tensor:
    """Mean SSIM over all pixels, channels and leading axes; higher is more alike, 1 is equal.

    Args:
        image: `[..., H, W, C]` in 0..1; the differentiable one.
        target: same shape; a constant.
        backend: see `choose_backend`.

    Returns:
        Scalar.
    """
    return ssim_map(image, target, backend).mean()
