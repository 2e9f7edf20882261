"""View-dependent colour: real spherical harmonics up to degree 3, in the order and signs of 3D Gaussian Splatting.

The colour is `max(0, 0.5 + sum_k c_k Y_k(d))` with `d` the unit direction from the camera to the Gaussian. `d` is a
constant: no gradient reaches the means. (The CUDA code of 3D Gaussian Splatting does pass one on; it is tiny beside
that of the projected position, and without it colour cannot move geometry.)
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_DEGREE = 3
COLOR_OFFSET = 0.5
"""Added to the sum, so that coefficients of zero mean mid-grey."""

_PI = math.pi
Y0 = math.sqrt(1 / (4 * _PI))
Y1 = math.sqrt(3 / (4 * _PI))
Y2 = (math.sqrt(15 / (4 * _PI)), math.sqrt(5 / (16 * _PI)), math.sqrt(15 / (16 * _PI)))
"""Factors of degree 2 for |m| = 1 and xy, m = 0, and x^2 - y^2."""
Y3 = (
    math.sqrt(35 / (32 * _PI)),
    math.sqrt(105 / (4 * _PI)),
    math.sqrt(21 / (32 * _PI)),
    math.sqrt(7 / (16 * _PI)),
    math.sqrt(105 / (16 * _PI)),
)
"""Factors of degree 3 for |m| = 3, xyz, |m| = 1, m = 0, and z (x^2 - y^2)."""


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Evaluate the basis functions.

    Args:
        directions: `[..., 3]` unit vectors.
        degree: 0 to 3.

    Returns:
        `[..., (degree + 1)^2]`.
    """
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    basis = [torch.full_like(x, Y0)]
    if degree >= 1:
        basis += [-Y1 * y, Y1 * z, -Y1 * x]
    if degree >= 2:
        basis += [Y2[0] * x * y, -Y2[0] * y * z, Y2[1] * (2 * zz - xx - yy), -Y2[0] * x * z, Y2[2] * (xx - yy)]
    if degree >= 3:
        basis += [
            -Y3[0] * y * (3 * xx - yy),
            Y3[1] * x * y * z,
            -Y3[2] * y * (4 * zz - xx - yy),
            Y3[3] * z * (2 * zz - 3 * xx - 3 * yy),
            -Y3[2] * x * (4 * zz - xx - yy),
            Y3[4] * z * (xx - yy),
            -Y3[0] * x * (xx - 3 * yy),
        ]
    return torch.stack(basis, -1)


def evaluate_sh(
    means: Tensor,
    camera_center: Tensor,
    coefficients: Tensor,
    degree: int | None = None,
    backend: Literal["auto", "reference", "cpu", "gsplat"] = "auto",
) -> Tensor:
    """Colour of Gaussians as seen from one camera.

    Args:
        means: `[N, 3]` centres, metres; constants here.
        camera_center: `[3]` in the same frame, metres.
        coefficients: `[N, K, 3]` with K = 1, 4, 9 or 16; the only differentiable input.
        degree: highest degree used, so that training can start with few; that of K when not given. Coefficients above
            it get zero gradients.
        backend: `auto` takes the Numba kernel for float32 on the CPU, gsplat's for float32 on CUDA, else plain torch.

    Returns:
        `[N, 3]` colours, at least 0.

    Raises:
        ValueError: for shapes that do not fit or a degree that K does not hold.
    """
    count, bands = len(means), coefficients.shape[1] if coefficients.ndim == 3 else 0
    available = math.isqrt(bands) - 1
    if coefficients.shape != (count, bands, 3) or bands != (available + 1) ** 2 or not 0 <= available <= MAX_DEGREE:
        raise ValueError(f"coefficients has shape {list(coefficients.shape)}, expected [{count}, 1|4|9|16, 3]")
    if means.shape != (count, 3) or camera_center.shape != (3,):
        raise ValueError(
            f"means has shape {list(means.shape)}, camera_center {list(camera_center.shape)}; expected [N, 3] and [3]"
        )
    degree = available if degree is None else degree
    if not 0 <= degree <= available:
        raise ValueError(f"degree {degree} was asked for, but the coefficients are of degree {available}")
    device = coefficients.device.type if coefficients.dtype == torch.float32 else ""
    if backend == "auto":
        backend = {"cpu": "cpu", "cuda": "gsplat"}.get(device, "reference")  # type: ignore[assignment]
    if backend not in ("reference", "cpu", "gsplat"):
        raise ValueError(f"unknown backend {backend!r} of spherical harmonics; choose auto, reference, cpu or gsplat")
    if backend != "reference" and device != {"cpu": "cpu", "gsplat": "cuda"}[backend]:
        where = "the CPU" if backend == "cpu" else "CUDA"
        raise ValueError(f"the kernel takes float32 on {where}, not {coefficients.dtype} on {coefficients.device}")
    implementation = {"cpu": _EvaluateSh.apply, "gsplat": _by_gsplat}.get(backend, _reference)
    return implementation(means.detach(), camera_center.detach(), coefficients, degree)


def _reference(means: Tensor, camera_center: Tensor, coefficients: Tensor, degree: int) -> Tensor:
    basis = sh_basis(F.normalize(means - camera_center, dim=-1), degree)  # [N, K]
    colors = torch.einsum("nk,nkc->nc", basis, coefficients[:, : basis.shape[1]])
    return torch.relu(colors + COLOR_OFFSET)


def _by_gsplat(means: Tensor, camera_center: Tensor, coefficients: Tensor, degree: int) -> Tensor:
    from models.gaussians.rasterize.gsplat import package

    return torch.relu(package().spherical_harmonics(degree, means - camera_center, coefficients) + COLOR_OFFSET)


class _EvaluateSh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, means: Tensor, camera_center: Tensor, coefficients: Tensor, degree: int) -> Tensor:
        from models.gaussians import spherical_harmonics_kernels as kernels

        colors = torch.empty_like(means, memory_format=torch.contiguous_format)
        ctx.geometry = (means.contiguous().numpy(), camera_center.contiguous().numpy(), degree)
        kernels.forward(*ctx.geometry, coefficients.detach().contiguous().numpy(), colors.numpy())
        ctx.save_for_backward(colors)
        ctx.bands = coefficients.shape[1]
        return colors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from models.gaussians import spherical_harmonics_kernels as kernels

        (colors,) = ctx.saved_tensors
        v_coefficients = gradient.new_empty(len(colors), ctx.bands, 3)
        means, center, degree = ctx.geometry
        kernels.backward(means, center, degree, colors.numpy(), gradient.contiguous().numpy(), v_coefficients.numpy())
        return None, None, v_coefficients, None
