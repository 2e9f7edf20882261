"""GaussianTalker: a trained head says the sound of a drive, in frames of its clip that run back and forth meanwhile."""

from __future__ import annotations

import numpy as np

from models.records import AudioFeatures, Rendering
from tasks.rendering import RenderParams, render_drive
from tasks.stage import Context, Stage, main

STAGE = Stage(
    name="gt_render_drive",
    per=("speaker", "extractor", "drive"),
    params=RenderParams,
    section="render",
    reads=(
        *("ingest", "parse", "track", "pose_refine"),
        *("gt_motion", "gt_renderer", "gt_inpaint", "audio_drive"),
    ),
    gives=Rendering,
    preview=True,
    method="gaussian_talker",
)


def run(context: Context[RenderParams]) -> Rendering:
    """Render one picture for every entry of the drive's audio features.

    Raises:
        InputError: the modules were trained for another head, or the clip has no two frames with a face in one shot.
    """
    from tasks.gt_talking_head import GaussianHead
    from tasks.shots import back_and_forth
    from tasks.speaking import speak
    from tasks.training import computed_on, prepare

    device, speaker = prepare(context), str(context.keys.speaker)
    head = GaussianHead.load(context.places, speaker, str(context.keys.extractor), device)
    clip, values = head.filmed, context.read(AudioFeatures, "audio_drive").values
    frames = np.fromiter(back_and_forth(*clip.longest_shot()), np.int32, len(values))
    pictures = speak(head, map(clip.shot, frames.tolist()), head.hear(values))
    shape, told, rates = clip.frames.shape[1:], computed_on(device), (clip.fps, clip.sample_rate)
    return render_drive(context, "gaussian_talker", frames, pictures, shape, *rates, told, head.teachers)


if __name__ == "__main__":
    main(STAGE, run)
