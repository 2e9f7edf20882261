"""TalkingGaussian (Li et al., ECCV 2024): a talking head as two deforming sets of 3D Gaussians.

A *face* field (skin, lips, hair, ears) and a field for the *inside of the mouth* each persist over the whole clip. Only
their geometry moves: a tri-plane grid over the head's space says, at every Gaussian, how sound and expression displace
it. The face is drawn over the mouth, and both over torso and background.

Settings are those of the released code, which differ from the paper's text: grids of 16 to 38.4 (face) and 64 to 57.6
(mouth) lattice points, six action units. Of the ways in which we depart from it, two matter: gaze is an input, and the
change of opacity, which the released network computes but never applies, does not exist here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor, nn

from models import losses
from models.encoders.hashgrid import HashGrid, encode
from models.errors import InputError
from models.gaussians.compositing import over
from models.gaussians.field import GaussianField
from models.gaussians.rasterize import Raster, rasterize
from models.gaussians.rotation import multiply, rotate
from models.gaussians.spherical_harmonics import evaluate_sh
from models.methods.audio_encoder import AUDIO_CODE, AudioEncoder
from models.methods.talking_gaussian_config import Config, GridLayout
from models.methods.talking_gaussian_phases import FacePhase, MotionPhase
from models.morphology import grow
from models.perceptron import Perceptron, perceive
from models.schedule import weighed

ACTION_UNITS = ("AU01", "AU04", "AU05", "AU06", "AU07", "AU45")
EXPRESSION_SIZE = len(ACTION_UNITS) + 4  # and gaze down, up, right, left
MIXED_UNITS = 5  # the first ones pass a small network together; blink and gaze go in as they are
SMILE = ACTION_UNITS.index("AU06")  # cheeks rise with a smile, which sound cannot tell: the lips may attend to it
TURN_M = 0.1
"""Corrections of poses measure a turn by the way of a point so far from the pivot: all six numbers are lengths."""


# --------------------------------------------------------------------------------------------------- networks


class TriPlane(nn.Module):
    """Grid features at points of the head's space."""

    def __init__(self, resolution: tuple[int, float], config: Config, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.grid = HashGrid(
            config.grid_levels, 1, resolution[0], resolution[1], bound=config.bound_m, convention=config.grid_layout
        )
        self.table = nn.Parameter(self.grid.new_table(generator))
        self.center: Tensor  # [3] metres
        self.register_buffer("center", torch.zeros(3))

    def forward(self, points: Tensor) -> Tensor:
        """Look `[N, 3]` points up: `[N, 36]`. Points are constants: motion shall not pull Gaussians about."""
        return encode(points.detach() - self.center, self.table, self.grid)


class Deformation(NamedTuple):
    """How Gaussians differ from their rest state in one frame (leading axis B of a batch, if any)."""

    means: Tensor
    """`[..., N, 3]` metres."""
    quats: Tensor | None = None
    """`[..., N, 4]` added before normalising."""
    raw_scales: Tensor | None = None
    """`[..., N, 3]` added before softplus."""

    def frame(self, index: int) -> Deformation:
        """Take one frame of a batch."""
        quats, raw_scales = (None if part is None else part[index] for part in (self.quats, self.raw_scales))
        return Deformation(self.means[index], quats, raw_scales)

    def plus(self, other: Deformation) -> Deformation:
        """Add another one of the same kind."""
        quats = None if self.quats is None or other.quats is None else self.quats + other.quats
        scales = None if self.raw_scales is None or other.raw_scales is None else self.raw_scales + other.raw_scales
        return Deformation(self.means + other.means, quats, scales)

    def over(self, count: float) -> Deformation:
        """Divide by `count`."""
        quats, raw_scales = (None if part is None else part / count for part in (self.quats, self.raw_scales))
        return Deformation(self.means / count, quats, raw_scales)


class FacePoints(NamedTuple):
    """What the face's motion field knows of points before it hears anything."""

    features: Tensor
    """`[36 + 32 + E, N]`: of the grid, then how much each number of the sound's code and of the expression matters."""

    @property
    def audio_attention(self) -> Tensor:
        """How much each number of the sound's code matters at each point, `[N, 32]`."""
        return self.features[-EXPRESSION_SIZE - AUDIO_CODE : -EXPRESSION_SIZE].t()

    @property
    def expression_attention(self) -> Tensor:
        """How much each action unit and gaze direction matters at each point, `[N, E]`."""
        return self.features[-EXPRESSION_SIZE:].t()

    def maps(self) -> Tensor:
        """Return how much sound and expression matter at each point, `[N, 2]`."""
        return torch.stack([self.audio_attention.norm(dim=1), self.expression_attention.norm(dim=1)], 1)


class FaceMotion(nn.Module):
    """Sound and expression to displacement, rotation and scale of face Gaussians, attended region by region."""

    def __init__(self, config: Config, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.audio = AudioEncoder(config.audio_size)
        self.planes = TriPlane(config.face_grid, config, generator)
        size = self.planes.grid.output_size
        self.audio_attention = Perceptron(size, 32, AUDIO_CODE)
        self.expression_attention = Perceptron(size, 16, EXPRESSION_SIZE)
        self.units = Perceptron(MIXED_UNITS, 16, MIXED_UNITS)
        self.decoder = Perceptron(size + AUDIO_CODE + EXPRESSION_SIZE, 64, 64, 3 + 4 + 3)
        self.expression_scale: Tensor  # [E] what the inputs are divided by
        self.register_buffer("expression_scale", torch.ones(EXPRESSION_SIZE))

    def look_up(self, points: Tensor) -> FacePoints:
        """Prepare `[N, 3]` points; the result serves for all frames as long as nothing is trained."""
        grid = self.planes(points).t()
        # Each starts at 1: where the released network, which starts at 0, happens to begin below, its ReLU lets no
        # gradient through, and lids that do not listen to the blink at first never will.
        seen = torch.relu(1 + self.expression_attention(grid))
        return FacePoints(torch.cat([grid, self.audio_attention(grid), seen]))

    def forward(self, points: FacePoints, audio: Tensor, expression: Tensor) -> Deformation:
        """Deform points for a batch of frames.

        Args:
            points: of `look_up`.
            audio: `[B, 8, D, W]` windows.
            expression: `[B, E]` action units and gaze as the record has them.
        """
        code, units = self.audio(audio), expression / self.expression_scale
        units = torch.cat([self.units(units[:, :MIXED_UNITS].t()).t(), units[:, MIXED_UNITS:]], 1)
        first, *rest = self.decoder.weights
        # Attention times code and units is what the decoder sees: here they are factors of its first layer.
        factors = torch.cat([code.new_ones(len(code), first.shape[1] - AUDIO_CODE - EXPRESSION_SIZE), code, units], 1)
        out = perceive(points.features, first * factors[:, None], None, *rest)
        means, quats, raw_scales = out.split([3, 4, 3], 1)
        return Deformation(means.mT * self.config.motion_m, quats.mT, raw_scales.mT)


class MouthMotion(nn.Module):
    """Sound to displacement of the Gaussians inside the mouth."""

    def __init__(self, config: Config, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.audio = AudioEncoder(config.audio_size)
        self.planes = TriPlane(config.mouth_grid, config, generator)
        self.decoder = Perceptron(self.planes.grid.output_size + AUDIO_CODE, 32, 32, 3)
        self.reach: Tensor  # [3] metres
        self.register_buffer("reach", torch.tensor(config.mouth_directions) * config.motion_m)

    def look_up(self, points: Tensor) -> Tensor:
        """Prepare `[N, 3]` points: their grid features `[36, N]`."""
        return self.planes(points).t()

    def forward(self, points: Tensor, audio: Tensor, expression: Tensor | None = None) -> Deformation:
        """Deform points for a batch of frames; the expression is not used (the face's signature)."""
        code = self.audio(audio)
        first, *rest = self.decoder.weights
        of_grid, of_code = first.split([len(points), AUDIO_CODE], 1)
        out = perceive(points, of_grid.expand(len(code), -1, -1), code @ of_code.t(), *rest).mT
        return Deformation(out * self.reach)


# ---------------------------------------------------------------------------------------------------- drawing


class Camera(NamedTuple):
    """A pinhole camera; a crop of its image is a camera, too."""

    world_to_camera: Tensor  # [4, 4]
    intrinsics: Tensor  # [3, 3]
    width: int
    height: int

    def crop(self, left: int, top: int, width: int, height: int) -> Camera:
        """Return the camera of a part of the image, in pixels."""
        shifted = self.intrinsics.clone()
        shifted[0, 2] -= left
        shifted[1, 2] -= top
        return Camera(self.world_to_camera, shifted, width, height)

    @property
    def center(self) -> Tensor:
        """Where it stands `[3]`, head frame."""
        return -self.world_to_camera[:3, :3].T @ self.world_to_camera[:3, 3]


def draw(
    gaussians: GaussianField,
    camera: Camera,
    deformation: Deformation | None = None,
    background: Tensor | None = None,
    degree: int | None = None,
) -> Raster:
    """Draw a field as it is deformed in one frame, its colours up to `degree`; colour and opacity never change."""
    means, quats, raw_scales = gaussians.means, gaussians.quats, gaussians.raw_scales
    if deformation is not None:
        means = means + deformation.means
        quats = quats if deformation.quats is None else quats + deformation.quats
        raw_scales = raw_scales if deformation.raw_scales is None else raw_scales + deformation.raw_scales
    colors = evaluate_sh(means, camera.center, gaussians.coefficients, degree)
    scales = nn.functional.softplus(raw_scales)
    return rasterize(means, quats, scales, gaussians.opacities, colors, *camera, background)


def draw_maps(gaussians: GaussianField, camera: Camera, deformation: Deformation, maps: Tensor) -> Tensor:
    """Splat `[N, 2]` attention maps to `[H, W, 2]`; no gradient reaches the geometry."""
    means = (gaussians.means + deformation.means).detach()
    quats = gaussians.quats.detach() if deformation.quats is None else (gaussians.quats + deformation.quats).detach()
    scales, opacities = gaussians.scales.detach(), gaussians.opacities.detach()
    return rasterize(means, quats, scales, opacities, maps, *camera).image


def compose(face: Raster, mouth: Raster, behind: Tensor, dilation: int = 0) -> Tensor:
    """Face over mouth over what is behind them.

    Args:
        face: drawn over black.
        mouth: drawn over black, same size.
        behind: `[H, W, 3]` torso over background.
        dilation: the mouth hides what is behind it so many pixels farther than it is drawn: there is no bright gap
            between teeth and lips, but a dark one.

    Returns:
        `[H, W, 3]`.
    """
    return over(face.image, face.alpha, over(mouth.image, grow(mouth.alpha, dilation), behind))


def shifted(gaussians: GaussianField, deformation: Deformation | None, twist: Tensor, pivot: Tensor) -> Deformation:
    """Move a deformed field as a whole: what moving the camera the other way does, with a gradient.

    Args:
        gaussians: the field.
        deformation: of the frame; None: at rest.
        twist: `[6]` turn (axis times angle times 10 cm) and shift, metres; small.
        pivot: `[3]` what the field turns about.
    """
    deformation = Deformation(torch.zeros_like(gaussians.means)) if deformation is None else deformation
    turn = torch.cat([twist.new_ones(1), twist[:3] / (2 * TURN_M)])
    means = rotate(turn, gaussians.means + deformation.means - pivot) + pivot + twist[3:]
    quats = gaussians.quats if deformation.quats is None else gaussians.quats + deformation.quats
    return deformation._replace(means=means - gaussians.means, quats=multiply(turn, quats) - gaussians.quats)


# ------------------------------------------------------------------------------------------------------ losses


def face_losses(
    raster: Raster,
    target: Tensor,
    head: Tensor,
    mouth_box: tuple[int, int, int, int],
    on: Mapping[str, float],
    rim: int = 0,
) -> dict[str, Tensor]:
    """Compare a face drawn over a background with its target.

    Args:
        raster: of the face's crop.
        target: `[H, W, 3]` the frame where the face is seen, the background elsewhere.
        head: `[H, W]` 1 where the face is seen.
        mouth_box: left, top, right, bottom of the lips in the crop, pixels.
        on: how much each term counts now, see `models.schedule.weights_at`.
        rim: coverage is not asked for so near to the head's edge, pixels.

    Returns:
        Weighted terms, those that count.
    """
    return weighed(
        on,
        {
            "image": lambda: losses.photometric(raster.image, target, on["structure"]),
            "mouth_box": lambda: losses.box_l1(raster.image, target, mouth_box),
            "alpha": lambda: losses.away_from_rim(raster.alpha, head, rim),
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
    """Return the mean absolute displacement, in units of metres, quaternions and raw scales."""
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
        keep = batch.is_lip
        shape = losses.centred_distance(pixels[:, keep], batch.points[:, keep], batch.weights[:, keep])
        total = total + phase.lip_shape * shape
    return total


def lip_attention(points: FacePoints, batch: LandmarkBatch) -> Tensor:
    """Return how much the lips' landmarks attend to action units and gaze, the raised cheeks of a smile left out.

    A clip is short enough for brows and glances to explain its lips by chance.
    """
    others = [number for number in range(EXPRESSION_SIZE) if number != SMILE]
    return points.expression_attention[batch.is_lip][:, others].mean()


class LandmarkBatch(NamedTuple):
    """Tracked landmarks of B frames and what the field is given for them."""

    audio: Tensor  # [B, 8, D, W]
    expression: Tensor  # [B, E]
    world_to_camera: Tensor  # [B, 4, 4]
    points: Tensor  # [B, L, 2] pixels
    weights: Tensor  # [B, L] 0 where absent
    is_lip: Tensor  # [L] bool
    is_lid: Tensor  # [L] bool


# ------------------------------------------------------------------------------------------------ a head's halves


@dataclass
class Branch:
    """One Gaussian field and the networks that move it."""

    gaussians: GaussianField
    motion: FaceMotion | MouthMotion

    def deform(self, audio: Tensor, expression: Tensor) -> Deformation:
        """Deform for a batch of frames."""
        return self.motion(self.motion.look_up(self.gaussians.means), audio, expression)

    def to(self, device: str) -> Branch:
        """Return the branch on `device`."""
        return Branch(self.gaussians.to(device), self.motion.to(device))

    def tensors(self, prefix: str) -> dict[str, np.ndarray]:
        """Return all parameters as arrays named `prefix`/..."""
        named = {f"gaussians/{name}": tensor for name, tensor in self.gaussians.tensors().items()}
        named |= {f"motion/{name}": tensor for name, tensor in self.motion.state_dict().items()}
        return {f"{prefix}/{name}": tensor.detach().cpu().numpy().copy() for name, tensor in named.items()}

    @staticmethod
    def from_tensors(
        kind: type[FaceMotion] | type[MouthMotion], config: Config, arrays: dict[str, np.ndarray], prefix: str
    ) -> Branch:
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


AnyMotion = TypeVar("AnyMotion", bound=FaceMotion | MouthMotion)


def load_motion(motion: AnyMotion, arrays: dict[str, np.ndarray], name: str) -> AnyMotion:
    """Give `motion` stored weights.

    Args:
        motion: built from the configuration that was stored with them.
        arrays: the weights by name.
        name: what the error calls them.

    Raises:
        InputError: the weights are not those of such networks, or their grid is laid out in another way.
    """
    grid, table = motion.planes.grid, arrays.get("planes.table")
    for layout in get_args(GridLayout):
        other = replace(grid, convention=layout)
        if table is not None and table.shape != grid.table_shape and table.shape == other.table_shape:
            raise InputError(
                f"{name}: its grid is laid out as {layout}, but its record says {grid.convention}",
                "a table that is read in another layout than it was trained in renders nonsense",
                f"train it again with grid_layout: {grid.convention}, or correct what wrote the record",
            )
    try:
        motion.load_state_dict({key: torch.from_numpy(array.copy()) for key, array in arrays.items()})
    except RuntimeError as error:
        raise InputError(f"{name}: these are not weights of {type(motion).__name__}", str(error)) from error
    return motion


def under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the entries named `prefix`/..., the prefix taken off."""
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{prefix}/")}
