"""Gaussians bound to the triangles of a mesh: they move, turn and grow with them.

Each lives in the frame of its triangle (Qian et al., "GaussianAvatars", CVPR 2024, section 3.2): the first edge, the
normal and what is square to both are the axes, the centroid is the origin, and the mean of base and height is the unit.
Bases beside each Gaussian say how it departs from that with a few weights (the Speaker-specific BlendShapes of Yu et
al., "GaussianTalker", ACM MM 2024).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.gaussians.field import GaussianField, round_gaussians
from models.gaussians.rotation import multiply, quat_of
from models.gaussians.spherical_harmonics import COLOR_OFFSET, Y0

Backend = Literal["auto", "reference", "cpu"]
BASES = ("position_basis", "rotation_basis", "color_basis")
SPREAD = 0.75
"""Standard deviation of a first Gaussian over the square root of the area that it stands for."""
SCALES = (0.05, 4.0)
"""Limits of that deviation, in units of the triangle."""
TINY = 1e-12
"""Metres; a triangle of less height has no area."""


class TriangleFrames(NamedTuple):
    """Where triangles are, how they lie and how large they are."""

    origin: Tensor  # [F, 3] centroids
    rotation: Tensor  # [F, 3, 3] columns: along the first edge, normal, square to both
    unit: Tensor  # [F] mean of base and height


class Placed(NamedTuple):
    """Gaussians in the head frame, ready to be drawn."""

    means: Tensor  # [N, 3] metres
    quats: Tensor  # [N, 4]
    scales: Tensor  # [N, 3] metres
    opacities: Tensor  # [N]
    coefficients: Tensor  # [N, K, 3]


def triangle_frames(vertices: Tensor, triangles: Tensor) -> TriangleFrames:
    """Return the frames of triangles.

    Args:
        vertices: `[V, 3]` of the mesh.
        triangles: `[F, 3]` vertex ids. Those without area have no normal and turn with no gradient.
    """
    first, second, third = (vertices[triangles[:, corner]] for corner in range(3))
    base, side = second - first, third - first
    along = F.normalize(base, dim=-1)
    product = torch.linalg.cross(along, side)
    normal = F.normalize(product, dim=-1)
    across = torch.linalg.cross(along, normal)
    unit = (base.norm(dim=-1) + (across * side).sum(-1).abs()) / 2
    rotation = torch.stack([along, normal, across], -1)
    has_area = product.norm(dim=-1)[:, None, None] > TINY
    rotation = torch.where(has_area, rotation, rotation.detach())  # nothing to turn, or it would turn at once
    return TriangleFrames((first + second + third) / 3, rotation, unit)


@dataclass(kw_only=True)
class BoundField(GaussianField):
    """Gaussians in units of their triangles; means, quats and scales are local."""

    faces: Tensor
    """`[N]` int64, the triangle of each."""
    position_basis: Tensor
    """`[N, B, 3]` what a weight of 1 adds to the mean."""
    rotation_basis: Tensor
    """`[N, B, 4]` to the quaternion."""
    color_basis: Tensor
    """`[N, B, C, 3]` to the first C spherical harmonics."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the parameters by name, and the triangles with them, so that children inherit theirs."""
        return super().tensors() | {name: getattr(self, name) for name in (*BASES, "faces")}

    def spared(self, alive: Tensor) -> Tensor:
        """Let no triangle lose its last Gaussian: the most opaque of each stays."""
        count = int(self.faces.max()) + 1
        best = self.opacities.new_full((count,), -1).scatter_reduce(0, self.faces, self.opacities.detach(), "amax")
        left = torch.zeros(count, dtype=torch.bool, device=alive.device)
        left[self.faces[alive]] = True
        return alive | (~left[self.faces] & (self.opacities.detach() == best[self.faces]))

    def place(
        self, vertices: Tensor, triangles: Tensor, weights: Tensor | None = None, backend: Backend = "auto"
    ) -> Placed:
        """Return the Gaussians where their triangles are.

        Gradients reach the vertices, the weights and all parameters.

        Args:
            vertices: `[V, 3]` of the mesh.
            triangles: `[F, 3]` vertex ids.
            weights: `[B]` of the bases; None: none.
            backend: `auto` takes the Numba kernels for float32 on the CPU, else plain torch.

        Raises:
            ValueError: for an unknown backend, kernels that cannot take these vertices, bases of more spherical
                harmonics than there are, or Gaussians of triangles that are not there.
        """
        fits_kernels = vertices.dtype == torch.float32 and vertices.device.type == "cpu"
        if backend not in ("auto", "reference", "cpu"):
            raise ValueError(f"unknown backend {backend!r} of bound Gaussians; choose auto, reference or cpu")
        if backend == "cpu" and not fits_kernels:
            raise ValueError(f"the kernels take float32 on the CPU, not {vertices.dtype} on {vertices.device}")
        if self.color_basis.shape[2] > self.coefficients.shape[1]:
            raise ValueError(f"bases of {self.color_basis.shape[2]} bands for {self.coefficients.shape[1]} of colour")
        if weights is None:
            weights = self.means.new_zeros(self.position_basis.shape[1])
        if backend == "reference" or not fits_kernels:
            return self._place(vertices, triangles, weights)
        # The kernels would read and write beyond the ends.
        for part, whole in ((self.faces, triangles), (triangles, vertices)):
            if part.numel() and int(part.max()) >= len(whole):
                raise ValueError(f"{int(part.max())} is not among {len(whole)} triangles or vertices")
        bases = (getattr(self, name) for name in BASES)
        means, quats, scales, coefficients = _Place.apply(
            triangles, self.faces, vertices, weights, self.means, self.quats, self.scales, self.coefficients, *bases
        )
        return Placed(means, quats, scales, self.opacities, coefficients)

    def _place(self, vertices: Tensor, triangles: Tensor, weights: Tensor) -> Placed:
        means = self.means + torch.einsum("b,nbc->nc", weights, self.position_basis)
        quats = self.quats + torch.einsum("b,nbc->nc", weights, self.rotation_basis)
        change = torch.einsum("b,nbkc->nkc", weights, self.color_basis)
        origin, rotation, unit = triangle_frames(vertices, triangles[self.faces])
        return Placed(
            means=origin + unit[:, None] * (rotation @ means[..., None])[..., 0],
            quats=multiply(quat_of(rotation), F.normalize(quats, dim=-1)),
            scales=unit[:, None] * self.scales,
            opacities=self.opacities,
            coefficients=self.coefficients + F.pad(change, (0, 0, 0, self.coefficients.shape[1] - change.shape[1])),
        )


