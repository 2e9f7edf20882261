"""A trained head says the sound of a drive; poses, glances and torso of its clip run back and forth meanwhile."""

from __future__ import annotations

import time

import numpy as np

from models.records import AudioFeatures, Rendering, store_path
from models.storage import FrameStore
from tasks.rendering import RenderParams, write_preview
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
    from tasks.media import read_sound
    from tasks.scene import Scene
    from tasks.shots import back_and_forth
    from tasks.talking_head import TalkingHead, audio_windows, speak
    from tasks.training import computed_on, prepare

    device = prepare(context)
    speaker, drive = context.speaker(), context.drive()
    names = (str(context.keys.speaker), str(context.keys.drive))
    head = TalkingHead.load(context.places, names[0], str(context.keys.extractor), device)
    scene, features = Scene.load(context.places, names[0], head.config), context.read(AudioFeatures, "audio_drive")
    count = len(features.values)
    frames = np.fromiter(back_and_forth(*scene.longest_shot()), np.int32, count)

    started = time.monotonic()
    pictures = speak(head, map(scene.shot, frames.tolist()), audio_windows(features.values))
    full = FrameStore.create(store_path(context.output, "full"), pictures, (*scene.size[::-1], 3))
    milliseconds = 1000 * (time.monotonic() - started) / count

    sound = read_sound(context.places.raw_drive(names[1]) / drive.source, scene.sample_rate)
    path = context.preview / "result.mp4"
    people = (speaker, drive)
    write_preview(path, full, scene.fps, sound, scene.sample_rate, names, people, context.params.crf)
    return Rendering(
        method="talking_gaussian",
        variants=["full"],
        full=full,
        frame_index=frames,
        quality={
            "milliseconds_a_frame": round(milliseconds, 2),
            "threads": context.threads,
            **computed_on(device),
        },
    )


if __name__ == "__main__":
    main(STAGE, run)
