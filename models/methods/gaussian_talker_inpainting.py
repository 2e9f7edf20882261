"""GaussianTalker's Inpainting Generator: the drawn face back into the frame whose pose it has.

The frame's own chin may be lower than the one that was drawn, and must not show below it. So the frame's own face is
cut out as well as what was drawn, both with a margin, and a U-Net of gated convolutions (Yu et al., "Free-form image
inpainting with gated convolution", ICCV 2019, section 3.1) paints what is behind them. What need not be invented is
not: the drawn face stays as it is, and of what was painted is taken only what lies where the frame's own face was and
the drawn one is not. Where it was the renderer says, drawing it with the frame's own motion: a parser's contour is a
pixel off, and would have neck and cloth beside an unmoved chin painted anew. It is taught by frames as if their jaw had
been lower.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import losses
from models.gaussians.bound import Placed
from models.gaussians.camera import Camera
from models.gaussians.compositing import over
from models.gaussians.rasterize import Raster
from models.gaussians.rotation import rotate
from models.methods.gaussian_talker_config import InpaintingConfig
from models.methods.gaussian_talker_networks import LEAK
from models.morphology import grow, shrink
from models.schedule import weighed
from models.ssim import ssim_map

INPUTS = 3 + 3 + 1 + 1  # the frame without its face, the drawn face, its alpha, the hole
FAINT = 0.05  # alpha and opacity from which something is there
BARE = 0.25  # alpha from which a face covers what is behind it; below, it does in part
SLACK_PX = 1  # of a frame of 256; where a face moves by less, as along the hair, nothing is uncovered
SPECK_PX = 2  # at 256 pixels: what is painted has nothing smaller than twice that and one
REACH_M = 0.25  # half the side of the cube about the head's origin in which a face moves


# ------------------------------------------------------------------------------------------------------ the network


class GatedConv(nn.Module):
    """A convolution that says itself where it counts: features times the sigmoid of a gate, both of the same input."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.both = nn.Conv2d(inputs, 2 * outputs, 3, stride, 1)

    def forward(self, picture: Tensor) -> Tensor:
        """Return `[B, outputs, H / stride, W / stride]`."""
        features, gate = self.both(picture).chunk(2, 1)
        return F.leaky_relu(features, LEAK) * torch.sigmoid(gate)


