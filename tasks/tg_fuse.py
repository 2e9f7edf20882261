"""TalkingGaussian: face and mouth over torso and background, trained together against the whole picture of the head."""

from __future__ import annotations

from models.curriculum import FrameSampler
from models.methods.talking_gaussian_phases import FusePhase
from models.records import Weights
from tasks.params import Params
from tasks.stage import Context, Stage, main

COLORS = ("colors", "harmonics")


class FuseParams(Params):
    """How the two fields are brought together."""

    seed: int = 0
    phase: FusePhase = FusePhase()


STAGE = Stage(
    name="tg_fuse",
    per=("speaker", "extractor"),
    params=FuseParams,
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
    from models.methods.talking_gaussian import Branch, Config, FaceMotion, MouthMotion, compose, draw
    from tasks.exposure import Exposure
    from tasks.material import Footage
    from tasks.training import FieldLearner, MotionLearner, prepare, total_of, train

    device = prepare(context)
    seed, phase = context.params.seed, context.params.phase
    face_weights, mouth_weights = context.read(Weights, "tg_face"), context.read(Weights, "tg_mouth")
    configs = {"face": face_weights.config, "mouth": mouth_weights.config}
    face_config = Config.from_record(configs["face"])
    footage = Footage.of(context, device, face_config)
    face = Branch.from_tensors(FaceMotion, face_config, face_weights.tensors, "face").to(device)
    mouth = Branch.from_tensors(MouthMotion, Config.from_record(configs["mouth"]), mouth_weights.tensors, "mouth").to(
        device
    )
    mouth.motion.follow(face.motion)
    learnt = face_weights.tensors.get("exposure")
    exposure = None if learnt is None else Exposure(len(learnt), device, learnt)

    parts = {
        "face": FieldLearner(face.gaussians, phase.rates, None, seed),
        "mouth": FieldLearner(mouth.gaussians, phase.rates, None, seed),
        "face_motion": MotionLearner(face.motion, phase.rates),
        "mouth_motion": MotionLearner(mouth.motion, phase.rates),
        "sampler": FrameSampler(footage.train_frames, footage.curriculum, (), seed),
    }
    if exposure:
        parts["exposure"] = exposure

    def step(number: int) -> dict[str, float]:
        frame = parts["sampler"].draw(number, number / phase.steps)
        crop = footage.face_crop(frame)
        camera, target = footage.camera(frame, crop), footage.frame(frame, crop)
        windows, expression = footage.windows(frame)[None], footage.expression[frame][None]
        with torch.set_grad_enabled(phase.joint):
            deformations = [branch.deform(windows, expression).frame(0) for branch in (face, mouth)]
        exposed = exposure.of(frame) if exposure else None
        image = compose(
            draw(face.gaussians, camera, deformations[0], exposure=exposed),
            draw(mouth.gaussians, camera, deformations[1], exposure=exposed),
            footage.behind(frame, crop),
        )
        box = footage.mouth_crop(frame).within(crop)
        terms = {
            "image": losses.photometric(image, target, phase.structure),
            "mouth_box": phase.mouth_box * losses.box_l1(image, target, box),
        }
        if exposure:
            terms["exposure"] = exposure.hold(frame)
        total, values = total_of(terms)
        total.backward()
        parts["face"].step(number, phase.steps, only=None if phase.joint else (*COLORS, "raw_opacities"))
        parts["mouth"].step(number, phase.steps, only=None if phase.joint else COLORS)
        if phase.joint:
            parts["face_motion"].step(number / phase.steps)
            parts["mouth_motion"].step(number / phase.steps)
        if exposure:
            exposure.step()
        return values

    outcome = train(context, "fuse", phase.steps, step, parts)
    quality = outcome.quality(face_gaussians=len(face.gaussians), mouth_gaussians=len(mouth.gaussians))
    tensors = {**face.tensors("face"), **mouth.tensors("mouth")}
    if exposure:
        tensors["exposure"] = exposure.learnt()
    return Weights("talking_gaussian", "fuse", configs, tensors, outcome.curves, quality)


if __name__ == "__main__":
    main(STAGE, run)
