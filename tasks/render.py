"""Test frames of a trained head with their own sound, and the controls that show what the sound is worth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.errors import InputError
from models.records import TEST, TRAIN, AudioFeatures, Clip, Rendering
from tasks.rendering import RenderParams, earlier, render_variants
from tasks.stage import Context, Stage, main

VARIANTS = ("full", "motion_off", "mean_motion", "wrong_audio")
MEAN_FRAMES = 400  # training frames, evenly spread, whose deformations are averaged

STAGE = Stage(
    name="render",
    per=("speaker", "extractor"),
    params=RenderParams,
    reads=("ingest", "layers", "track", "pose_refine", "action_units", "audio", "tg_fuse"),
    gives=Rendering,
    preview=True,
)


def run(context: Context[RenderParams]) -> Rendering:
    """Render the test part: as trained, without any deformation, with each Gaussian's mean one, and with wrong sound.

    Raises:
        InputError: the clip has no test part.
    """
    from tasks.scene import Scene
    from tasks.talking_head import TalkingHead, audio_windows
    from tasks.training import computed_on, prepare

    device = prepare(context)
    speaker, extractor = str(context.keys.speaker), str(context.keys.extractor)
    head = TalkingHead.load(context.places, speaker, extractor, device)
    scene = Scene.load(context.places, speaker, head.config)
    windows = list(audio_windows(context.read(AudioFeatures, "audio").values))
    clip = context.read(Clip, "ingest")
    frames = clip.indices(TEST)
    if not len(frames):
        raise InputError(
            f"{speaker}: the clip has no test frames", "", "give ingest a longer clip or a larger test_share"
        )
    shift = round(context.params.wrong_audio_s * clip.fps)
    train = clip.indices(TRAIN)
    train = train[scene.valid[train]]
    mean = head.mean_motion(
        (windows[frame], scene.expression[frame]) for frame in train[:: max(1, len(train) // MEAN_FRAMES)]
    )

    def pictures(variant: str) -> Iterator[np.ndarray]:
        for frame in frames.tolist():
            if variant == "motion_off":
                motion = None
            elif variant == "mean_motion":
                motion = mean
            else:
                heard = frame if variant == "full" else earlier(frame, shift, len(windows))
                motion = head.move(windows[heard], scene.expression[frame])
            yield head.draw(scene.camera(frame), motion, scene.layers.behind(frame))

    return render_variants(context, "talking_gaussian", clip, frames, VARIANTS, pictures, computed_on(device))


if __name__ == "__main__":
    main(STAGE, run)
