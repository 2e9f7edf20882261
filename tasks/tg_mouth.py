"""TalkingGaussian: the Gaussians inside the mouth and how sound moves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from models.curriculum import FrameSampler
from models.methods.talking_gaussian_config import GridLayout
from models.methods.talking_gaussian_phases import MouthPhase
from models.methods.talking_gaussian_presets import presets_of
from models.parsing import labels
from models.records import Weights
from models.schedule import color_at, frozen_at, weighed, weights_at
from tasks.params import GridRange, Params
from tasks.stage import Context, Stage, main

if TYPE_CHECKING:
    from tasks.material import Footage


class MouthParams(Params):
    """How the inside of the mouth is trained."""

    seed: int = Field(0, ge=0)
    sh_degree: int = Field(1, ge=0, le=3)
    bound_m: float = Field(0.15, gt=0)  # as in tg_motion
    mouth_grid: GridRange = (64, 57.6)  # the paper says 384
    grid_layout: GridLayout = "torch_ngp"  # as in tg_motion
    motion_m: float = Field(0.01, gt=0)
    phase: MouthPhase = MouthPhase()


STAGE = Stage(
    name="tg_mouth",
    per=("speaker", "extractor"),
    params=MouthParams,
    presets=presets_of("tg_mouth"),
    reads=("ingest", "landmarks", "parse", "track", "pose_refine", "audio"),
    gives=Weights,
)


def run(context: Context[MouthParams]) -> Weights:
    """Train the mouth field in front of plain colours."""
    import torch

    from models.methods import talking_gaussian as method
    from models.methods.talking_gaussian import Branch, Config, MouthMotion
    from tasks.material import Footage
    from tasks.perceptual import patch_side, perceptual_distance
    from tasks.training import FieldLearner, MotionLearner, prepare, total_of, train

    device = prepare(context)
    params, phase = context.params, context.params.phase
    footage = Footage.of(context, device)
    assert footage.audio is not None
    config = Config(
        audio_size=footage.audio.values.shape[1],
        sh_degree=params.sh_degree,
        bound_m=params.bound_m,
        mouth_grid=params.mouth_grid,
        grid_layout=params.grid_layout,
        motion_m=params.motion_m,
    )
    torch.manual_seed(params.seed)
    motion = MouthMotion(config, torch.Generator().manual_seed(params.seed))
    motion.planes.center.copy_(footage.head_center)
    motion.audio.expect(*footage.audio_scale)
    first = footage.first_mouth(phase.points, params.seed, config.sh_degree, phase.opacity, phase.placing)
    mouth = Branch(first, motion).to(device)
    gaussians, distance = mouth.gaussians, perceptual_distance(context, phase, device)

    unit_m, pixel = footage.unit_m(phase.unit), footage.scale
    field_learner = FieldLearner(gaussians, phase.rates, phase.density, params.seed, unit_m, pixel)
    motion_learner = MotionLearner(motion, phase.rates)
    frames = _open_frames(footage, phase)
    sampler = FrameSampler(frames, footage.curriculum, phase.windows, params.seed, phase.sampling)

    def step(number: int) -> dict[str, float]:
        progress, on = number / phase.steps, weights_at(phase, number)
        frozen = frozen_at(phase.frozen, progress)
        behind = footage.plain(color_at(phase.backdrops, number, phase.steps))
        frame = sampler.draw(number, progress)
        crop = footage.whole if phase.whole_frames else footage.mouth_crop(frame)
        inside = footage.mask(frame, crop, labels.INSIDE_MOUTH)
        target = torch.where(inside[..., None], footage.frame(frame, crop), behind)
        lips = footage.mouth_box(frame).within(crop)
        box = torch.zeros_like(inside)
        box[max(0, lips.top) : max(0, lips.bottom), max(0, lips.left) : max(0, lips.right)] = True

        moved = None
        if on["moved"]:
            with torch.set_grad_enabled("motion" not in frozen):
                moved, _ = mouth.move(footage.windows(frame)[None])
        degree = phase.harmonics.degree(progress, config.sh_degree)
        raster = method.draw(gaussians, footage.camera(frame, crop), moved, behind, degree=degree)
        seen = method.behind_lips(raster, target, inside, box)
        terms = method.mouth_losses(seen, target, box, on)
        if distance:
            side = patch_side(phase, footage.scale, params.seed, number)
            terms |= method.perceptual_losses(seen.image, target, behind, on, distance, side)
        if moved is not None:
            terms |= weighed(on, {"motion": lambda: method.motion_size(moved)})
        total, values = total_of(terms)
        total.backward()
        field_learner.step(number, phase.steps, raster, frozen)
        if moved is not None and "motion" not in frozen:
            motion_learner.step(progress)
        return values

    parts = {"field": field_learner, "motion": motion_learner, "sampler": sampler}
    outcome = train(context, "mouth", phase.steps, step, parts)
    quality = outcome.quality(gaussians=len(gaussians))
    return Weights("talking_gaussian", "mouth", config.as_record(), mouth.tensors("mouth"), outcome.curves, quality)


def _open_frames(footage: Footage, phase: MouthPhase) -> np.ndarray:
    """Training frames that show enough of the mouth's inside; the widest ones if hardly any does."""
    least = phase.least_pixels * footage.scale**2
    frames = footage.train_frames
    assert footage.masks is not None
    seen = np.array([labels.inside_mouth(footage.masks.labels[int(frame)]).sum() for frame in frames])
    enough = frames[seen >= least]
    few = max(2, len(frames) // 10)
    return enough if len(enough) >= few else frames[np.argsort(-seen, kind="stable")[:few]]


if __name__ == "__main__":
    main(STAGE, run)
