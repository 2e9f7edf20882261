"""Poses moved until a static render of the head falls on every frame: landmarks are half a pixel off, pixels are not.

Test frames are refined as well, as every tracker does with them: their pixels above the nose's bottom, without eyes and
brows, decide where the head is. Nothing is learnt from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from models.curriculum import FrameSampler
from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT
from models.methods.talking_gaussian_phases import StillPhase
from models.methods.talking_gaussian_presets import presets_of
from models.parsing import labels
from models.records import RefinedPoses
from models.schedule import color_at, weights_at
from tasks.params import Params
from tasks.progress import Progress
from tasks.stage import Context, Stage, main

if TYPE_CHECKING:
    from models.gaussians.field import GaussianField
    from models.heads.photometric import PoseRefinement
    from tasks.material import Footage

NOSE_BRIDGE = 168
DIFFERENCE_GAIN = 4


class PoseRefineParams(Params):
    """How poses are refined."""

    seed: int = Field(0, ge=0)
    sh_degree: int = Field(1, ge=0, le=3)
    rounds: int = Field(2, ge=0, le=10)  # 0 leaves the poses as they are
    phase: StillPhase = StillPhase()


STAGE = Stage(
    name="pose_refine",
    per=("speaker",),
    params=PoseRefineParams,
    presets=presets_of("pose_refine"),
    reads=("ingest", "landmarks", "parse", "track"),
    gives=RefinedPoses,
    preview=True,
)


def run(context: Context[PoseRefineParams]) -> RefinedPoses:
    """Train a static face on the training frames, then move all poses onto it."""
    import torch

    from models.heads.photometric import RefinementParams, refine_poses, refinement_mask
    from models.methods.talking_gaussian import draw
    from tasks.box import Box
    from tasks.material import Footage
    from tasks.training import prepare

    device = prepare(context)
    footage = Footage.of(context, device)
    rounds = context.params.rounds
    if rounds == 0:
        poses = footage.track.world_to_camera
        return RefinedPoses(poses, np.zeros((len(poses), 4), np.float32), {"rounds": 0})
    face, quality = _train(context, footage, device)
    whole = Box(0, 0, footage.width, footage.height)

    def render(frame: int, world_to_camera: np.ndarray) -> np.ndarray:
        camera = footage.camera(frame, whole)._replace(
            world_to_camera=torch.tensor(world_to_camera, dtype=torch.float32, device=device)
        )
        with torch.no_grad():
            return draw(face, camera, None, torch.full((3,), 0.5, device=device)).image.cpu().numpy()

    def mask(frame: int) -> np.ndarray:
        assert footage.masks is not None
        if not footage.valid[frame]:
            return np.zeros((footage.height, footage.width), bool)
        return refinement_mask(labels.head(footage.masks.labels[frame]), footage.points[frame])

    frames = len(footage.valid)
    progress = Progress(f"pose_refine {context.keys} refining", rounds * frames)
    refined = refine_poses(
        footage.track.world_to_camera,
        footage.track.intrinsics,
        _pivot(footage),
        render,
        footage.clip.frames.__getitem__,
        mask,
        tuple(sorted({*map(int, footage.clip.cuts), *footage.track.cuts})),
        RefinementParams(rounds=rounds),
        progress=lambda share, note: progress.update(round(share * rounds * frames) - progress.done, note),
    )
    progress.finish()
    _preview(context, footage, render, refined)
    quality |= {
        "rounds": rounds,
        "round_rms_px": np.round(refined.round_rms, 4).tolist(),
        "measured": int(refined.measured.sum()),
    }
    return RefinedPoses(refined.world_to_camera.astype(np.float32), refined.correction.astype(np.float32), quality)


def _train(context: Context[PoseRefineParams], footage: Footage, device: str) -> tuple[GaussianField, dict[str, float]]:
    import torch

    from models.methods.talking_gaussian import draw, face_losses
    from tasks.training import FieldLearner, total_of, train

    params, phase = context.params, context.params.phase
    face = footage.first_face(phase.points, params.seed, params.sh_degree, opacity=0.27).to(device)
    learner = FieldLearner(face, phase.rates, phase.density, params.seed)
    sampler = FrameSampler(footage.train_frames, {}, (), params.seed)

    def step(number: int) -> dict[str, float]:
        behind = torch.tensor(color_at(phase.backdrops, number, phase.steps), device=device)
        frame = sampler.draw(number, number / phase.steps)
        crop = footage.face_crop(frame)
        head = footage.mask(frame, crop, labels.HEAD)
        target = torch.where(head[..., None], footage.frame(frame, crop), behind)
        raster = draw(face, footage.camera(frame, crop), None, behind)
        mouth, on = footage.mouth_crop(frame).within(crop), weights_at(phase, number)
        total, values = total_of(face_losses(raster, target, head.float(), mouth, on))
        total.backward()
        learner.step(number, phase.steps, raster)
        return values

    outcome = train(context, "still", phase.steps, step, {"field": learner, "sampler": sampler})
    return face, outcome.quality(gaussians=len(face))


def _pivot(footage: Footage) -> np.ndarray:
    """Return the bridge of the nose, or what is known near it."""
    rest, index = footage.track.rest_landmarks, footage.track.landmark_index
    for group in ((NOSE_BRIDGE,), (EYE_OUTER_LEFT, EYE_OUTER_RIGHT)):
        found = np.isin(index, group)
        if found.sum() == len(group):
            return rest[found].mean(0).astype(np.float64)
    return rest.mean(0).astype(np.float64)


def _preview(
    context: Context[PoseRefineParams],
    footage: Footage,
    render: Callable[[int, np.ndarray], np.ndarray],
    refined: PoseRefinement,
) -> None:
    """Write what differs between the static face and the frame, before (left) and after (right)."""
    from tasks.pictures import mark_of_clip, save_strip, telling_frames

    tiles, captions = [], []
    for frame, caption in telling_frames(footage.points, footage.valid, 4):
        truth = footage.clip.frames[frame].astype(np.float32)
        assert footage.masks is not None
        head = labels.head(footage.masks.labels[frame])[..., None]
        for poses, name in ((footage.track.world_to_camera, "before"), (refined.world_to_camera, "after")):
            difference = np.abs(render(frame, poses[frame]) * 255 - truth) * DIFFERENCE_GAIN * head
            tiles.append(difference.clip(0, 255).astype(np.uint8))
            captions.append(f"{caption} {name}: difference x{DIFFERENCE_GAIN}")
    save_strip(context.preview / "strip.jpg", tiles, mark_of_clip(footage.clip), captions)


if __name__ == "__main__":
    main(STAGE, run)
