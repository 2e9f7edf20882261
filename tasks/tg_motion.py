"""TalkingGaussian: the face's motion field, taught by tracked landmarks before any image is drawn.

Photometric training alone hardly moves the lips on a short schedule, because a lip that is drawn in the wrong place
gets little gradient. The field is a function of space: evaluated at the landmarks of the rest face, it can be fitted to
the tracked ones directly.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from models.curriculum import FrameSampler
from models.methods.talking_gaussian_config import ACTION_UNITS, GridLayout, Moves
from models.methods.talking_gaussian_phases import MotionPhase
from models.methods.talking_gaussian_presets import presets_of
from models.records import Weights
from models.schedule import weighed, weights_at
from tasks.params import GridRange, Params
from tasks.stage import Context, Stage, main


class MotionParams(Params):
    """How the motion field is taught by landmarks."""

    seed: int = Field(0, ge=0)
    sh_degree: int = Field(1, ge=0, le=3)  # of the colours of the face's Gaussians
    bound_m: float = Field(0.15, gt=0)  # half the side of the cube that the grid covers
    action_units: tuple[str, ...] = ACTION_UNITS  # that the face is told, the blink last; the paper: AU02 as well
    gaze: bool = True  # whether it is also told where the eyes look; not in the released code
    moves: Moves = "geometry"  # of the face, from frame to frame; opacity, color: of its Gaussians' appearance as well
    face_grid: GridRange = (16, 38.4)  # coarsest and finest resolution; the paper says 256
    grid_layout: GridLayout = "torch_ngp"  # tcnn: what tiny-cuda-nn can run on CUDA; every backend draws either
    motion_m: float = Field(0.01, gt=0)  # what a network output of 1 means
    phase: MotionPhase = MotionPhase()


STAGE = Stage(
    name="tg_motion",
    per=("speaker", "extractor"),
    params=MotionParams,
    presets=presets_of("tg_motion"),
    reads=("ingest", "landmarks", "track", "action_units", "audio"),
    gives=Weights,
)


def run(context: Context[MotionParams]) -> Weights:
    """Fit the motion field to the landmarks of the training frames."""
    import torch

    from models.methods.talking_gaussian import (
        Config,
        FaceMotion,
        landmark_distance,
        landmark_pixels,
        lip_attention,
    )
    from tasks.material import Footage
    from tasks.training import MotionLearner, Noise, prepare, total_of, train

    device = prepare(context)
    params, phase = context.params, context.params.phase
    config = Config(
        action_units=params.action_units,
        gaze=params.gaze,
        moves=params.moves,
        sh_degree=params.sh_degree,
        bound_m=params.bound_m,
        face_grid=params.face_grid,
        grid_layout=params.grid_layout,
        motion_m=params.motion_m,
    )
    footage = Footage.of(context, device, config)
    assert footage.audio is not None
    config = replace(config, audio_size=footage.audio.values.shape[1])
    torch.manual_seed(params.seed)
    motion = FaceMotion(config, torch.Generator().manual_seed(params.seed))
    motion.planes.center.copy_(footage.head_center)
    motion.expression_scale.copy_(footage.expression_scale)
    motion.audio.expect(*footage.audio_scale)
    motion.to(device)

    learner = MotionLearner(motion, phase.rates)
    sampler = FrameSampler(footage.train_frames, footage.curriculum, (), params.seed)
    noise = Noise(phase.audio_noise * motion.audio.deviation, params.seed, phase.audio_elsewhere)

    def step(number: int) -> dict[str, float]:
        frames = [sampler.draw(number, number / phase.steps) for _ in range(phase.frames)]
        batch = footage.landmark_batch(frames)
        batch = batch._replace(audio=noise.on(batch.audio))
        points = motion.look_up(footage.rest)
        pixels = landmark_pixels(motion, points, footage.rest, batch, footage.intrinsics)
        terms = weighed(
            weights_at(phase, number),
            {
                "landmarks": lambda: landmark_distance(pixels, batch, phase),
                "lip_attention": lambda: lip_attention(points, batch),
            },
        )
        total, values = total_of(terms)
        total.backward()
        learner.step(number / phase.steps)
        return values

    outcome = train(context, "motion", phase.steps, step, {"learner": learner, "sampler": sampler, "noise": noise})
    tensors = {f"motion/{name}": tensor.cpu().numpy().copy() for name, tensor in motion.state_dict().items()}
    return Weights("talking_gaussian", "motion", config.as_record(), tensors, outcome.curves, outcome.quality())


if __name__ == "__main__":
    main(STAGE, run)
