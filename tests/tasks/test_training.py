"""Training: killed and resumed equals uninterrupted; all stages in a row give a head that follows its sound."""

import dataclasses

import numba
import numpy as np
import pytest
import torch
from tiny_speaker import FRAMES, KEYS, SIZE, make_speaker

from models.gaussians.plan import Density
from models.methods.talking_gaussian_phases import (
    FacePhase,
    FusePhase,
    MotionPhase,
    MouthDensity,
    MouthPhase,
    StillPhase,
)
from models.records import Clip, RefinedPoses, Rendering, Weights
from tasks import pose_refine, render, tg_face, tg_fuse, tg_motion, tg_mouth, training
from tasks.media import probe, read_sound
from tasks.rendering import RenderParams, earlier
from tasks.stage import execute


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    """No MLflow; one thread, since such small work is slower on two."""

    class Nothing:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def log(self, step, **values):
            assert all(np.isfinite(value) for value in values.values())

    monkeypatch.setattr(training, "live_curves", lambda *_: Nothing())
    monkeypatch.setenv("GAUSSTALK_THREADS", "1")
    before = numba.get_num_threads(), torch.get_num_threads()
    yield
    numba.set_num_threads(before[0])
    torch.set_num_threads(before[1])


def often(plan, steps, **more):
    """Density control every 8 steps of so many."""
    return plan(start=8 / steps, every=8 / steps, growth=0.3, **more)


PARAMS = {
    "pose_refine": pose_refine.PoseRefineParams(
        phase=StillPhase(steps=40, points=200, density=often(Density, 40, capacity=500))
    ),
    "tg_motion": tg_motion.MotionParams(phase=MotionPhase(steps=400, frames=16)),
    "tg_face": tg_face.FaceParams(phase=FacePhase(steps=150, points=300, density=often(Density, 150, capacity=500))),
    "tg_mouth": tg_mouth.MouthParams(
        phase=MouthPhase(steps=40, points=60, density=often(MouthDensity, 40, capacity=90))
    ),
    "tg_fuse": tg_fuse.FuseParams(phase=FusePhase(steps=60)),
    "render": RenderParams(wrong_audio_s=0.4),
}
MODULES = {m.STAGE.name: m for m in (pose_refine, tg_motion, tg_face, tg_mouth, tg_fuse, render)}


def run(stage, places, params=None):
    module = MODULES[stage]
    keys = KEYS if "extractor" in module.STAGE.per else dataclasses.replace(KEYS, extractor=None)
    return execute(module.STAGE, module.run, keys, places, params or PARAMS[stage])


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A speaker with everything but a head; poses as they were tracked."""
    places = make_speaker(tmp_path_factory.mktemp("egg"))
    run("pose_refine", places, pose_refine.PoseRefineParams(rounds=0))
    return places


class Killed(BaseException):
    """Nothing in the project catches this."""


def killed_after(steps):
    class Progress(training.Progress):
        def update(self, count=1, note=""):
            super().update(count, note)
            if self.done == steps:
                raise Killed

    return Progress


def test_killed_and_resumed_equals_uninterrupted(untrained, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", 0.0)
    whole = Weights.load(run("tg_mouth", untrained))
    first_progress = training.Progress
    for after in (13, 9):  # the second time it has 27 steps to go
        monkeypatch.setattr(training, "Progress", killed_after(after))
        with pytest.raises(Killed):
            run("tg_mouth", untrained)
    monkeypatch.setattr(training, "Progress", first_progress)
    resumed = Weights.load(run("tg_mouth", untrained))
    assert resumed.quality["resumed"] == 2
    assert whole.quality["resumed"] == 0
    assert whole.quality["gaussians"] > 60  # density control did something
    assert (whole.quality["device"], whole.quality["rasteriser"]) == ("cpu", "cpu")
    assert "computing on cpu with the cpu rasteriser" in caplog.text
    assert set(whole.tensors) == set(resumed.tensors)
    for name, tensor in whole.tensors.items():
        assert np.array_equal(tensor, resumed.tensors[name]), name
    assert whole.curves == resumed.curves
    assert not list((untrained.root / ".work" / "tg_mouth").rglob("*.checkpoint"))


def test_a_damaged_checkpoint_means_beginning_anew(tmp_path, caplog):
    path = tmp_path / "phase.checkpoint"
    state = {"step": 3, "parts": {"a": torch.arange(1000), "b": {7: [1.5, None, "x"]}}, "big": 1 << 120}
    training.save_checkpoint(path, state)
    loaded = training.load_checkpoint(path)
    assert torch.equal(loaded["parts"].pop("a"), state["parts"].pop("a"))
    assert loaded == state
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"nonsense" * 99, whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
        path.write_bytes(content)
        assert training.load_checkpoint(path) is None
    assert "begins anew" in caplog.text


def test_a_kill_while_saving_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "phase.checkpoint"
    training.save_checkpoint(path, {"step": 1})

    def killed(*_):
        raise Killed

    monkeypatch.setattr(training.os, "fsync", killed)
    with pytest.raises(Killed):
        training.save_checkpoint(path, {"step": 2})
    assert training.load_checkpoint(path) == {"step": 1}


def test_noise_goes_on_where_it_was_and_has_its_size():
    noise, windows = training.Noise(0.5, 3), torch.zeros(40, 8, 6, 16)
    disturbed = noise.on(windows)
    assert disturbed.std().item() == pytest.approx(0.5 * 2**0.5, rel=0.05)
    bands = disturbed.mean((1, 3))
    assert bands.std().item() == pytest.approx(0.5, rel=0.2)
    state = {"generator": noise.state_dict()["generator"].clone()}
    after = noise.on(windows)
    again = training.Noise(0.5, 99)
    again.load_state_dict(state)
    assert torch.equal(again.on(windows), after)
    assert training.Noise(0.0, 3).on(windows) is windows


def test_some_frames_hear_another_frame_in_the_outer_half_of_their_windows():
    count = 400
    windows = torch.arange(float(count)).view(-1, 1, 1, 1).expand(-1, 8, 2, 16)
    heard = training.Noise(0.0, 3, elsewhere=0.5).on(windows)
    assert torch.equal(heard[..., 4:12], windows[..., 4:12])
    outer = torch.cat([heard[..., :4], heard[..., 12:]], -1)
    assert torch.equal(outer, outer[:, :1, :1, :1].expand_as(outer))  # one other frame, all of its windows
    swapped = outer[:, 0, 0, 0] != windows[:, 0, 0, 0]
    assert swapped.float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert windows[0, 0, 0, 0] == 0


def test_curves_have_one_point_an_interval_for_every_term():
    curves = training.Curves(250)
    for step in range(1, 251):
        curves.add(step, {"image": float(step)} | ({"motion": 1.0} if step > 120 else {}))
    assert {len(points) for points in curves.points.values()} == {83}
    assert curves.points["step"][:2] == [3, 6]
    assert curves.points["image"][:2] == [2, 5]
    assert curves.points["motion"][:40] == [0.0] * 40
    assert curves.points["motion"][-1] == 1.0


@pytest.fixture(scope="module")
def trained(untrained):
    """A head, trained by all stages."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        from contextlib import nullcontext
        from types import SimpleNamespace

        nothing = SimpleNamespace(log=lambda *_, **__: None)
        monkeypatch.setattr(training, "live_curves", lambda *_: nullcontext(nothing))
        monkeypatch.setenv("GAUSSTALK_THREADS", "1")
        for stage in ("tg_motion", "tg_face", "tg_mouth", "tg_fuse", "render"):
            run(stage, untrained)
    return untrained


