"""GaussianTalker: test frames with the motion of their own sound, and the controls that show what the sound is worth.

Hair, cloth and everything else are those of the frame; the Inpainting Generator paints what lies between.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from models.errors import InputError
from models.records import TEST, AudioFeatures, Clip, Rendering
from tasks.rendering import RenderParams, earlier, render_variants
from tasks.stage import Context, Stage, main

VARIANTS = ("full", "mean_motion", "wrong_audio")

STAGE = Stage(
    name="gt_render",
    per=("speaker", "extractor"),
    params=RenderParams,
    section="render",
    reads=(*("ingest", "parse", "track", "pose_refine", "audio"), *("gt_motion", "gt_renderer", "gt_inpaint")),
    gives=Rendering,
    preview=True,
    method="gaussian_talker",
)


def run(context: Context[RenderParams]) -> Rendering:
    """Render the test part: as its sound says, with a still mouth, and with wrong sound.

    Raises:
        InputError: the clip has no test part, or the modules were trained for another head.
    """
    from tasks.gt_talking_head import GaussianHead
    from tasks.training import computed_on, prepare

    device = prepare(context)
    clip, speaker = context.read(Clip, "ingest"), str(context.keys.speaker)
    frames = clip.indices(TEST)
    if not len(frames):
        raise InputError(
            f"{speaker}: the clip has no test frames", "", "give ingest a longer clip or a larger test_share"
        )
    head = GaussianHead.load(context.places, speaker, str(context.keys.extractor), device)
    heard_from = time.monotonic()
    spoken = head.hear(context.read(AudioFeatures, "audio").values)
    hearing = (time.monotonic() - heard_from) / len(spoken)
    shift = round(context.params.wrong_audio_s * clip.fps)

    def pictures(variant: str) -> Iterator[np.ndarray]:
        for frame in frames.tolist():
            heard = frame if variant == "full" else earlier(frame, shift, len(spoken))
            yield head.picture(head.filmed.shot(frame), head.still if variant == "mean_motion" else spoken[heard])

    told = computed_on(device)
    taught = head.teachers
    return render_variants(context, "gaussian_talker", clip, frames, VARIANTS, pictures, told, taught, hearing)


if __name__ == "__main__":
    main(STAGE, run)
