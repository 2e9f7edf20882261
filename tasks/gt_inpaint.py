"""GaussianTalker: the Inpainting Generator, which puts the drawn face back into the frame whose pose it has.

It is taught by training frames alone: the face is drawn anew, everything that it can reach is cut out of the frame,
and the frame itself says what should be there.
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

    from models.gaussians.rasterize import Raster
    from models.methods.gaussian_talker import Renderer
    from models.methods.gaussian_talker_inpainting import InpaintingGenerator, Painter
    from models.methods.gaussian_talker_networks import HeadTable
    from tasks.material import Footage

SPREAD = 32  # frames, beside those of the farthest expressions, that tell where the face can be


class InpaintingParams(Params):
    """How the generator is built and taught."""

    seed: int = 0
    width: int = Field(12, ge=2)  # channels at the first level; the paper preset: 32
    levels: int = Field(3, ge=1, le=5)  # how often the picture is halved
    blocks: int = Field(1, ge=0)  # at the last level
    stem: int = Field(2, ge=1, le=4)  # side of the patches that are one pixel for it
    margin_px: int = Field(4, ge=1)  # the hole goes so far beyond all that the face can reach, at 256 pixels
    feather_px: int = Field(3, ge=1)  # from its edge on, so far the frame shines through
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
    from models.morphology import grow
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
        own = footage.mask(frame, footage.whole, DRAWN)
        raster = draw(footage, renderer, table, frame, other if foreign else frame)
        view = painter.view(raster, footage.camera(frame, footage.whole), own)
        if random.random() < phase.enlarged:
            more = int(random.integers(1, round(phase.enlarge_px * footage.scale) + 1))
            view = view._replace(hole=grow(view.hole, more))
        target = footage.frame(frame, footage.whole)[view.rows, view.columns]
        painted = painter.fill(view, target)
        own = own[view.rows, view.columns]
        terms = method.inpainting_losses(painted, target, view, own, foreign, phase, on, distance)
        total, values = total_of(terms)
        total.backward()
        learner.step(progress)
        return values

    outcome = train(context, "inpaint", phase.steps, step, {"network": learner, "sampler": sampler})
    quality = outcome.quality(reach=len(reach)) | _check(context, footage, renderer, table, painter)
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
    context: Context[InpaintingParams], footage: Footage, renderer: Renderer, table: HeadTable, painter: Painter
) -> dict[str, float]:
    return {}


if __name__ == "__main__":
    main(STAGE, run)
