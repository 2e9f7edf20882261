"""TalkingGaussian (Li et al., ECCV 2024): a talking head as two deforming sets of 3D Gaussians.

A *face* field (skin, lips, hair, ears) and a field for the *inside of the mouth* each persist over the whole clip. Only
their geometry moves: a tri-plane grid over the head's space says, at every Gaussian, how sound and expression displace
it. The face is drawn over the mouth, and both over torso and background.

Settings are those of the released code, which differ from the paper's text: grids of 16 to 38.4 (face) and 64 to 57.6
(mouth) lattice points, six action units. Of the ways in which we depart from it, three matter: gaze is an input; the
change of opacity, which the released network computes but never applies, does not exist here unless it is applied; and
sound moves a head that is drawn farther than one that is trained (articulation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models import losses
from models.errors import InputError
from models.gaussians.camera import Camera
from models.gaussians.compositing import over
from models.gaussians.field import GaussianField
from models.gaussians.rasterize import Raster, rasterize
from models.gaussians.spherical_harmonics import evaluate_sh
from models.methods.talking_gaussian_config import SMILE, Config
from models.methods.talking_gaussian_networks import (
    AnyMotion,
    Deformation,
    FaceMotion,
    FacePoints,
    load_motion,
)
from models.methods.talking_gaussian_networks import (
    MouthMotion as MouthMotion,
)
from models.methods.talking_gaussian_phases import FacePhase, MotionPhase
from models.replay import Replay
from models.schedule import weighed

# ---------------------------------------------------------------------------------------------------- drawing


def draw(
    gaussians: GaussianField,
    camera: Camera,
    deformation: Deformation | None = None,
    background: Tensor | None = None,
    degree: int | None = None,
) -> Raster:
    """Draw a field as it is deformed in one frame.

    Args:
        gaussians: the field.
        camera: what sees it.
        deformation: nothing moves if not given.
        background: `[3]`, black if not given.
        degree: of the spherical harmonics that are drawn; all if not given.
    """
    means, quats, scales, opacities = shape_of(gaussians, deformation)
    colors = evaluate_sh(means, camera.center, gaussians.coefficients, degree)
    if deformation is not None and deformation.colors is not None:
        colors = torch.relu(colors + deformation.colors)  # light is never negative
    return rasterize(means, quats, scales, opacities, colors, *camera, background)


def shape_of(gaussians: GaussianField, deformation: Deformation | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return means, quaternions, scales and opacities of a field as it is deformed in one frame."""
    rest = gaussians.means, gaussians.quats, gaussians.raw_scales, gaussians.raw_opacities
    means, quats, raw_scales, raw_opacities = (
        part if change is None else part + change
        for part, change in zip(rest, (deformation or [None] * 4)[:4], strict=True)
    )
    return means, quats, nn.functional.softplus(raw_scales), torch.sigmoid(raw_opacities)


def draw_maps(gaussians: GaussianField, camera: Camera, deformation: Deformation, maps: Tensor) -> Tensor:
    """Splat `[N, 2]` attention maps to `[H, W, 2]`; no gradient reaches the geometry."""
    means, quats, scales, opacities = (part.detach() for part in shape_of(gaussians, deformation))
    return rasterize(means, quats, scales, opacities, maps, *camera).image


def compose(face: Raster, mouth: Raster, behind: Tensor) -> Tensor:
    """Face over mouth over what is behind them.

    Args:
        face: drawn over black.
        mouth: drawn over black, same size.
        behind: `[H, W, 3]` torso over background.

    Returns:
        `[H, W, 3]`.
    """
    return over(face.image, face.alpha, over(mouth.image, mouth.alpha, behind))


# ------------------------------------------------------------------------------------------------------ losses


def face_losses(
    raster: Raster,
    target: Tensor,
    head: Tensor,
    mouth_box: tuple[int, int, int, int],
    on: Mapping[str, float],
) -> dict[str, Tensor]:
    """Compare a face drawn over a background with its target.

    Args:
        raster: of the face's crop.
        target: `[H, W, 3]` the frame where the face is seen, the background elsewhere.
        head: `[H, W]` 1 where the face is seen.
        mouth_box: left, top, right, bottom of the lips in the crop, pixels.
        on: how much each term counts now, see `models.schedule.weights_at`.

    Returns:
        Weighted terms, those that count.
    """
    return weighed(
        on,
        {
            "image": lambda: losses.photometric(raster.image, target, on["structure"]),
            "mouth_box": lambda: losses.box_l1(raster.image, target, mouth_box),
            "alpha": lambda: losses.coverage(raster.alpha, head),
        },
    )