class InpaintingBlock(nn.Module):
    """Two gated convolutions, the second beside a shortcut. No norm: colours must be those around."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = GatedConv(inputs, outputs, stride)
        self.second = GatedConv(outputs, outputs)

    def forward(self, picture: Tensor) -> Tensor:
        """Return `[B, outputs, H / stride, W / stride]`."""
        found = self.first(picture)
        return found + self.second(found)


class InpaintingGenerator(nn.Module):
    """A U-Net of Inpainting Blocks.

    It works on patches of `stem` times `stem` pixels, which are numbers of one pixel for it. It gives what is added to
    the colours around, which is nothing at first.
    """

    def __init__(self, config: InpaintingConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * 2**level for level in range(config.levels + 1)]
        self.enter = GatedConv(INPUTS * config.stem**2, widths[0])
        self.down = nn.ModuleList(InpaintingBlock(*pair, stride=2) for pair in zip(widths, widths[1:], strict=False))
        self.middle = nn.ModuleList(InpaintingBlock(widths[-1], widths[-1]) for _ in range(config.blocks))
        self.up = nn.ModuleList(
            InpaintingBlock(wide + narrow, narrow) for narrow, wide in zip(widths, widths[1:], strict=False)
        )
        self.leave = nn.Conv2d(widths[0], 3 * config.stem**2, 3, padding=1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(self, around: Tensor, face: Tensor, alpha: Tensor, hole: Tensor) -> Tensor:
        """Paint what is behind the faces.

        Args:
            around: `[B, 3, H, W]` the frame, black where the hole is.
            face: `[B, 3, H, W]` drawn over black.
            alpha: `[B, 1, H, W]` of it.
            hole: `[B, 1, H, W]` 1 where the frame is missing.

        Returns:
            `[B, 3, H, W]`, of which only the hole means anything.
        """
        height, width = alpha.shape[2:]
        around = spread(around, hole)
        given = torch.cat([around, face, alpha, hole], 1)
        step = self.config.stem * 2**self.config.levels
        given = F.pad(given, (0, -width % step, 0, -height % step), mode="replicate")
        found = self.enter(F.pixel_unshuffle(given, self.config.stem).contiguous(memory_format=torch.channels_last))
        passed = []
        for block in self.down:
            passed.append(found)
            found = block(found)
        for block in self.middle:
            found = block(found)
        for block, beside in zip(reversed(self.up), reversed(passed), strict=True):
            larger = F.interpolate(found, scale_factor=2.0, mode="nearest")
            found = block(torch.cat([larger, beside], 1))
        return around + F.pixel_shuffle(self.leave(found), self.config.stem)[..., :height, :width]


def spread(picture: Tensor, hole: Tensor) -> Tensor:
    """Fill the hole of a picture from ever coarser averages of what is around it (push-pull, Gortler et al., 1996).

    Args:
        picture: `[B, C, H, W]`, black where the hole is.
        hole: `[B, 1, H, W]` 1 where it is; where it is everything, the picture stays black.
    """
    known = 1 - hole
    if max(picture.shape[2:]) == 1:
        return picture
    half = [F.avg_pool2d(part, 2, ceil_mode=True) for part in (picture * known, known)]
    seen = half[1] > 0
    coarse = spread(torch.where(seen, half[0] / half[1].clamp(min=1e-6), 0.0), (~seen).to(hole))
    larger = F.interpolate(coarse, size=picture.shape[2:], mode="bilinear", align_corners=False)
    return torch.where(hole > 0, larger, picture)


# --------------------------------------------------------------------------------------------------------- the hole


def extremes(motions: Tensor, spread: int) -> list[int]:
    """Return which rows of `motions` `[T, D]` go farthest in any direction, and `spread` evenly between them."""
    chosen = {int(row) for ends in (motions.argmin(0), motions.argmax(0)) for row in ends}
    return sorted(chosen | set(torch.linspace(0, len(motions) - 1, min(spread, len(motions))).long().tolist()))


def reach_of(faces: Iterable[Placed], voxel: float) -> Tensor:
    """Return where a face can be, whatever it says: the middles `[P, 3]` of voxels that any of `faces` touches.

    Args:
        faces: the Gaussians of some expressions in the head frame.
        voxel: side of a voxel, metres.
    """
    side = round(2 * REACH_M / voxel)
    reached = torch.zeros(side**3, dtype=torch.bool)
    for placed in faces:
        there = placed.opacities > FAINT
        means, quats, scales = placed.means[there], placed.quats[there], placed.scales[there]
        sigmas = (2 * (placed.opacities[there] / FAINT).log()).sqrt()  # there it has become faint
        ends = [means]
        for axis in range(3):
            half = torch.zeros_like(scales)
            half[:, axis] = sigmas * scales[:, axis]
            ends += [means + rotate(quats, half), means - rotate(quats, half)]
        places = ((torch.cat(ends) + REACH_M) / voxel).long()
        places = places[((places >= 0) & (places < side)).all(1)].cpu()
        reached[(places[:, 0] * side + places[:, 1]) * side + places[:, 2]] = True
    number = torch.nonzero(reached)[:, 0]
    places = torch.stack([number // side**2, number // side % side, number % side], 1)
    return (places + 0.5) * voxel - REACH_M


def shifted(mask: Tensor, down: int, right: int) -> Tensor:
    """Return a mask or an alpha `[H, W]` moved by so many pixels; what comes in from the edges is empty."""
    height, width = mask.shape
    larger = F.pad(mask, (max(0, right), max(0, -right), max(0, down), max(0, -down)))
    return larger[max(0, -down) :, max(0, -right) :][:height, :width]


def feather(mask: Tensor, reach: int) -> Tensor:
    """Return a mask `[H, W]` whose edges rise evenly: nothing outside it, all of it at a depth of `reach` pixels.

    It grows by one `reach`-th with every pixel. The frame's own edges are no edges of the mask.
    """
    inside = mask.float()
    return torch.stack([shrink(inside, depth) for depth in range(max(1, reach))]).mean(0)


def without_specks(picture: Tensor, reach: int, where: Tensor) -> Tensor:
    """Return `[H, W, 3]` with the median of all pixels that are up to `reach` away (a square) in some places.

    Where skin, collar and room meet the generator is unsure pixel by pixel; edges stay.

    Args:
        picture: `[H, W, 3]`.
        reach: pixels.
        where: `[H, W]` bool.
    """
    side = 2 * reach + 1
    planes = F.pad(picture.permute(2, 0, 1)[None], (reach,) * 4, mode="replicate")[0]
    cleaned = picture.clone()
    cleaned[where] = planes.unfold(1, side, 1).unfold(2, side, 1)[:, where].flatten(-2).median(-1).values.t()
    return cleaned


class View(NamedTuple):
    """The part of a frame that the face can reach, the hole in it, and how much of what is painted there is taken."""

    rows: slice
    columns: slice
    hole: Tensor  # [h, w] bool, what of the frame the generator is not shown
    share: Tensor  # [h, w] 0..1 of what is painted, the rest is the frame
    face: Tensor  # [h, w, 3] drawn over black
    alpha: Tensor  # [h, w]


def composite(view: View, frame: Tensor, behind: Tensor) -> Tensor:
    """Put the drawn face before what was painted where the frame's own face was uncovered, elsewhere before the frame.

    Args:
        view: of the frame.
        frame: `[h, w, 3]` the view's part of it.
        behind: `[h, w, 3]` what was painted.

    Returns:
        `[h, w, 3]`: the frame itself where nothing is drawn and nothing uncovered.
    """
    return over(view.face, view.alpha, frame + view.share[..., None] * (behind - frame))


@dataclass
class Painter:
    """Puts a drawn face into the frame whose pose it has."""

    network: InpaintingGenerator
    reach: Tensor  # [P, 3] where the speaker's face can be, head frame, metres

    @torch.no_grad()
    def paint(self, raster: Raster, camera: Camera, frame: Tensor, own: Tensor) -> Tensor:
        """Return the picture `[H, W, 3]`; where nothing is drawn and nothing uncovered it is the frame, bit for bit.

        Args:
            raster: the drawn face, over black.
            camera: of the frame.
            frame: `[H, W, 3]` in 0..1.
            own: `[H, W]` alpha of the frame's own face, drawn with the frame's own motion.
        """
        view = self.view(raster, camera, own)
        before = frame[view.rows, view.columns]
        picture = frame.clone()
        behind = before
        if view.share.any():
            reach = round(SPECK_PX * scale_of(camera))
            behind = without_specks(self.fill(view, before), reach, view.share > 0)  # all of it would take 13 ms
        picture[view.rows, view.columns] = composite(view, before, behind).clamp(0, 1)
        return picture

    def fill(self, view: View, frame: Tensor) -> Tensor:
        """Return what the generator paints behind the faces `[h, w, 3]`, of which only the hole means anything.

        Args:
            view: of the frame.
            frame: `[h, w, 3]` the view's part of it.
        """
        hole = view.hole[None, None].float()
        around, face = (part.permute(2, 0, 1)[None] for part in (frame, view.face))
        return self.network(around * (1 - hole), face, view.alpha[None, None], hole)[0].permute(1, 2, 0)

    def view(self, raster: Raster, camera: Camera, own: Tensor) -> View:
        """Return the part of the frame that the face can reach, and what there is painted; see `paint`.

        The hole is what was drawn and the frame's own face, with a margin. Uncovered is the frame's own face where the
        drawn one is not, with that margin too: the true edge of a face may be a pixel beside the drawn one. It comes
        and goes with the alpha of both, lest the seam flicker while a jaw moves.
        """
        config, scale = self.network.config, scale_of(camera)
        margin, width, context = (
            round(length * scale) for length in (config.margin_px, config.feather_px, config.context_px)
        )
        columns, rows, size = self._project(camera)
        rows_part, columns_part = (
            _part(places, limit, size + margin + context)
            for places, limit in ((rows, camera.height), (columns, camera.width))
        )
        alpha, own = (part.detach().float()[rows_part, columns_part] for part in (raster.alpha, own))
        hole = grow(torch.maximum(own, alpha) > FAINT, margin)
        covered = grow(alpha, round(SLACK_PX * scale)).clamp(min=FAINT)
        bare = (own.clamp(max=BARE) - covered).clamp(min=0) / (BARE - FAINT)
        share = feather(grow(bare, margin), width)
        return View(rows_part, columns_part, hole, share, raster.image.detach()[rows_part, columns_part], alpha)

    def share(self, raster: Raster, camera: Camera, own: Tensor) -> Tensor:
        """Return how much of a whole frame is taken from what is painted `[H, W]` 0..1; see `paint`."""
        view, whole = self.view(raster, camera, own), torch.zeros_like(raster.alpha)
        whole[view.rows, view.columns] = view.share
        return whole

    def _project(self, camera: Camera) -> tuple[Tensor, Tensor, int]:
        """Return columns and rows `[P]` of where the face can be, and how many pixels a voxel is there at most."""
        pose, intrinsics = camera.world_to_camera, camera.intrinsics
        points = self.reach @ pose[:3, :3].T + pose[:3, 3]
        depth = points[:, 2].clamp(min=1e-3)
        places = points[:, :2] / depth[:, None] * torch.stack([intrinsics[0, 0], intrinsics[1, 1]]) + intrinsics[:2, 2]
        size = self.network.config.voxel_m * float(intrinsics[0, 0] / depth.min())
        return places[:, 0].floor().long(), places[:, 1].floor().long(), math.ceil(size / 2)


def _part(places: Tensor, limit: int, border: int) -> slice:
    """Return what lies within `border` of `places`, as far as the picture goes; at least its first or last pixel."""
    first, last = (int(end) for end in (places.min(), places.max()))
    start = min(max(0, first - border), limit - 1)
    return slice(start, max(start + 1, min(limit, last + 1 + border)))


def scale_of(camera: Camera) -> float:
    """Return how much larger than 256 pixels the frame is."""
    return max(camera.width, camera.height) / 256


# ----------------------------------------------------------------------------------------------------------- losses


def inpainting_losses(
    painted: Tensor,
    target: Tensor,
    view: View,
    own: Tensor,
    foreign: bool,
    on: Mapping[str, float],
    distance: losses.Distance | None = None,
) -> dict[str, Tensor]:
    """Compare the picture with the frame where something of what was painted is taken, and the frame tells the truth.

    Of a face that was drawn with the frame's own expression the frame tells all. Drawn with another one, it is right
    only where neither its own face nor the drawn one is: what lies behind them does not move with the mouth.

    Args:
        painted: `[h, w, 3]` behind the faces.
        target: `[h, w, 3]` the frame.
        view: what was to be painted, perhaps as if the frame's own face had been lower.
        own: `[h, w]` bool, the frame's own face.
        foreign: the face was drawn with the expression of another frame.
        on: how much each term counts now.
        distance: LPIPS, if it is asked for.

    Returns:
        Weighted terms, those that count.
    """
    known = view.share > 0
    if foreign:
        known = known & ~grow(own, 1) & ~(view.alpha > FAINT)
    weight = known * view.share * (1 - view.alpha)
    shown = torch.where(known[..., None], composite(view, target, painted), target)
    height, width = known.shape

    def mean(error: Tensor, of: Tensor) -> Tensor:
        return (error.mean(-1) * known).sum() / of.sum().clamp(min=1)

    def perceptual() -> Tensor:
        assert distance is not None
        return losses.box_distance(shown, target, (0, 0, width, height), distance)

    return weighed(
        on,
        {
            "image": lambda: mean((shown - target).abs(), weight),
            "hole_lpips": perceptual,
            "structure": lambda: mean(1 - ssim_map(shown, target), known),
        },
    )
