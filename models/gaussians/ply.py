"""Gaussians as a .ply file that public viewers of splats open.

The layout is that of 3D Gaussian Splatting (Kerbl et al., 2023): binary floats x y z, nx ny nz (0), f_dc and f_rest
(one channel of the colour after the other), the logit of the opacity, the logarithm of the standard deviations, wxyz.
Viewers differ in which degrees of f_rest they read; all of them read degree 3, so lower ones are filled up with zeros.

Axes are those of a camera in front of the face, as in COLMAP and as viewers expect: x to the right, y down, z away from
who looks at the face. Lengths are metres.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.gaussians.field import GaussianField
from models.gaussians.spherical_harmonics import MAX_DEGREE, sh_basis

AXES = (1.0, -1.0, -1.0)
"""The file's x, y and z over those of the head frame: half a turn about x."""
REST = (MAX_DEGREE + 1) ** 2 - 1
PROPERTIES = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
    *(f"f_rest_{k}" for k in range(3 * REST)),
    *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)


def ply_bytes(fields: Sequence[GaussianField], comments: Sequence[str] = ()) -> bytes:
    """Return a file with all Gaussians of some fields.

    Args:
        fields: in the head frame, deformed as they shall be shown.
        comments: lines of the header; what is not ASCII is written as escapes.

    Raises:
        ValueError: a Gaussian has a value that is not finite.
    """
    rows = np.concatenate([_rows(field) for field in fields])
    if not np.isfinite(rows).all():
        raise ValueError("a Gaussian has a value that is not finite")
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [
        f"comment {' '.join(comment.split()).encode('ascii', 'backslashreplace').decode()}" for comment in comments
    ]
    lines += [f"element vertex {len(rows)}", *(f"property float {name}" for name in PROPERTIES), "end_header", ""]
    return "\n".join(lines).encode() + rows.astype("<f4").tobytes()


def _rows(field: GaussianField) -> np.ndarray:
    """Return the values of `PROPERTIES`, `[N, 62]` float32."""
    axes = torch.tensor(AXES)
    with torch.no_grad():
        gaussians = field.to("cpu")
        means, quats = gaussians.means * axes, torch.nn.functional.normalize(gaussians.quats, dim=-1)
        w, x, y, z = quats.unbind(-1)
        turned = torch.stack([-x, w, -z, y], -1)  # half a turn about x, then the Gaussian's own
        coefficients = _turned_harmonics(gaussians.coefficients, axes)
        rest = torch.zeros(len(means), REST, 3)
        rest[:, : coefficients.shape[1] - 1] = coefficients[:, 1:]
        parts = (
            *(means, torch.zeros_like(means), coefficients[:, 0], rest.transpose(1, 2).flatten(1)),
            *(gaussians.raw_opacities[:, None], _log_scales(gaussians.raw_scales), turned),
        )
        return torch.cat(parts, 1).numpy()


def _log_scales(raw_scales: Tensor) -> Tensor:
    """Return the logarithm of softplus, which for small numbers is the number itself."""
    return torch.where(raw_scales < -15, raw_scales, torch.nn.functional.softplus(raw_scales).log())


def _turned_harmonics(coefficients: Tensor, axes: Tensor) -> Tensor:
    """Return coefficients `[N, K, 3]` that give the same colour for directions whose axes are flipped."""
    degree = round(coefficients.shape[1] ** 0.5) - 1
    direction = torch.nn.functional.normalize(torch.tensor([0.9, 0.5, 0.3]), dim=0)  # no basis function is 0 there
    # Under flips of axes every basis function stays what it is, or changes its sign.
    signs = torch.sign(sh_basis(direction * axes, degree) * sh_basis(direction, degree))
    return coefficients * signs[:, None]
