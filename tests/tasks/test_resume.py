"""Killed at any time and run again, training gives what it would have given: bit by bit, with everything that changes.

Every stage of training in this process, killed twice; the face, with its density control, also by `kill -9`.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_speaker import KEYS, make_speaker

from models.gaussians.plan import Density
from models.methods.talking_gaussian_phases import FacePhase, FusePhase, MotionPhase, MouthDensity, MouthPhase
from models.records import Weights
from tasks import pose_refine, tg_face, tg_fuse, tg_motion, tg_mouth, training
from tasks.places import Places
from tasks.stage import execute

pytestmark = pytest.mark.usefixtures("quiet_training")

ROOT = Path(__file__).resolve().parents[2]
DENSITY = {"start": 0.06, "every": 0.06, "capacity": 400, "growth": 0.3}
STEPS = 100
FACE = {"steps": STEPS, "points": 250, "density": DENSITY}
PARAMS = {
    "pose_refine": pose_refine.PoseRefineParams(rounds=0),
    "tg_motion": tg_motion.MotionParams(phase=MotionPhase(steps=20, frames=8)),
    "tg_face": tg_face.FaceParams(phase=FacePhase(**{**FACE, "density": Density(**DENSITY)})),
    "tg_mouth": tg_mouth.MouthParams(
        phase=MouthPhase(steps=30, points=60, density=MouthDensity(start=0.25, every=0.25, capacity=90, growth=0.3))
    ),
    "tg_fuse": tg_fuse.FuseParams(phase=FusePhase(steps=30)),
}
MODULES = {module.STAGE.name: module for module in (pose_refine, tg_motion, tg_face, tg_mouth, tg_fuse)}


class Killed(BaseException):
    """Nothing in the project catches this."""


def run(stage: str, places: Places) -> Weights | None:
    module = MODULES[stage]
    keys = KEYS if "extractor" in module.STAGE.per else dataclasses.replace(KEYS, extractor=None)
    path = execute(module.STAGE, module.run, keys, places, PARAMS[stage])
    return None if stage == "pose_refine" else Weights.load(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Places, dict[str, Weights]]:
    """A speaker that was trained without interruption, and what each stage gave."""
    places = make_speaker(tmp_path_factory.mktemp("egg"))
    places.params.write_text(yaml.safe_dump({"render": {}, "audio": {}, "tg_face": {"phase": FACE}}))
    found = {stage: run(stage, places) for stage in PARAMS}
    return places, {stage: weights for stage, weights in found.items() if weights is not None}


def same(one: Weights, other: Weights) -> None:
    assert set(one.tensors) == set(other.tensors)
    for name, tensor in one.tensors.items():
        assert np.array_equal(tensor, other.tensors[name]), name
    assert one.curves == other.curves


@pytest.mark.parametrize("stage", ["tg_motion", "tg_face", "tg_mouth", "tg_fuse"])
def test_a_stage_goes_on_as_if_nothing_had_happened(
    whole: tuple[Places, dict[str, Weights]], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    places, wanted = whole
    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", 0.0)
    original = training.Progress
    for after in (7, 6):

        class Deadly(original):
            def update(self, count: int = 1, note: str = "", deadly: int = after) -> None:
                super().update(count, note)
                if self.done == deadly:
                    raise Killed

        monkeypatch.setattr(training, "Progress", Deadly)
        with pytest.raises(Killed):
            run(stage, places)
    monkeypatch.setattr(training, "Progress", original)
    resumed = run(stage, places)
    assert resumed is not None
    assert resumed.quality["resumed"] == 2
    assert wanted[stage].quality["resumed"] == 0
    same(resumed, wanted[stage])


# The stage as `python -m tasks.tg_face` runs it, but that it saves its state after every step and tells MLflow nothing.
EAGER = """
import runpy, sys
from contextlib import nullcontext
from types import SimpleNamespace
from tasks import training
training.CHECKPOINT_EVERY_S = 0.0
training.live_curves = lambda *_: nullcontext(SimpleNamespace(log=lambda *_, **__: None))
sys.argv[1:] = ["--speaker", "egg", "--extractor", "logmel"]
runpy.run_module("tasks.tg_face", run_name="__main__", alter_sys=True)
"""


def test_kill_9_at_any_time_costs_nothing_but_time(whole: tuple[Places, dict[str, Weights]]) -> None:
    places, wanted = whole
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "GAUSSTALK_ROOT": str(places.root),
        "GAUSSTALK_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }
    scratch = places.root / ".work" / "tg_face"
    process = subprocess.Popen([sys.executable, "-c", EAGER], cwd=ROOT, env=environment)
    while process.poll() is None and not any(scratch.rglob("*.checkpoint")):
        time.sleep(0.002)
    time.sleep(0.03)  # some later checkpoint may just be being written
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    subprocess.run([sys.executable, "-c", EAGER], cwd=ROOT, env=environment, check=True, timeout=300)
    resumed = Weights.load(places.record("tg_face", KEYS))
    assert resumed.quality["resumed"] == 1
    assert resumed.quality["gaussians"] > FACE["points"]  # density control did something
    same(resumed, wanted["tg_face"])
