"""Stages of training whose kernels are recorded, on graphs that run on the CPU, learn what called ones learn."""

import cpu_graphs
import numpy as np
import pytest
from test_training import often, run
from tiny_speaker import make_speaker

from models.gaussians.plan import Density
from models.methods.talking_gaussian_phases import FacePhase, FusePhase, MotionPhase, MouthDensity, MouthPhase
from models.records import Weights
from models.schedule import Term
from tasks import tg_face, tg_fuse, tg_motion, tg_mouth
from tasks.pose_refine import PoseRefineParams

pytestmark = pytest.mark.usefixtures("quiet_training")
PARAMS = {
    "tg_motion": tg_motion.MotionParams(phase=MotionPhase(steps=6, frames=4)),
    "tg_face": tg_face.FaceParams(
        phase=FacePhase(steps=24, points=100, attention=Term(4e-4, every=2), density=often(Density, 24, capacity=150))
    ),
    "tg_mouth": tg_mouth.MouthParams(
        phase=MouthPhase(steps=16, points=60, density=often(MouthDensity, 16, capacity=500))
    ),
    "tg_fuse": tg_fuse.FuseParams(phase=FusePhase(steps=8)),
}
REPLAYS = {"tg_motion": 0, "tg_face": 135, "tg_mouth": 58, "tg_fuse": 48}
"""Two a call of what moves, of landmarks and of the image's loss; one where nothing is differentiated."""


def test_recorded_stages_learn_what_called_ones_learn(tmp_path, monkeypatch):
    places = make_speaker(tmp_path)
    run("pose_refine", places, PoseRefineParams(rounds=0))
    cpu_graphs.use_cuda_paths(monkeypatch)
    for stage, params in PARAMS.items():
        called = Weights.load(run(stage, places, params))
        with monkeypatch.context() as patch:
            cpu_graphs.install(patch)
            recorded = Weights.load(run(stage, places, params))
            assert cpu_graphs.Tape.replays == REPLAYS[stage], stage
        assert set(called.curves) == set(recorded.curves)
        for name, curve in called.curves.items():
            np.testing.assert_allclose(recorded.curves[name], curve, rtol=2e-3, atol=1e-6, err_msg=f"{stage}: {name}")
