"""TalkingGaussian: the face's Gaussians and, from the pre-trained motion field on, how they move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from models.curriculum import FrameSampler
from models.errors import InputError
from models.methods.talking_gaussian_phases import FacePhase
from models.methods.talking_gaussian_presets import presets_of
from models.parsing import labels
from models.records import Weights
from models.schedule import color_at, frozen_at, weighed, weights_at
from tasks.params import Params
from tasks.stage import Context, Stage, main

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.box import Box


class FaceParams(Params):
    """How the face is trained."""

    seed: int = Field(0, ge=0)
    phase: FacePhase = FacePhase()


STAGE = Stage(
    name="tg_face",
    per=("speaker", "extractor"),
    params=FaceParams,
    presets=presets_of("tg_face"),
    reads=("ingest", "landmarks", "parse", "track", "pose_refine", "action_units", "audio", "tg_motion"),
    gives=Weights,
)


def run(context: Context[FaceParams]) -> Weights:
    """Train the face field in front of plain colours."""
    import torch

    from models.methods import talking_gaussian as method
    from models.morphology import close
    from models.replay import Replay
    from tasks.material import Footage
    from tasks.perceptual import patch_side, perceptual_distance
    from tasks.training import FieldLearner, MotionLearner, prepare, total_of, train

    device = prepare(context)
    seed, phase = context.params.seed, context.params.phase
    taught = context.read(Weights, "tg_motion")
    config = method.Config.from_record(taught.config)
    footage = Footage.of(context, device, config)
    motion = method.load_motion(method.FaceMotion(config), method.under(taught.tensors, "motion"), "tg_motion")
    first = footage.first_face(phase.points, seed, config.sh_degree, phase.opacity, phase.placing)
    face = method.Branch(first, motion).to(device)
    distance = perceptual_distance(context, phase, device)

    field_learner = FieldLearner(
        face.gaussians, phase.rates, phase.density, seed, footage.unit_m(phase.unit), footage.scale
    )
    motion_learner = MotionLearner(motion, phase.rates)
    sampler = FrameSampler(footage.train_frames, footage.curriculum, phase.windows, seed, phase.sampling)
    parts = {"field": field_learner, "motion": motion_learner, "sampler": sampler}

    def miss_landmarks(audio: Tensor, expression: Tensor, pose: Tensor, points: Tensor, weights: Tensor) -> Tensor:
        batch = method.LandmarkBatch(audio, expression, pose, points, weights, *footage.landmark_groups)
        rest = motion.look_up(footage.rest)
        return method.landmark_losses(motion, rest, footage.rest, batch, footage.intrinsics, phase)

    landmarks = Replay(miss_landmarks, motion)

    def step(number: int) -> dict[str, float]:
        progress, on = number / phase.steps, weights_at(phase, number)
        frozen = frozen_at(phase.frozen, progress)
        behind = footage.plain(color_at(phase.backdrops, number, phase.steps))
        frame = sampler.draw(number, progress)
        crop = footage.whole if phase.whole_frames else footage.face_crop(frame)
        camera, target = footage.camera(frame, crop), footage.frame(frame, crop)
        head, alone = (footage.mask(frame, crop, group) for group in (labels.HEAD, labels.HEAD_ALONE))
        if on["close_mouth"]:
            alone &= ~close(footage.mask(frame, crop, labels.INSIDE_MOUTH))
        lips = footage.mouth_box(frame).within(crop)
        hair = footage.mask(frame, crop, (labels.HAIR,)) if on["hide_hair"] or on["attention"] else None
        hidden = hair if on["hide_hair"] else None
        if hidden is not None:
            alone &= ~hidden
        target = torch.where(alone[..., None], target, behind)

        batch = footage.landmark_batch([frame])
        moved = points = None
        if on["moved"]:
            with torch.set_grad_enabled("motion" not in frozen):
                moved, points = face.move(batch.audio, batch.expression)
        degree = phase.harmonics.degree(progress, config.sh_degree)
        raster = method.draw(face.gaussians, camera, moved, behind, degree)
        seen = raster
        if hidden is not None:
            seen = raster._replace(image=torch.where(hidden[..., None], behind, raster.image))
        mouth = footage.mouth_crop(frame).within(crop)
        terms = method.face_losses(seen, target, head.float(), mouth, on)
        if distance:
            side = patch_side(phase, footage.scale, seed, number)
            terms |= method.perceptual_losses(seen.image, target, behind, on, distance, side, lips, phase.small_crops)
        if moved is not None and points is not None:
            shown = hair if hidden is None else None
            terms |= weighed(
                on,
                {
                    "motion": lambda: method.motion_size(moved),
                    "landmarks": lambda: landmarks(*batch[:5]),
                    "attention": lambda: stray_attention(
                        method.draw_maps(face.gaussians, camera, moved, points.maps()), shown, lips, phase.empty_hair
                    ),
                },
            )
        total, values = total_of(terms)
        total.backward()
        field_learner.step(number, phase.steps, raster, frozen)
        if on["moved"] and "motion" not in frozen:
            motion_learner.step(progress)
        return values

    outcome = train(context, "face", phase.steps, step, parts)
    quality = {**outcome.quality(gaussians=len(face.gaussians)), "placing": phase.placing}
    return Weights("talking_gaussian", "face", config.as_record(), face.tensors("face"), outcome.curves, quality)


def stray_attention(
    maps: Tensor, hair: Tensor | None, lips: Box, empty_hair: Literal["zero", "nan"] = "zero"
) -> Tensor:
    """Sum the attention that should not be there: to the expression on the lips, to anything in the hair.

    Args:
        maps: `[H, W, 2]` attention to sound and to expression.
        hair: `[H, W]` bool; None: the hair is not asked after.
        lips: box of the lips in the crop.
        empty_hair: the mean over no hair at all: zero, or nan as the released code has it.

    Raises:
        InputError: it is nan.
    """
    on_lips = maps[max(0, lips.top) : max(0, lips.bottom), max(0, lips.left) : max(0, lips.right), 1]
    stray = on_lips.mean() if on_lips.numel() else maps.sum() * 0
    if hair is None:
        return stray
    if empty_hair == "nan" and not hair.any():
        raise InputError(
            "a frame without any hair makes the loss NaN",
            "the mean over no pixel is none; the released code goes on with it",
            "set empty_hair: zero in tg_face: phase",
        )
    in_hair = (maps * hair[..., None]).sum((0, 1)) / hair.sum().clamp(min=1)
    return in_hair.sum() + stray


if __name__ == "__main__":
    main(STAGE, run)