def perceptual_losses(
    image: Tensor,
    target: Tensor,
    behind: Tensor,
    on: Mapping[str, float],
    distance: losses.Distance,
    side: int,
    lips: tuple[int, int, int, int] | None = None,
    small_crops: bool = False,
) -> dict[str, Tensor]:
    """Compare how a picture looks: the box of the lips, then patches of the rest.

    Args:
        image: `[H, W, 3]`.
        target: the same.
        behind: `[3]` what the lips' box is painted with for the patches, where it has been compared.
        on: how much `lip_lpips` and `patch_lpips` count now.
        distance: LPIPS.
        side: of the patches, pixels.
        lips: left, top, right, bottom of the lips.
        small_crops: see `models.losses.box_distance`.
    """
    terms: dict[str, Tensor] = {}
    if lips is not None and on.get("lip_lpips"):
        terms["lip_lpips"] = on["lip_lpips"] * losses.box_distance(image, target, lips, distance, small_crops)
        painted = torch.ones(image.shape[:2], dtype=torch.bool, device=image.device)
        painted[max(0, lips[1]) : max(0, lips[3]), max(0, lips[0]) : max(0, lips[2])] = False
        image, target = (torch.where(painted[..., None], picture, behind) for picture in (image, target))
    if on.get("patch_lpips"):
        terms["patch_lpips"] = on["patch_lpips"] * losses.patch_distance(image, target, side, distance)
    return terms


def mouth_losses(raster: Raster, target: Tensor, box: Tensor, on: Mapping[str, float]) -> dict[str, Tensor]:
    """Compare the inside of the mouth drawn over a background with its target.

    Args:
        raster: of the mouth's crop; its image with what the lips hide taken from the target, see `behind_lips`.
        target: `[H, W, 3]` the frame inside the mouth, the background elsewhere.
        box: `[H, W]` bool, the lips' box: asked to be opaque, so that the inside goes on behind the lips.
        on: how much each term counts now.
    """
    return weighed(
        on,
        {
            "image": lambda: losses.photometric(raster.image, target, on["structure"]),
            "inside": lambda: (raster.image - target).abs().mean(),
            "alpha": lambda: losses.coverage(raster.alpha, box.float()),
        },
    )


def behind_lips(raster: Raster, target: Tensor, mouth: Tensor, box: Tensor) -> Raster:
    """Leave out of a mouth's picture what the lips hide: in their box only pixels of the mouth itself are compared.

    Args:
        raster: as drawn.
        target: `[H, W, 3]`.
        mouth: `[H, W]` bool, inside of the mouth.
        box: `[H, W]` bool, the lips' box.
    """
    return raster._replace(image=torch.where((box & ~mouth)[..., None], target, raster.image))


def motion_size(deformation: Deformation) -> Tensor:
    """Return the mean absolute displacement, in units of metres, quaternions, raw scales, raw opacities and colours."""
    return sum((part.abs().mean() for part in deformation if part is not None), torch.zeros(()))


def landmark_losses(
    motion: FaceMotion,
    points: FacePoints,
    rest: Tensor,
    batch: LandmarkBatch,
    intrinsics: Tensor,
    phase: MotionPhase | FacePhase,
) -> Tensor:
    """Move the rest landmarks as the field says and compare them with the tracked ones.

    Args:
        motion: the field.
        points: what it looks up at the rest landmarks.
        rest: `[L, 3]` landmarks of the neutral face, metres.
        batch: what is known of B frames.
        intrinsics: `[3, 3]`.
        phase: gives the weights of lips and lids, and of the lips' shape alone.
    """
    return landmark_distance(landmark_pixels(motion, points, rest, batch, intrinsics), batch, phase)