class _Place(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, triangles: Tensor, faces: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        from models.gaussians import bound_kernels as kernels

        ctx.save_for_backward(triangles, faces, *given)
        means, quats, scales, coefficients = given[2:6]
        results = tuple(
            torch.empty_like(part, memory_format=torch.contiguous_format)
            for part in (means, quats, scales, coefficients)
        )
        kernels.forward(*_arrays(triangles, faces, *given), *_arrays(*results))
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from models.gaussians import bound_kernels as kernels

        triangles, faces, vertices, weights, means, quats, scales, _, *bases = ctx.saved_tensors
        count = len(faces)
        v_corners, v_weights = vertices.new_empty(count, 3, 3), weights.new_empty(count, len(weights))
        found = [
            torch.empty_like(part, memory_format=torch.contiguous_format) for part in (means, quats, scales, *bases)
        ]
        kernels.backward(
            *_arrays(triangles, faces, vertices, weights, means, quats, scales, *bases, *gradients),
            *_arrays(v_corners, v_weights, *found),
        )  # fmt: skip
        v_vertices = torch.zeros_like(vertices, memory_format=torch.contiguous_format)
        kernels.scatter(*_arrays(triangles, faces, v_corners, v_vertices))
        v_means, v_quats, v_scales, *v_bases = found
        return None, None, v_vertices, v_weights.sum(0), v_means, v_quats, v_scales, gradients[3], *v_bases


def _arrays(*tensors: Tensor) -> Iterator[np.ndarray]:
    return (tensor.detach().contiguous().numpy() for tensor in tensors)


def share_out(
    areas: np.ndarray, importance: np.ndarray, extra: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Share Gaussians out among triangles.

    As many as there are triangles: one on each. More: the surplus goes to some, by their area. Fewer: those that there
    are go to all, by area times importance, evenly along the mesh.

    Args:
        areas: `[F]` of the triangles.
        importance: `[F]` Gaussians per area, up to a factor, where there are few.
        extra: `[F]` bool, those that a surplus goes to.
        count: of Gaussians.
        seed: of the choice.

    Returns:
        The triangle `[count]` of each, sorted, and the area `[count]` that it stands for.
    """
    random = np.random.default_rng(seed)
    if count >= len(areas):
        chances = np.where(extra, areas, 0.0) if extra.any() else areas
        surplus = random.choice(len(areas), count - len(areas), p=chances / chances.sum())
        faces = np.sort(np.concatenate([np.arange(len(areas)), surplus]))
        return faces, (areas / np.bincount(faces))[faces]
    edges = np.cumsum(areas * importance)
    places = (np.arange(count) + random.uniform(0, 1, count)) * (edges[-1] / count)
    faces = np.searchsorted(edges, places, side="right").clip(0, len(areas) - 1)
    return faces, edges[-1] / count / importance[faces]


def bind(
    vertices: np.ndarray,
    triangles: np.ndarray,
    faces: np.ndarray,
    areas: np.ndarray,
    sh_degree: int,
    shapes: int,
    color_bands: int,
    opacity: float,
    seed: int,
) -> BoundField:
    """Place the first Gaussians: one in the middle of its triangle, others scattered over it. All bases are zero.

    Args:
        vertices: `[V, 3]` of the speaker's neutral face, metres.
        triangles: `[F, 3]`.
        faces: `[N]` the triangle of each Gaussian, sorted.
        areas: `[N]` that each stands for, square metres.
        sh_degree: of the colour, 0 to 3.
        shapes: how many weights there are.
        color_bands: how many of the spherical harmonics have bases.
        opacity: of every Gaussian.
        seed: of the scatter.

    Returns:
        Grey Gaussians on the CPU.
    """
    random, count = np.random.default_rng(seed), len(faces)
    frames = triangle_frames(torch.tensor(vertices, dtype=torch.float64), torch.from_numpy(triangles).long())
    origin, rotation, unit = (part.numpy()[faces] for part in frames)
    unit = np.maximum(unit, 1e-9)  # of a triangle without area
    mix = random.dirichlet(np.ones(3), count)
    mix[np.diff(faces, prepend=-1) > 0] = 1 / 3
    places = np.einsum("nk,nkc->nc", mix, vertices[triangles[faces]].astype(np.float64))
    local = np.einsum("nji,nj->ni", rotation, places - origin) / unit[:, None]
    scales = torch.tensor(SPREAD * np.sqrt(areas) / unit, dtype=torch.float32).clamp(*SCALES)
    means = torch.tensor(local, dtype=torch.float32)
    return BoundField(
        **round_gaussians(means, scales, torch.zeros(count, 3), sh_degree, opacity),
        faces=torch.from_numpy(faces.astype(np.int64)),
        position_basis=torch.zeros(count, shapes, 3),
        rotation_basis=torch.zeros(count, shapes, 4),
        color_basis=torch.zeros(count, shapes, color_bands, 3),
    )


def paint(field: BoundField, colors: np.ndarray) -> None:
    """Give the Gaussians colours `[N, 3]` in 0..1, the same from all sides."""
    with torch.no_grad():
        field.colors.copy_(((torch.tensor(colors, dtype=torch.float32) - COLOR_OFFSET) / Y0)[:, None])