def psnr(a, b):
    return -10 * np.log10(((a.astype(float) - b) ** 2).mean() / 255**2)


def test_the_head_looks_like_the_clip_and_follows_its_sound(trained):
    rendering = Rendering.load(trained.record("render", KEYS))
    clip = Clip.load(trained.record("ingest", dataclasses.replace(KEYS, extractor=None)))
    assert rendering.variants == ["full", "motion_off", "mean_motion", "wrong_audio"]
    assert rendering.frame_index.tolist() == list(range(34, FRAMES))
    mouth = (slice(28, 40), slice(14, 34))
    scores = {}
    for variant in rendering.variants:
        frames = getattr(rendering, variant)
        assert frames.shape == (FRAMES - 34, SIZE, SIZE, 3)
        whole = np.mean([psnr(frames[k], clip.frames[34 + k]) for k in range(len(frames))])
        assert whole > 25, variant
        scores[variant] = np.mean([psnr(frames[k][mouth], clip.frames[34 + k][mouth]) for k in range(len(frames))])
    assert scores["full"] > scores["wrong_audio"] + 0.2
    assert scores["full"] > scores["mean_motion"] + 0.1
    assert scores["full"] > scores["motion_off"]


def test_the_preview_has_sound_and_says_where_it_comes_from(trained):
    folder = trained.preview("render", KEYS)
    info = probe(folder / "side_by_side.mp4")
    assert (info.width, info.height) == (3 * SIZE, SIZE)
    assert info.seconds == pytest.approx((FRAMES - 34) / 25, abs=0.1)
    assert len(read_sound(folder / "result.mp4")) == pytest.approx((FRAMES - 34) * 640, abs=2000)


def test_training_keeps_to_training_frames(untrained):
    from tasks.material import Footage

    params = PARAMS["tg_mouth"]
    seen = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        original = Footage.frame
        monkeypatch.setattr(Footage, "frame", lambda self, index, box: seen.append(index) or original(self, index, box))
        run("tg_mouth", untrained, params)
    assert len(seen) == params.phase.steps
    assert max(seen) < 32


def test_poses_are_refined_on_all_frames_and_recorded(tmp_path):
    places = make_speaker(tmp_path)
    refined = RefinedPoses.load(run("pose_refine", places))
    assert refined.world_to_camera.shape == (FRAMES, 4, 4)
    assert np.isfinite(refined.world_to_camera).all()
    assert refined.quality["rounds"] == 2
    assert refined.quality["measured"] <= FRAMES
    assert (places.preview("pose_refine", dataclasses.replace(KEYS, extractor=None)) / "strip.jpg").is_file()


@pytest.mark.parametrize("count", [60, 125, 130, 249, 250, 1000])
def test_the_wrong_sound_is_of_another_moment_and_goes_on_however_short_the_clip(count):
    frames = range(count - max(9, count // 7), count)  # a test part
    heard = [earlier(frame, 125, count) for frame in frames]
    assert all(
        0 <= other < count and abs(other - frame) >= min(125, count // 2)
        for other, frame in zip(heard, frames, strict=True)
    )
    assert len(set(heard)) == len(frames)
