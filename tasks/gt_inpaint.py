"""GaussianTalker: the Inpainting Generator, which puts the drawn face back into the frame whose pose it has.

It is taught by training frames alone: the face is drawn anew, both it and the frame's own are cut out of the frame as
if the jaw had been lower, and the frame itself says what should be there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from models.curriculum import FrameSampler
from models.methods.gaussian_talker_config import DRAWN, InpaintingConfig
from models.methods.gaussian_talker_phases import InpaintingPhase
from models.methods.gaussian_talker_presets import presets_of
from models.records import TEST, Weights
from models.schedule import factor_at, weights_at
from tasks.params import Params
from tasks.stage import Context, Stage, main

if TYPE_CHECKING:
    from torch import Tensor

    from models.gaussians.camera import Camera
    from models.gaussians.rasterize import Raster
    from models.methods.gaussian_talker import Renderer
    from models.methods.gaussian_talker_inpainting import InpaintingGenerator, Painter
    from models.methods.gaussian_talker_networks import HeadTable
    from tasks.gt_head import SpeakersFace
    from tasks.material import Footage

SPREAD = 16  # frames, beside those of the farthest expressions, that tell where the face can be
CHECKED_FRAMES = 24  # of the test part, evenly spread
SEAM_PX = 4  # of the seam to either side, at 256 pixels
LOWER_PX = 8  # by which a face is taken to have been lower
OPAQUE = 0.99  # share of what is painted from which nothing of the frame shines through
NECK_ROWS, CLOTH_ROWS = 0.3, 0.08  # as the stage layers has them
ENLARGED = 2  # times in the preview


class InpaintingParams(Params):
    """How the generator is built and taught."""

    seed: int = Field(0, ge=0)
    width: int = Field(12, ge=2, le=512)  # channels at the first level; the paper preset: 32
    levels: int = Field(3, ge=1, le=5)  # how often the picture is halved
    blocks: int = Field(1, ge=0, le=64)  # at the last level
    stem: int = Field(2, ge=1, le=4)  # side of the patches that are one pixel for it
    margin_px: int = Field(3, ge=1, le=128)  # the hole goes so far beyond the faces, what is painted beyond
    # what is uncovered, at 256 pixels
    feather_px: int = Field(2, ge=1, le=128)  # from its edge on, so far the frame shines through
    phase: InpaintingPhase = InpaintingPhase()


STAGE = Stage(
    name="gt_inpaint",
    per=("speaker",),
    params=InpaintingParams,
    presets=presets_of("gt_inpaint"),
    reads=("ingest", "landmarks", "parse", "layers", "track", "pose_refine", "gt_renderer"),
    gives=Weights,
    preview=True,
    method="gaussian_talker",
)


def run(context: Context[InpaintingParams]) -> Weights:
    """Teach the generator by the training frames.

    Raises:
        InputError: the renderer was trained for another head.
    """
    import torch

    from models.methods import gaussian_talker_inpainting as method
    from tasks.gt_head import SpeakersFace, load_renderer
    from tasks.material import Footage
    from tasks.perceptual import perceptual_distance
    from tasks.training import prepare, total_of, train

    device = prepare(context)
    torch.set_num_threads(context.threads)  # convolutions share their work out well
    params, phase = context.params, context.params.phase
    footage = Footage.of(context, device)
    face = SpeakersFace.of(context.places, context.speaker(), footage.track, device)
    renderer, table = load_renderer(context.read(Weights, "gt_renderer"), face)
    config = InpaintingConfig(**params.model_dump(exclude={"seed", "phase"}))
    frames = footage.train_frames
    motions = torch.from_numpy(face.motion[frames]).to(device)
    with torch.no_grad():
        latent = (motions - renderer.blend.middle) @ renderer.blend.directions.T
        chosen = frames[method.extremes(latent, SPREAD)]
        reach = method.reach_of((renderer.place(table.at(frame)) for frame in chosen.tolist()), config.voxel_m)
    torch.manual_seed(params.seed)
    painter = method.Painter(method.InpaintingGenerator(config).to(device), reach.to(device))
    learner = InpaintingLearner(painter.network, phase)
    sampler = FrameSampler(frames, {}, (), params.seed)
    distance = perceptual_distance(context, phase, device)

    def step(number: int) -> dict[str, float]:
        progress, on = number / phase.steps, weights_at(phase, number)
        # Everything random is drawn anew from the step's number, so that a resumed run needs no states of generators.
        random = np.random.default_rng((params.seed, number))
        frame, other = sampler.draw(number, progress), int(random.choice(frames))
        foreign = random.random() < phase.foreign
        drawn = draw(footage, renderer, table, frame, frame)
        raster = draw(footage, renderer, table, frame, other) if foreign else drawn
        most = phase.lower_px * footage.scale
        down, aside = (round(most * float(share)) for share in random.uniform((0, -0.25), (1, 0.25)))
        lower = torch.maximum(drawn.alpha, method.shifted(drawn.alpha, down, aside))
        view = painter.view(raster, footage.camera(frame, footage.whole), lower)
        target = footage.frame(frame, footage.whole)[view.rows, view.columns]
        painted = painter.fill(view, target)
        own = footage.mask(frame, footage.whole, DRAWN)[view.rows, view.columns]
        terms = method.inpainting_losses(painted, target, view, own, foreign, on, distance)
        total, values = total_of(terms)
        total.backward()
        learner.step(progress)
        return values

    outcome = train(context, "inpaint", phase.steps, step, {"network": learner, "sampler": sampler})
    quality = outcome.quality(reach=len(reach)) | _check(context, footage, face, renderer, table, painter)
    tensors = {f"network/{name}": tensor for name, tensor in painter.network.state_dict().items()} | {"reach": reach}
    arrays = {name: tensor.detach().cpu().contiguous().numpy().copy() for name, tensor in tensors.items()}
    return Weights("gaussian_talker", "inpaint", config.as_record(), arrays, outcome.curves, quality)


def draw(footage: Footage, renderer: Renderer, table: HeadTable, frame: int, spoken: int) -> Raster:
    """Draw the face in the pose of one frame with the expression of another."""
    import torch

    other = table.at(spoken)
    told = table.at(frame)._replace(expression=other.expression, jaw=other.jaw)
    with torch.no_grad():
        return renderer.draw(footage.camera(frame, footage.whole), told)


class InpaintingLearner:
    """Trains the generator with Adam."""

    def __init__(self, network: InpaintingGenerator, phase: InpaintingPhase) -> None:
        import torch

        self.network, self.rates = network, phase.rates
        self.optimizer = torch.optim.Adam(network.parameters(), lr=phase.rates.network, fused=True)

    def step(self, progress: float) -> None:
        """Use up the gradients, at `progress` 0..1 of the phase."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates.network * factor_at(self.rates.curve, progress)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return network and optimiser."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


