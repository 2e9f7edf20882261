"""Every option of the heads trains, says in the record that it is on, and draws the same after it was stored."""

import numpy as np
import pytest
import torch
from test_training import Killed, killed_after, often, run
from tiny_speaker import KEYS, make_speaker

from models.errors import UsageError
from models.gaussians.plan import Density
from models.methods.talking_gaussian_config import Config
from models.methods.talking_gaussian_phases import FacePhase, FusePhase, MotionPhase, MouthDensity, MouthPhase
from models.records import TRAIN, ActionUnits, AudioFeatures, Clip, Weights
from tasks import tg_face, tg_fuse, tg_motion, tg_mouth, training
from tasks.material import expression_inputs
from tasks.places import Keys
from tasks.pose_refine import PoseRefineParams
from tasks.scene import Scene
from tasks.talking_head import TalkingHead, audio_windows

pytestmark = pytest.mark.usefixtures("quiet_training")


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    places = make_speaker(tmp_path_factory.mktemp("egg"))
    run("pose_refine", places, PoseRefineParams(rounds=0))
    return places


def train(speaker, motion=None, face=None, mouth=None, fuse=None):
    """Run the four stages for a few steps, with options for each; return what they give."""
    dense, dense_mouth = often(Density, 24, capacity=150), often(MouthDensity, 16, capacity=500)
    phases = {
        "tg_motion": tg_motion.MotionParams(phase=MotionPhase(steps=6, frames=4), **motion or {}),
        "tg_face": tg_face.FaceParams(phase=FacePhase(steps=24, points=100, density=dense), **face or {}),
        "tg_mouth": tg_mouth.MouthParams(phase=MouthPhase(steps=16, points=60, density=dense_mouth), **mouth or {}),
        "tg_fuse": tg_fuse.FuseParams(phase=FusePhase(steps=4), **fuse or {}),
    }
    return {stage: Weights.load(run(stage, speaker, params)) for stage, params in phases.items()}


def picture(speaker, frame=36):
    """What the stored head draws for a test frame."""
    head = TalkingHead.load(speaker, "egg", "logmel")
    scene = Scene.load(speaker, "egg", head.config)
    windows = list(audio_windows(np.tile(np.linspace(0, 1, 44, dtype=np.float32)[:, None, None], (1, 6, 16))))
    motion = head.move(windows[frame], scene.expression[frame])
    return head.draw(scene.camera(frame), motion, scene.layers.behind(frame))


def test_a_face_is_told_the_units_it_names_and_gaze_if_it_wants_to():
    random = np.random.default_rng(0)
    names = ["AU45", "AU06", "AU02", "AU01", "AU04", "AU05", "AU07"]
    intensity, gaze = random.uniform(0, 5, (9, 7)).astype(np.float32), random.uniform(0, 1, (9, 4)).astype(np.float32)
    record = ActionUnits("tiny", intensity, gaze, np.ones(9, bool), names)
    seven = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU45")
    inputs = expression_inputs(record, Config(action_units=seven, gaze=False))
    np.testing.assert_array_equal(inputs, intensity[:, [3, 2, 4, 5, 1, 6, 0]])
    inputs = expression_inputs(record, Config())
    np.testing.assert_array_equal(inputs, np.concatenate([intensity[:, [3, 4, 5, 1, 6, 0]], gaze], 1))
    with pytest.raises(UsageError, match="AU09"):
        expression_inputs(record, Config(action_units=("AU09", "AU45")))


def test_a_head_without_gaze_learns_and_speaks(speaker):
    units = ("AU01", "AU06", "AU45")
    weights = train(speaker, motion={"gaze": False, "action_units": units})
    for stage in ("tg_motion", "tg_face"):
        assert (weights[stage].config["gaze"], weights[stage].config["action_units"]) == (False, list(units))
    assert weights["tg_fuse"].config["face"]["gaze"] is False
    assert picture(speaker).std() > 20
    assert Scene.load(speaker, "egg", Config(gaze=False)).expression.shape == (44, 6)
    record = ActionUnits.load(speaker.record("action_units", Keys(speaker=KEYS.speaker)))
    scale = weights["tg_face"].tensors["face/motion/expression_scale"]
    np.testing.assert_allclose(scale[0], np.quantile(record.columns(("AU01",))[:32], 0.95), rtol=1e-5)


@pytest.mark.parametrize("moves", ["opacity", "color"])
def test_appearance_learns_to_move(speaker, moves):
    weights = train(speaker, motion={"moves": moves})
    assert weights["tg_face"].config["moves"] == weights["tg_fuse"].config["face"]["moves"] == moves
    before, after = (
        weights[stage].tensors[f"{prefix}motion/decoder.4.weight"][10:]
        for stage, prefix in (("tg_motion", ""), ("tg_fuse", "face/"))
    )
    assert len(after) == {"opacity": 1, "color": 4}[moves]
    assert not before.any()  # landmarks say nothing of it
    assert after.any(1).all()
    assert picture(speaker).std() > 20


def test_sound_moves_a_drawn_head_farther_than_it_was_taught(speaker):
    learnt, wider = (TalkingHead(train(speaker, fuse={"articulation": by})["tg_fuse"]) for by in (1.0, 1.5))
    record = AudioFeatures.load(speaker.record("audio", KEYS))
    windows = torch.stack(list(audio_windows(record.values)))
    taught = np.flatnonzero(Clip.load(speaker.record("ingest", Keys(speaker=KEYS.speaker))).split == TRAIN)
    for branch, other in ((learnt.face, wider.face), (learnt.mouth, wider.mouth)):
        encoder, mean = branch.motion.audio, branch.motion.audio.mean_code
        with torch.no_grad():
            codes, far = encoder(windows), other.motion.audio(windows)
        torch.testing.assert_close(codes[taught].mean(0), mean)
        torch.testing.assert_close(far - mean, 1.5 * (codes - mean), rtol=1e-3, atol=1e-6)
        assert codes.std(0).max() > 1e-4
        same = other.motion.state_dict()
        assert all(torch.equal(tensor, same[name]) for name, tensor in branch.motion.state_dict().items()
                   if not name.endswith("articulation"))  # fmt: skip


def test_options_go_on_where_they_were_killed(speaker, monkeypatch):
    train(speaker, motion={"moves": "color"})
    dense = often(Density, 24, capacity=150)
    phases = {"tg_face": FacePhase(steps=24, points=100, density=dense), "tg_mouth": MouthPhase(steps=20, points=60)}
    stages = {
        "tg_face": tg_face.FaceParams(phase=phases["tg_face"]),
        "tg_mouth": tg_mouth.MouthParams(phase=phases["tg_mouth"]),
    }
    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", 0.0)
    for stage, params in stages.items():
        whole = Weights.load(run(stage, speaker, params))
        with monkeypatch.context() as patch:
            patch.setattr(training, "Progress", killed_after(13))
            with pytest.raises(Killed):
                run(stage, speaker, params)
        resumed = Weights.load(run(stage, speaker, params))
        assert resumed.quality["resumed"] == 1
        assert set(resumed.tensors) == set(whole.tensors)
        for name, tensor in whole.tensors.items():
            assert np.array_equal(tensor, resumed.tensors[name]), name
        assert resumed.curves == whole.curves
