"""TalkingGaussian: the face's Gaussians and, from the pre-trained motion field on, how they move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from models.curriculum import FrameSampler
from models.methods.talking_gaussian_phases import FacePhase
from models.parsing import labels
from models.records import Weights
from tasks.params import Params
from tasks.stage import Context, Stage, main

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.material import Box


class FaceParams(Params):
    """How the face is trained."""

    seed: int = 0
    # carved: on the face's landmarks and within all masks; random: grey and faint, anywhere, as released
    first_points: Literal["carved", "random"] = "carved"
    exposure: bool = False  # whether each training frame has a gain and an offset of its colours, here and in tg_fuse
    phase: FacePhase = FacePhase()


STAGE = Stage(
    name="tg_face",
    per=("speaker", "extractor"),
    params=FaceParams,
    reads=("ingest", "landmarks", "parse", "track", "pose_refine", "action_units", "audio", "tg_motion"),
    gives=Weights,
)


def run(context: Context[FaceParams]) -> Weights:
    """Train the face field in front of plain colours."""
    import torch

    from models.gaussians.field import create_field
    from models.methods import talking_gaussian as method
    from tasks.exposure import Exposure
    from tasks.material import Footage
    from tasks.training import FieldLearner, MotionLearner, prepare, total_of, train

    device = prepare(context)
    seed, phase, first_points = context.params.seed, context.params.phase, context.params.first_points
    taught = context.read(Weights, "tg_motion")
    config = method.Config.from_record(taught.config)
    footage = Footage.of(context, device, config)
    motion = method.load_motion(method.FaceMotion(config), method.under(taught.tensors, "motion"), "tg_motion")
    place, opacity = {"carved": (footage.first_face, 0.27), "random": (footage.random_face, 0.1)}[first_points]
    face = method.Branch(create_field(*place(phase.points, seed), config.sh_degree, opacity), motion).to(device)
    if config.points == "embeddings":
        face.embed()

    field_learner = FieldLearner(face.gaussians, phase.rates, phase.density, seed)
    motion_learner = MotionLearner(motion, phase.rates)
    sampler = FrameSampler(footage.train_frames, footage.curriculum, phase.windows, seed)
    exposure = Exposure(len(footage.valid), device) if context.params.exposure else None
    backgrounds = torch.tensor(method.BEHIND, device=device)

    def step(number: int) -> dict[str, float]:
        progress = number / phase.steps
        moving = progress > phase.motion_from
        behind = backgrounds[number % len(backgrounds)]
        frame = sampler.draw(number, progress)
        crop = footage.face_crop(frame)
        camera, target = footage.camera(frame, crop), footage.frame(frame, crop)
        head = footage.mask(frame, crop, labels.HEAD)
        alone = footage.mask(frame, crop, labels.HEAD_ALONE)
        target = torch.where(alone[..., None], target, behind)
        lips = footage.mouth_box(frame).within(crop)

        batch = footage.landmark_batch([frame])
        with torch.set_grad_enabled(moving):
            points = face.look_up()
            deformation = motion(points, batch.audio, batch.expression).frame(0)
        exposed = exposure.of(frame) if exposure else None
        raster = method.draw(face.gaussians, camera, deformation, behind, exposed)
        terms = method.face_losses(raster, target, head.float(), footage.mouth_crop(frame).within(crop), phase)
        if exposure:
            terms["exposure"] = exposure.hold(frame)
        if moving:
            terms["motion"] = phase.motion * method.motion_size(deformation)
            if phase.landmarks:
                rest = footage.rest
                distance = method.landmark_losses(motion, motion.look_up(rest), rest, batch, footage.intrinsics, phase)
                terms["landmarks"] = phase.landmarks * distance
            if config.points == "embeddings" and number % phase.smooth_every == 0:
                terms["smooth"] = phase.smooth * phase.smooth_every * face.roughness()
            if phase.attention and number % phase.attention_every == 0:
                maps = method.draw_maps(face.gaussians, camera, deformation, points.maps())
                stray = stray_attention(maps, footage.mask(frame, crop, (labels.HAIR,)), lips)
                terms["attention"] = phase.attention * phase.attention_every * stray
        total, values = total_of(terms)
        total.backward()
        field_learner.step(number, phase.steps, raster)
        if moving:
            motion_learner.step(progress)
        if exposure:
            exposure.step()
        return values

    parts = {"field": field_learner, "motion": motion_learner, "sampler": sampler}
    if exposure:
        parts["exposure"] = exposure
    outcome = train(context, "face", phase.steps, step, parts)
    options = {"first_points": first_points, "exposure": exposure is not None}
    quality = {**outcome.quality(gaussians=len(face.gaussians)), **options}
    tensors = face.tensors("face") | ({"exposure": exposure.learnt()} if exposure else {})
    return Weights("talking_gaussian", "face", config.as_record(), tensors, outcome.curves, quality)


def stray_attention(maps: Tensor, hair: Tensor, lips: Box) -> Tensor:
    """Sum the attention that should not be there: to the expression on the lips, to anything in the hair.

    Args:
        maps: `[H, W, 2]` attention to sound and to expression.
        hair: `[H, W]` bool.
        lips: box of the lips in the crop.
    """
    on_lips = maps[max(0, lips.top) : max(0, lips.bottom), max(0, lips.left) : max(0, lips.right), 1]
    in_hair = (maps * hair[..., None]).sum((0, 1)) / hair.sum().clamp(min=1)
    return in_hair.sum() + (on_lips.mean() if on_lips.numel() else 0.0)


if __name__ == "__main__":
    main(STAGE, run)