def _check(
    context: Context[InpaintingParams],
    footage: Footage,
    face: SpeakersFace,
    renderer: Renderer,
    table: HeadTable,
    painter: Painter,
) -> dict[str, float]:
    """Paint test frames, beside what pasting the face in gives; return how near both are to the truth, in dB.

    With the frame's own motion, where nothing is uncovered: `seam`, the rim of the face to both sides, and `face`, all
    of it. `hidden` is neck and cloth below the chin, both being told that the frame's face had covered them.
    """
    import torch

    from models.methods.gaussian_talker import compose
    from models.methods.gaussian_talker_inpainting import shifted
    from models.morphology import grow, shrink
    from models.parsing import labels
    from tasks.pictures import enlarged, mark_of_clip, save_strip

    frames = np.flatnonzero((footage.clip.split == TEST) & footage.valid)
    if not len(frames):
        return {}
    opening = footage.curriculum["opening"][frames]
    shut, wide = (int(frames[order]) for order in (opening.argmin(), opening.argmax()))
    rim, whole = max(1, round(SEAM_PX * footage.scale)), footage.whole
    errors: dict[str, list[float]] = {}

    def seen(frame: int) -> tuple[Tensor, Camera, Tensor]:
        camera = footage.camera(frame, whole)
        return footage.frame(frame, whole), camera, footage.mask(frame, whole, DRAWN) & face.covers(frame, camera)

    def compare(name: str, picture: Tensor, truth: Tensor, where: Tensor) -> None:
        if where.any():
            error = float((picture[where] - truth[where]).square().mean())
            errors.setdefault(name, []).append(-10 * np.log10(max(error, 1e-9)))

    for frame in frames[np.unique(np.linspace(0, len(frames) - 1, min(CHECKED_FRAMES, len(frames))).astype(int))]:
        frame = int(frame)
        truth, camera, own = seen(frame)
        raster = draw(footage, renderer, table, frame, frame)
        pictures = {
            "": painter.paint(raster, camera, truth, raster.alpha),
            "pasted_": compose(raster, truth, footage.torso(frame, whole), own),
        }
        seam = grow(own, rim) & ~shrink(own, rim)
        lower, drawn = (
            torch.maximum(part, shifted(part, round(LOWER_PX * footage.scale), 0)) for part in (own, raster.alpha)
        )
        hidden = (
            lower & ~own & footage.mask(frame, whole, labels.TORSO) & (painter.share(raster, camera, drawn) > OPAQUE)
        )
        for name, picture in pictures.items():
            compare(f"{name}seam", picture, truth, seam)
            compare(f"{name}face", picture, truth, own)
        compare("hidden", painter.paint(raster, camera, truth, drawn), truth, hidden)
        compare("pasted_hidden", compose(raster, truth, _under(footage, frame, lower), lower), truth, hidden)

    tiles, captions, view = [], [], None
    for frame, spoken, words in ((shut, shut, "its own"), (wide, shut, "closed"), (shut, wide, "wide open")):
        truth, camera, own = seen(frame)
        raster = draw(footage, renderer, table, frame, spoken)
        drawn = draw(footage, renderer, table, frame, frame).alpha
        view = view or painter.view(raster, camera, drawn)  # all pictures are of one size
        pasted = compose(raster, truth, footage.torso(frame, whole), own)
        missing = truth * (1 - painter.share(raster, camera, drawn)[..., None])
        for picture in (truth, missing, pasted, painter.paint(raster, camera, truth, drawn)):
            part = picture[view.rows, view.columns].clamp(0, 1)
            tiles.append(enlarged((part * 255 + 0.5).byte().cpu().numpy(), ENLARGED))
        captions += [f"frame {frame}", "what of it is painted over", f"{words} expression, pasted", "painted"]
    save_strip(context.preview / "strip.jpg", tiles, mark_of_clip(footage.clip), captions)
    return {f"test_{name}_psnr": round(float(np.mean(values)), 3) for name, values in errors.items()}


def _under(footage: Footage, frame: int, face: Tensor) -> Tensor:
    """Return neck and cloth `[H, W, 4]` of a frame with all painted in that `face` `[H, W]` covers."""
    import torch

    from models.layers import torso_layer
    from models.parsing import labels

    assert footage.masks is not None
    seen = np.where(face.cpu().numpy(), labels.SKIN, footage.masks.labels[frame])
    torso = torso_layer(footage.clip.frames[frame], seen.astype(np.uint8), NECK_ROWS, CLOTH_ROWS)
    return torch.from_numpy(torso).to(footage.device).float() / 255


if __name__ == "__main__":
    main(STAGE, run)
