"""GaussianTalker: test frames with the motion of their own sound, and the controls that show what the sound is worth.

Hair, cloth and everything else are those of the frame; the Inpainting Generator paints what the face can reach.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.errors import InputError
from models.methods.gaussian_talker_config import DRAWN
from models.records import TEST, AudioFeatures, Clip, Rendering, Weights
from tasks.rendering import RenderParams, earlier, render_variants
from tasks.stage import Context, Stage, main

VARIANTS = ("full", "mean_motion", "wrong_audio")

STAGE = Stage(
    name="gt_render",
    per=("speaker", "extractor"),
    params=RenderParams,
    section="render",
    reads=(
        *("ingest", "landmarks", "parse", "track", "pose_refine", "audio"),
        *("gt_motion", "gt_renderer", "gt_inpaint"),
    ),
    gives=Rendering,
    preview=True,
    method="gaussian_talker",
)


def run(context: Context[RenderParams]) -> Rendering:
    """Render the test part: as its sound says, with a still mouth, and with wrong sound.

    Raises:
        InputError: the clip has no test part, or the modules were trained for another head.
    """
    import torch

    from tasks.gt_head import SpeakersFace, load_painter, load_renderer, load_translator
    from tasks.material import Footage
    from tasks.training import computed_on, prepare

    device = prepare(context)
    footage = Footage.of(context, device)
    clip, speaker = context.read(Clip, "ingest"), str(context.keys.speaker)
    frames = clip.indices(TEST)
    if not len(frames):
        raise InputError(
            f"{speaker}: the clip has no test frames", "", "give ingest a longer clip or a larger test_share"
        )
    face = SpeakersFace.of(context.places, context.speaker(), footage.track, device)
    renderer, table = load_renderer(context.read(Weights, "gt_renderer"), face)
    translator = load_translator(context.read(Weights, "gt_motion"), face, device)
    painter = load_painter(context.read(Weights, "gt_inpaint"), device)
    values = torch.from_numpy(context.read(AudioFeatures, "audio").values)
    who = translator.config.speaker(speaker)
    spoken = translator.speak(values, who)
    shift = round(context.params.wrong_audio_s * clip.fps)
    mouthing = face.mouthing()

    def pictures(variant: str) -> Iterator[np.ndarray]:
        for frame in frames.tolist():
            heard = frame if variant == "full" else earlier(frame, shift, len(spoken))
            numbers = translator.rest[who] if variant == "mean_motion" else spoken[heard]
            expression, jaw = mouthing.coefficients(numbers[None], torch.tensor([frame], device=device))
            told = table.at(frame)._replace(expression=expression[0], jaw=jaw[0])
            whole, camera = footage.whole, footage.camera(frame, footage.whole)
            with torch.no_grad():
                raster = renderer.draw(camera, told)
            image = painter.paint(raster, camera, footage.frame(frame, whole), footage.mask(frame, whole, DRAWN))
            yield (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()

    return render_variants(context, "gaussian_talker", clip, frames, VARIANTS, pictures, computed_on(device))


if __name__ == "__main__":
    main(STAGE, run)
