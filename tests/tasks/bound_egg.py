"""The tiny speaker with a GaussianTalker head: tracked with the demo's head model, trained for seconds."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
from tiny_speaker import FRAMES, KEYS, make_speaker

from models.demo.head_model import build
from models.gaussians.plan import Harmonics
from models.methods.gaussian_talker_phases import (
    BoundDensity,
    InpaintingPhase,
    InpaintingRates,
    MotionRates,
    RendererPhase,
    TranslatorPhase,
)
from models.records import AudioFeatures, Clip, HeadTrack
from models.schedule import Frozen
from tasks import gt_inpaint, gt_motion, gt_render, gt_render_drive, gt_renderer
from tasks.places import Places
from tasks.pose_refine import STAGE as POSE_REFINE
from tasks.pose_refine import PoseRefineParams
from tasks.pose_refine import run as refine
from tasks.rendering import RenderParams
from tasks.speech_features import AudioParams, extract
from tasks.stage import execute

MODULES = {module.STAGE.name: module for module in (gt_motion, gt_renderer, gt_inpaint, gt_render, gt_render_drive)}
SPEAKER = dataclasses.replace(KEYS, extractor=None)
SMALL = {"width": 32, "inner": 48, "heads": 2, "encoder_layers": 1}
SPEAK = TranslatorPhase(
    steps=120, windows=2, frames=16, voices=1, audio_noise=0.05, rates=MotionRates(encoder=4e-3, own=4e-3)
)
DRAW = RendererPhase(
    steps=60,
    harmonics=Harmonics(),
    frozen=(Frozen(("blend_shapes",), end=0.2),),
    density=BoundDensity(start=0.2, every=0.2, capacity=700),
)
PAINT = InpaintingPhase(steps=200, rates=InpaintingRates(network=4e-3))
PARAMS = {
    "gt_motion": gt_motion.TranslatorParams(**SMALL, phase=SPEAK),
    "gt_renderer": gt_renderer.RendererParams(gaussians=500, phase=DRAW),
    "gt_inpaint": gt_inpaint.InpaintingParams(width=6, levels=2, margin_px=12, feather_px=6, phase=PAINT),
    "gt_render": RenderParams(wrong_audio_s=0.4),
    "gt_render_drive": RenderParams(),
}


def run(stage, places, params=None, **keys):
    module = MODULES[stage]
    own = dataclasses.replace(KEYS if "extractor" in module.STAGE.per else SPEAKER, **keys)
    return execute(module.STAGE, module.run, own, places, params or PARAMS[stage])


def save(record, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    record.save(folder)


def make_bound_egg(root: Path) -> Places:
    """Write the egg as tracked with the demo's head model: its jaw goes as the egg's lower lip does."""
    places = make_speaker(root)
    model = build()
    clip, track = Clip.load(places.record("ingest", SPEAKER)), HeadTrack.load(places.record("track", SPEAKER))
    values = AudioFeatures.load(places.record("audio", KEYS)).values
    expression = np.zeros((FRAMES, len(model.expression_names)), np.float32)
    expression[:, list(model.expression_names).index("jaw")] = values.mean((1, 2)) * 0.6
    expression[:, list(model.expression_names).index("blink_left")] = np.linspace(0, 0.3, FRAMES)
    identity = np.zeros(len(model.identity), np.float32)
    save(
        dataclasses.replace(
            track,
            model="synthetic",
            identity=identity,
            expression=expression,
            expression_names=list(model.expression_names),
            landmark_index=model.landmark_index,
            rest_landmarks=model.landmarks(identity).astype(np.float32),
        ),
        places.record("track", SPEAKER),
    )
    save(extract(clip.sound, 16000, FRAMES, "logmel", AudioParams(), places), places.record("audio", KEYS))
    record = places.speaker_record("egg")
    record.write_text(record.read_text() + "head_model: synthetic\n")
    execute(POSE_REFINE, refine, SPEAKER, places, PoseRefineParams(rounds=0))
    return places
