"""GaussianTalker (Yu et al., ACM MM 2024): sound moves a head model, and the head model carries Gaussians.

The *Speaker-specific Motion Translator* hears what is said, whoever says it, and gives expression and jaw of a head
model as one speaker would move them. The *Dynamic Gaussian Renderer* binds Gaussians to the triangles of that model's
mesh; what the mesh does not know of a face is in bases beside each Gaussian, weighed by a perceptron of the motion.
Only the face is drawn; hair, neck and everything else come from the frame whose pose it has.

The authors have published no code. Sizes, weights and the renderer's learning rates are those of the paper's
supplement; what its text leaves open is written down in docs/gaussian_talker.md with what was chosen. Of the ways in
which we depart from it, two matter: what the landmarks know of a face beyond the head model's identity is part of the
mesh, and lids and brows are not spoken but come from the clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models import losses
from models.gaussians.bound import BoundField, Placed, bind, paint, share_out
from models.gaussians.camera import Camera
from models.gaussians.compositing import over
from models.gaussians.placing import pick_colors
from models.gaussians.rasterize import Raster, rasterize
from models.gaussians.spherical_harmonics import evaluate_sh
from models.heads.mediapipe_points import BROW_RINGS, EYE_RINGS, LIP_POINTS
from models.heads.model import NAMED_SHAPES, HeadModel
from models.heads.rig import FaceMesh, Rig
from models.methods.gaussian_talker_config import RendererConfig
from models.methods.gaussian_talker_networks import BlendShapes, Coefficients
from models.methods.gaussian_talker_phases import RendererPhase
from models.schedule import weighed
from models.ssim import ssim

DARK = 0.25
"""Grey of the first Gaussians inside the mouth, which no frame with a closed mouth shows."""
LIDS_M, LIPS_M = 1e-4, 2.5e-5
"""What lids and brows may be off, and lips be moved, for one deviation of a principal component (root mean square)."""


# ------------------------------------------------------------------------------------------------------- speaking


def spoken_expressions(model: HeadModel) -> tuple[int, ...]:
    """Return which expressions of a head model are moved by what is said; the others follow the clip.

    Of named ones those that move the lips more than lids and brows. Principal components move everything: all of them,
    and see `followed`.
    """
    if model.expression_range != NAMED_SHAPES:
        return tuple(range(len(model.expression)))
    lips, lids = (np.linalg.norm(moved, axis=1) for moved in _lips_and_lids(model))
    return tuple(int(number) for number in np.flatnonzero(lips > lids))


def followed(model: HeadModel) -> np.ndarray:
    """Return what of its difference from the spoken expression the clip's adds to that `[E, E]`; none of named ones.

    No principal component is the lids' alone. So the likeliest expression is added that moves lids and brows as the
    difference does and leaves the lips where they are spoken to be.
    """
    count = len(model.expression)
    if model.expression_range != NAMED_SHAPES:
        lips, lids = (moved @ moved.T for moved in _lips_and_lids(model))
        cost = np.eye(count) + lips / LIPS_M**2 + lids / LIDS_M**2
        return np.linalg.solve(cost, lids / LIDS_M**2).T
    return np.zeros((count, count))


def _lips_and_lids(model: HeadModel) -> list[np.ndarray]:
    """Return how expressions move landmarks of the lips, and of lids and brows `[E, n]`, for norms in metres."""
    moved = model.at_landmarks(model.expression)
    groups = LIP_POINTS, tuple({*EYE_RINGS[0], *EYE_RINGS[1], *BROW_RINGS[0], *BROW_RINGS[1]})
    parts = (moved[:, model.rows_of(group)] for group in groups)
    return [part.reshape(len(moved), -1) / np.sqrt(max(1, part.shape[1])) for part in parts]


@dataclass(frozen=True)
class Mouthing:
    """What turns spoken numbers into a face: the others of its coefficients come from a clip."""

    rig: Rig
    identity: Tensor  # [K]
    expression: Tensor  # [T, E] of the clip
    jaw: Tensor  # [T, J]
    spoken: tuple[int, ...]
    followed: Tensor  # [E, E] see the function
    lips: Tensor  # [V] bool, vertices of the lips

    @property
    def outputs(self) -> int:
        """How many numbers are spoken: the spoken expressions, then the jaw's angles."""
        return len(self.spoken) + self.jaw.shape[1]

    @property
    def truth(self) -> Tensor:
        """What was spoken in the clip `[T, O]`."""
        return torch.cat([self.expression[:, list(self.spoken)], self.jaw], 1)

    def coefficients(self, numbers: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return expressions `[T, E]` and jaws `[T, J]` of spoken numbers `[T, O]` in some frames `[T]` of the clip."""
        clips = self.expression[frames]
        expression = clips.clone()
        expression[:, list(self.spoken)] = numbers[:, : len(self.spoken)]
        return expression + (clips - expression) @ self.followed, numbers[:, len(self.spoken) :]

    def vertices(self, numbers: Tensor, frames: Tensor) -> Tensor:
        """Return the vertices `[T, V, 3]` of spoken numbers in some frames of the clip, pose left out."""
        return self.rig.vertices(self.identity, *self.coefficients(numbers, frames))


def motion_losses(
    numbers: Tensor,
    truth: Tensor,
    vertices: Tensor,
    true_vertices: Tensor,
    known: Tensor,
    follows: Tensor,
    importance: Tensor,
    on: Mapping[str, float],
) -> dict[str, Tensor]:
    """Compare translated motion with the tracked one.

    Args:
        numbers: `[T, O]` translated.
        truth: `[T, O]` tracked.
        vertices: `[T, V, 3]` of the translated motion, metres.
        true_vertices: the same of the tracked one.
        known: `[T]` 1 where the face was tracked and may be learnt from.
        follows: `[T]` bool, frames that follow the one before them in the same shot.
        importance: `[V]` of the vertices.
        on: how much each term counts now, see `models.schedule.weights_at`.

    Returns:
        Weighted terms, those that count.
    """
    share = known / known.sum().clamp(min=1)
    weight = importance / importance.sum()
    error = vertices - true_vertices

    def smoothness() -> Tensor:
        both = follows[1:].float() * known[1:] * known[:-1]
        steps = ((error[1:] - error[:-1]).square().sum(-1) * weight).sum(-1)
        return (steps * both).sum() / both.sum().clamp(min=1)

    return weighed(
        on,
        {
            "vertices": lambda: ((error.square().sum(-1) * weight).sum(-1) * share).sum(),
            "parameters": lambda: ((numbers - truth).square().mean(-1) * share).sum(),
            "smoothness": smoothness,
        },
    )


def latent_distance(content: Tensor, other: Tensor) -> Tensor:
    """Return how unlike the same words `[B, T, C]` are in two voices: one minus the cosine of what is said of them.

    The mean over time is taken out: it is the same whatever is said, and would make all cosines 1.
    """
    content, other = (part - part.mean(1, keepdim=True) for part in (content, other))
    return (1 - F.cosine_similarity(content, other, dim=-1)).mean()


# ------------------------------------------------------------------------------------------------------ rendering


@dataclass
class Renderer:
    """Gaussians on a speaker's mesh, and what moves them beyond it."""

    rig: Rig
    triangles: Tensor  # [F, 3] of the rig's vertices; only those that carry Gaussians count
    gaussians: BoundField
    blend: BlendShapes

    def place(self, coefficients: Coefficients) -> Placed:
        """Return the Gaussians of one frame in the head frame."""
        expression, jaw = coefficients.expression[None], coefficients.jaw[None]
        vertices = coefficients.moved(self.rig.vertices(coefficients.identity, expression, jaw)[0])
        return self.gaussians.place(vertices, self.triangles, self.blend(coefficients))

    def draw(
        self,
        camera: Camera,
        coefficients: Coefficients,
        background: Tensor | None = None,
        degree: int | None = None,
        left_out: Tensor | None = None,
    ) -> Raster:
        """Draw one frame.

        Args:
            camera: of the frame.
            coefficients: what the head model is told.
            background: a plain colour `[3]`; None: black.
            degree: of the spherical harmonics at most; None: all of them.
            left_out: `[F]` bool, triangles whose Gaussians are not drawn; None: all are.
        """
        placed = self.place(coefficients)
        colors = evaluate_sh(placed.means, camera.center, placed.coefficients, degree)
        opacities = placed.opacities
        if left_out is not None:
            opacities = torch.where(left_out[self.gaussians.faces], 0.0, opacities)
        return rasterize(placed.means, placed.quats, placed.scales, opacities, colors, *camera, background)


def first_gaussians(
    mesh: FaceMesh,
    shown: np.ndarray,
    vertices: np.ndarray,
    count: int,
    phase: RendererPhase,
    config: RendererConfig,
    seed: int,
) -> BoundField:
    """Return grey Gaussians on a face's mesh, more of them on lips, lids and inside the mouth.

    Args:
        mesh: which triangles there are.
        shown: `[F]` bool, those that some frame may show.
        vertices: `[V, 3]` of the speaker's neutral face, metres.
        count: of Gaussians; 0: one on each triangle.
        phase: says how opaque they are and how they are shared out.
        config: of the renderer.
        seed: of the choice.
    """
    chosen = np.flatnonzero(shown)
    corners = vertices[mesh.triangles[chosen]].astype(np.float64)
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    importance = np.where((mesh.inside | mesh.fine)[chosen], phase.importance, 1.0)
    extra = (mesh.inside | mesh.lips)[chosen]
    faces, stands_for = share_out(areas, importance, extra, count or len(areas), seed)
    return bind(
        vertices,
        mesh.triangles,
        chosen[faces],
        stands_for,
        config.sh_degree,
        config.shapes,
        config.bands,
        phase.opacity,
        seed,
    )


def color_first(
    renderer: Renderer, inside: np.ndarray, coefficients: Coefficients, image: np.ndarray, camera: Camera
) -> None:
    """Give the first Gaussians the colours of a frame `[H, W, 3]` uint8; those inside the mouth are dark."""
    with torch.no_grad():
        means = renderer.place(coefficients).means.cpu().numpy()
    pose, intrinsics = (part.cpu().numpy() for part in camera[:2])
    hidden = inside[renderer.gaussians.faces.cpu().numpy(), None]
    paint(renderer.gaussians, np.where(hidden, DARK, pick_colors(means, image, pose, intrinsics)))


def renderer_losses(
    raster: Raster,
    target: Tensor,
    face: Tensor,
    lips: tuple[int, int, int, int],
    gaussians: BoundField,
    phase: RendererPhase,
    on: Mapping[str, float],
    distance: losses.Distance | None = None,
) -> dict[str, Tensor]:
    """Compare a face drawn over a plain backdrop with its frame, and hold the Gaussians to their triangles.

    Args:
        raster: of the face's crop.
        target: `[H, W, 3]` the frame where the face is, the backdrop elsewhere.
        face: `[H, W]` bool, where the parser sees the face, inside of the mouth included, and the mesh has it.
        lips: left, top, right, bottom of the lips in the crop, pixels.
        gaussians: what was drawn.
        phase: gives the reach of both hinges.
        on: how much each term counts now.
        distance: LPIPS, if it is asked for.

    Returns:
        Weighted terms, those that count.
    """
    shown = torch.where(face[..., None], raster.image, target)
    seen = raster.radii > 0
    height, width = face.shape

    def mean(values: Tensor) -> Tensor:
        return values[seen].sum() / seen.sum().clamp(min=1)

    def perceptual() -> Tensor:
        assert distance is not None
        return losses.box_distance(shown, target, (0, 0, width, height), distance)

    return weighed(
        on,
        {
            "image": lambda: (shown - target).abs().sum() / (3 * face.sum().clamp(min=1)),
            "face_lpips": perceptual,
            "structure": lambda: 1 - ssim(shown, target),
            "mouth_box": lambda: losses.box_l1(shown, target, lips),
            "position": lambda: mean(F.relu(gaussians.means.norm(dim=1) - phase.position_reach)),
            "scale": lambda: mean(F.relu(gaussians.scales - phase.scale_reach).norm(dim=1)),
            "silhouette": lambda: (raster.alpha - face.float()).abs().mean(),
        },
    )


def compose(face: Raster, frame: Tensor, torso: Tensor, own: Tensor) -> Tensor:
    """Put a face that was drawn over black into the frame whose pose it has.

    Where that frame shows its own face before neck and cloth, these are taken instead: a chin that is lower than the
    new one must not show below it.

    Args:
        face: the drawn face.
        frame: `[H, W, 3]` the frame.
        torso: `[H, W, 4]` neck and cloth with what the head hides painted in, straight colours and alpha.
        own: `[H, W]` bool, the frame's own face.

    Returns:
        `[H, W, 3]`.
    """
    hidden = torso[..., 3:] * own[..., None]
    return over(face.image, face.alpha, frame + hidden * (torso[..., :3] - frame))
