"""A trained head says the sound of a drive; poses, glances and torso of its clip run back and forth meanwhile."""

from __future__ import annotations

import numpy as np

from models.records import AudioFeatures, Rendering
from tasks.rendering import RenderParams, render_drive
from tasks.stage import Context, Stage, main

STAGE = Stage(
    name="render_drive",
    per=("speaker", "extractor", "drive"),
    params=RenderParams,
    reads=("ingest", "layers", "track", "pose_refine", "action_units", "tg_fuse", "audio_drive"),
    gives=Rendering,
    preview=True,
    section="render",
)


def run(context: Context[RenderParams]) -> Rendering:
    """Render one picture for every entry of the drive's audio features."""
    from tasks.scene import Scene
    from tasks.shots import back_and_forth
    from tasks.speaking import speak
    from tasks.talking_head import TalkingHead
    from tasks.training import computed_on, prepare

    device, speaker = prepare(context), str(context.keys.speaker)
    head = TalkingHead.load(context.places, speaker, str(context.keys.extractor), device)
    scene, values = Scene.load(context.places, speaker, head.config), context.read(AudioFeatures, "audio_drive").values
    frames = np.fromiter(back_and_forth(*scene.longest_shot()), np.int32, len(values))
    pictures = speak(head, map(scene.shot, frames.tolist()), head.hear(values))
    shape, told = (*scene.size[::-1], 3), computed_on(device)
    return render_drive(context, "talking_gaussian", frames, pictures, shape, scene.fps, scene.sample_rate, told)


if __name__ == "__main__":
    main(STAGE, run)
