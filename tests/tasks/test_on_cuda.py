"""Stages on a pretended CUDA device: nothing stays on the CPU that should not, and results are those of the CPU."""

import dataclasses
from functools import partial

import bound_egg
import numpy as np
import pretend_cuda
import pytest
from speaking_egg import make_speaking_egg
from test_training import often, run
from tiny_speaker import make_speaker

from models.gaussians.plan import Density
from models.methods.talking_gaussian_phases import (
    FacePhase,
    FusePhase,
    MotionPhase,
    MouthDensity,
    MouthPhase,
    StillPhase,
)
from models.records import Rendering, Weights
from models.schedule import Term
from tasks import tg_face, tg_fuse, tg_motion, tg_mouth
from tasks.pose_refine import PoseRefineParams

pytestmark = pytest.mark.usefixtures("quiet_training")
TALKING_GAUSSIAN = {
    "pose_refine": PoseRefineParams(
        rounds=1, phase=StillPhase(steps=12, points=100, density=often(Density, 12, capacity=150))
    ),
    "tg_motion": tg_motion.MotionParams(phase=MotionPhase(steps=6, frames=4)),
    "tg_face": tg_face.FaceParams(
        phase=FacePhase(steps=24, points=100, hide_hair=Term(1.0), density=often(Density, 24, capacity=150))
    ),
    "tg_mouth": tg_mouth.MouthParams(
        phase=MouthPhase(steps=16, points=60, density=often(MouthDensity, 16, capacity=500))
    ),
    "tg_fuse": tg_fuse.FuseParams(phase=FusePhase(steps=8)),
}


def test_talking_gaussian_learns_on_a_device_what_it_learns_on_the_cpu(tmp_path, monkeypatch):
    places = make_speaker(tmp_path)
    for stage, params in TALKING_GAUSSIAN.items():
        with monkeypatch.context() as patch, pretend_cuda.install(patch):
            there = run(stage, places, params)
            there = Weights.load(there) if stage != "pose_refine" else None
        here = run(stage, places, params)
        if there is None:
            continue
        here = Weights.load(here)
        assert (there.quality["device"], here.quality["device"]) == ("cuda", "cpu")
        assert set(there.curves) == set(here.curves)
        for name, curve in here.curves.items():
            np.testing.assert_allclose(there.curves[name], curve, rtol=5e-3, atol=1e-5, err_msg=f"{stage}: {name}")


def on_both(monkeypatch, call):
    """What a call gives on the pretended device, and what on the CPU."""
    with monkeypatch.context() as patch, pretend_cuda.install(patch):
        there = call()
    return there, call()


def frames_of(folder):
    record = Rendering.load(folder)
    return {name: np.stack(list(getattr(record, name))).astype(int) for name in record.variants}


def compare_frames(there, here):
    assert set(there) == set(here)
    for name, frames in here.items():
        assert np.abs(there[name] - frames).max() <= 2, name
        assert frames.std() > 5, name


def test_gaussian_talker_learns_and_draws_on_a_device(tmp_path, monkeypatch):
    places = bound_egg.make_bound_egg(tmp_path)

    def train(stage, steps):
        params = bound_egg.PARAMS[stage]
        params = params.model_copy(update={"phase": dataclasses.replace(params.phase, steps=steps)})
        return Weights.load(bound_egg.run(stage, places, params))

    for stage, steps in (("gt_motion", 6), ("gt_renderer", 15), ("gt_inpaint", 6)):
        there, here = on_both(monkeypatch, partial(train, stage, steps))
        assert (there.quality["device"], here.quality["device"]) == ("cuda", "cpu")
        for name, curve in here.curves.items():
            np.testing.assert_allclose(there.curves[name], curve, rtol=5e-3, atol=1e-5, err_msg=f"{stage}: {name}")
    compare_frames(*on_both(monkeypatch, lambda: frames_of(bound_egg.run("gt_render", places))))


def test_talking_gaussian_draws_on_a_device(tmp_path, monkeypatch):
    places = make_speaking_egg(tmp_path)
    compare_frames(*on_both(monkeypatch, lambda: frames_of(run("render", places))))