def landmark_pixels(
    motion: FaceMotion, points: FacePoints, rest: Tensor, batch: LandmarkBatch, intrinsics: Tensor
) -> Tensor:
    """Return where the field moves the rest landmarks in B frames, `[B, L, 2]` pixels; see `landmark_losses`."""
    moved = rest + motion(points, batch.audio, batch.expression).means
    return losses.project(moved, batch.world_to_camera, intrinsics)


def landmark_distance(pixels: Tensor, batch: LandmarkBatch, phase: MotionPhase | FacePhase) -> Tensor:
    """Compare landmarks `[B, L, 2]` with the tracked ones."""
    importance = torch.where(batch.is_lip, phase.lips, torch.where(batch.is_lid, phase.lids, 1.0))
    total = losses.robust_distance(pixels, batch.points, batch.weights * importance)
    if phase.lip_shape:
        lips = batch.lips
        shape = losses.centred_distance(pixels[:, lips], batch.points[:, lips], batch.weights[:, lips])
        total = total + phase.lip_shape * shape
    return total


def lip_attention(points: FacePoints, batch: LandmarkBatch) -> Tensor:
    """Return how much the lips' landmarks attend to action units and gaze, the raised cheeks of a smile left out.

    A clip is short enough for brows and glances to explain its lips by chance.
    """
    others = [number for number, name in enumerate(points.config.told) if name != SMILE]
    return points.expression_attention[batch.lips][:, others].mean()


class LandmarkBatch(NamedTuple):
    """Tracked landmarks of B frames and what the field is given for them."""

    audio: Tensor  # [B, 8, D, W]
    expression: Tensor  # [B, E]
    world_to_camera: Tensor  # [B, 4, 4]
    points: Tensor  # [B, L, 2] pixels
    weights: Tensor  # [B, L] 0 where absent
    lips: Tensor  # numbers of those of the lips: a mask would let a GPU wait
    is_lip: Tensor  # [L] bool
    is_lid: Tensor  # [L] bool


# ------------------------------------------------------------------------------------------------ a head's halves


@dataclass
class Branch(Generic[AnyMotion]):
    """One Gaussian field and the networks that move it."""

    gaussians: GaussianField
    motion: AnyMotion

    def __post_init__(self) -> None:
        self._move = Replay(self._moved, self.motion, rows=1)

    def look_up(self) -> Any:
        """Return what `motion` knows of the Gaussians; it serves for all frames as long as nothing is trained."""
        return self.motion.look_up(self.gaussians.means)

    def move(self, audio: Tensor, expression: Tensor | None = None) -> tuple[Deformation, Any]:
        """Deform for one frame while training; also return what `look_up` does.

        Args:
            audio: `[1, 8, D, W]`.
            expression: `[1, E]`; only the face is told.
        """
        return self._move(self.gaussians.means.detach(), audio, expression)

    def _moved(self, means: Tensor, audio: Tensor, expression: Tensor | None) -> tuple[Deformation, Any]:
        points = self.motion.look_up(means)
        return self.motion(points, audio, expression).frame(0), points

    def to(self, device: str) -> Branch[AnyMotion]:
        """Return the branch on `device`."""
        return Branch(self.gaussians.to(device), self.motion.to(device))

    def tensors(self, prefix: str) -> dict[str, np.ndarray]:
        """Return all parameters as arrays named `prefix`/..."""
        named = {f"gaussians/{name}": tensor for name, tensor in self.gaussians.tensors().items()}
        named |= {f"motion/{name}": tensor for name, tensor in self.motion.state_dict().items()}
        return {f"{prefix}/{name}": tensor.detach().cpu().numpy().copy() for name, tensor in named.items()}

    @staticmethod
    def from_tensors(
        kind: type[AnyMotion], config: Config, arrays: dict[str, np.ndarray], prefix: str
    ) -> Branch[AnyMotion]:
        """Undo `tensors`.

        Raises:
            InputError: the arrays are not those of such a head.
        """
        named = under(arrays, prefix)
        parameters = {name: torch.from_numpy(array.copy()) for name, array in under(named, "gaussians").items()}
        try:
            gaussians = GaussianField(**parameters)
        except TypeError as error:
            raise InputError(f"{prefix}: not the Gaussians of a TalkingGaussian head", str(error)) from error
        return Branch(gaussians, load_motion(kind(config), under(named, "motion"), prefix))


def under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the entries named `prefix`/..., the prefix taken off."""
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{prefix}/")}
