"""The rasteriser on CUDA: an adapter to gsplat 1.5 (Apache-2.0), imported only when it is asked for.

It draws what `reference` draws up to two things: a Gaussian counts as drawn if its box meets the image, even if the box
holds no pixel centre; and pixels on the edge of the alpha thresholds may flip, as in any float32 code.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch
from torch import Tensor

from models.errors import MachineError
from models.gaussians.rasterize import Raster
from models.gaussians.rasterize.constants import BLUR, NEAR_PLANE

INSTALL = "pip install -e .[cuda]"
GET_TORCH = "install the build of torch for this machine's CUDA, if it has such a device"


def package() -> ModuleType:
    """Return gsplat.

    Raises:
        MachineError: it is not usable here, and why.
    """
    if not torch.cuda.is_available():
        raise MachineError("no CUDA device here", "gsplat needs one, and torch sees none", GET_TORCH)
    try:
        import gsplat
    except ImportError as error:
        raise MachineError("gsplat is not installed", "it draws heads on CUDA", INSTALL) from error
    if not gsplat.__version__.startswith("1.5."):
        raise MachineError(f"gsplat {gsplat.__version__} is installed", "heads are drawn by gsplat 1.5", INSTALL)
    if importlib.import_module("gsplat.cuda._backend")._C is None:
        raise MachineError(
            "gsplat is installed without its CUDA kernels",
            "it finds no CUDA toolkit to build them",
            "install the toolkit (nvcc), or a wheel of gsplat built for this version of torch and CUDA",
        )
    return gsplat


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
    background: Tensor,
) -> Raster:
    """Draw Gaussians; see `models.gaussians.rasterize.rasterize`."""
    batch = world_to_camera.shape[:-2]
    views, cameras = world_to_camera.reshape(-1, 4, 4), intrinsics.reshape(-1, 3, 3)
    # gsplat's comparisons let NaN through. Without opacity a Gaussian is left out, and a select passes no gradient.
    finite = torch.cat((means, quats, scales, opacities[:, None]), 1).isfinite().all(1)
    opacities = torch.where(finite, opacities, torch.zeros_like(opacities))
    means, quats, scales = (
        torch.where(finite[:, None], part, torch.ones_like(part)) for part in (means, quats, scales)
    )
    # Not packed: packed results lack the rows of Gaussians out of sight.
    blended, alpha, meta = package().rasterization(
        means, quats, scales, opacities, features, views, cameras, width, height, near_plane=NEAR_PLANE, eps2d=BLUR,
        packed=False, backgrounds=background.expand(len(views), -1), render_mode="RGB+D", channel_chunk=32,
    )  # fmt: skip
    means2d = meta["means2d"]  # [B, N, 2]
    if not batch:
        # gsplat's centres have a camera axis and feed the blending: the handle is a view of them, whose gradient is
        # filled by a hook once theirs is known.
        handle = means2d.detach()[0].requires_grad_(means2d.requires_grad)
        if means2d.requires_grad:
            means2d.register_hook(lambda gradient: _accumulate(handle, gradient[0]))
        means2d = handle
    elif means2d.requires_grad:
        means2d.retain_grad()
    radii = meta["radii"].amax(-1) * (meta["radii"] > 0).all(-1)
    raster = Raster(blended[..., :-1], alpha[..., 0], blended[..., -1], radii.to(torch.int32), means2d)
    if batch:
        return raster
    return raster._replace(image=raster.image[0], alpha=raster.alpha[0], depth=raster.depth[0], radii=raster.radii[0])


def _accumulate(handle: Tensor, gradient: Tensor) -> None:
    handle.grad = gradient.clone() if handle.grad is None else handle.grad + gradient
