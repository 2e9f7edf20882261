"""TalkingGaussian: face and mouth over torso and background, trained together against the whole picture of the head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field

from models.curriculum import FrameSampler
from models.methods.talking_gaussian_phases import FusePhase
from models.methods.talking_gaussian_presets import presets_of
from models.records import Weights
from models.schedule import frozen_at, weighed, weights_at
from tasks.params import Params
from tasks.stage import Context, Stage, main

RELEASED_OPACITY_RATE = 0.05
"""Of the face's own training. The released code sets 0.001 for fusing, then restores the optimiser's state, and with it
this rate."""
HEARD_FRAMES = 512
"""Training frames, evenly spread, whose sound gives the mean code."""


class FuseParams(Params):
    """How the two fields are brought together."""

    seed: int = Field(0, ge=0)
    articulation: float = Field(1.15, ge=0, le=3)  # how far sound moves the drawn head; 1 as far as learnt
    phase: FusePhase = FusePhase()


STAGE = Stage(
    name="tg_fuse",
    per=("speaker", "extractor"),
    params=FuseParams,
    presets=presets_of("tg_fuse"),
    reads=(
        *("ingest", "landmarks", "parse", "layers", "track", "pose_refine", "action_units", "audio"),
        *("tg_face", "tg_mouth"),
    ),
    gives=Weights,
)


def run(context: Context[FuseParams]) -> Weights:
    """Train both fields on whole frames."""
    import torch

    from models import losses
    from models.methods import talking_gaussian as method
    from models.methods.talking_gaussian import Branch, Config, FaceMotion, MouthMotion
    from tasks.material import Footage, spread
    from tasks.perceptual import patch_side, perceptual_distance
    from tasks.training import FieldLearner, MotionLearner, prepare, total_of, train

    device = prepare(context)
    seed, phase = context.params.seed, context.params.phase
    weights = {name: context.read(Weights, f"tg_{name}") for name in ("face", "mouth")}
    configs: dict[str, Any] = {name: found.config for name, found in weights.items()}
    footage = Footage.of(context, device, Config.from_record(configs["face"]))
    branches = {
        name: Branch.from_tensors(kind, Config.from_record(configs[name]), weights[name].tensors, name).to(device)
        for name, kind in (("face", FaceMotion), ("mouth", MouthMotion))
    }
    rates, distance = phase.rates, perceptual_distance(context, phase, device)
    if phase.kept_opacity_rate:
        rates = replace(rates, raw_opacities=RELEASED_OPACITY_RATE, appearance_curve=())

    unit_m = footage.unit_m(phase.unit)
    fields = {name: FieldLearner(branch.gaussians, rates, None, seed, unit_m) for name, branch in branches.items()}
    motions = {name: MotionLearner(branch.motion, rates) for name, branch in branches.items()}
    sampler = FrameSampler(footage.train_frames, footage.curriculum, (), seed)
    parts = {**fields, **{f"{name}_motion": motion for name, motion in motions.items()}, "sampler": sampler}

    def step(number: int) -> dict[str, float]:
        progress, on = number / phase.steps, weights_at(phase, number)
        frozen = frozen_at(phase.frozen, progress)
        frame = sampler.draw(number, progress)
        crop = footage.whole if phase.whole_frames else footage.face_crop(frame)
        camera, target = footage.camera(frame, crop), footage.frame(frame, crop)
        windows, expression = footage.windows(frame)[None], footage.expression[frame][None]
        rasters = {}
        for name, branch in branches.items():
            with torch.set_grad_enabled(f"{name}/motion" not in frozen):
                moved, _ = branch.move(windows, expression)
            rasters[name] = method.draw(branch.gaussians, camera, moved)
        image = method.compose(rasters["face"], rasters["mouth"], footage.behind(frame, crop))
        box = footage.mouth_crop(frame).within(crop)
        terms = weighed(
            on,
            {
                "image": lambda: losses.photometric(image, target, on["structure"]),
                "mouth_box": lambda: losses.box_l1(image, target, box),
            },
        )
        if distance:
            side = patch_side(phase, footage.scale, seed, number)
            terms |= method.perceptual_losses(image, target, image.new_zeros(3), on, distance, side)
        total, values = total_of(terms)
        total.backward()
        for name in branches:
            own = {part.removeprefix(f"{name}/") for part in frozen if part.startswith(f"{name}/")}
            fields[name].step(number, phase.steps, frozen=own)
            if "motion" not in own:
                motions[name].step(progress)
        return values

    outcome = train(context, "fuse", phase.steps, step, parts)
    heard = torch.stack([footage.windows(int(frame)) for frame in spread(footage.train_frames, HEARD_FRAMES)])
    for branch in branches.values():
        branch.motion.audio.articulate(context.params.articulation, heard)
    counts = {f"{name}_gaussians": len(branch.gaussians) for name, branch in branches.items()}
    tensors = {key: value for name, branch in branches.items() for key, value in branch.tensors(name).items()}
    return Weights("talking_gaussian", "fuse", configs, tensors, outcome.curves, outcome.quality(**counts))


if __name__ == "__main__":
    main(STAGE, run)
