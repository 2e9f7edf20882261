"""The demo speaker as a stage: everything it promises is there, agrees with itself and is made the same every time."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from models.demo.scripts import SCRIPTS
from models.demo.speech import Phoneme, Speech
from models.metrics.lips import lip_gap
from models.records import DemoTruth, Landmarks
from tasks import demo
from tasks.media import FrameReader, read_sound
from tasks.places import Keys, Places
from tasks.stage import execute


def test_speech_is_repeated_or_cut_to_the_wanted_length() -> None:
    phonemes = [Phoneme(0.0, 0.6, "a", True), Phoneme(0.6, 1.0, "", False)]
    speech = Speech(np.arange(1000, dtype=np.int16), 1000, phonemes)
    long = demo.fitted(speech, 2.5)
    np.testing.assert_array_equal(long.samples, np.arange(2500) % 1000)
    spans = [(p.start_s, p.end_s) for p in long.phonemes]
    np.testing.assert_allclose(spans, [(0, 0.6), (0.6, 1), (1, 1.6), (1.6, 2), (2, 2.5)])
    short = demo.fitted(speech, 0.7)
    assert len(short.samples) == 700
    assert [(p.start_s, p.end_s) for p in short.phonemes] == [(0.0, 0.6), (0.6, 0.7)]


def test_a_longer_clip_goes_on_with_another_text() -> None:
    hello = Speech(np.full(1000, 1, np.int16), 1000, [Phoneme(0.0, 1.0, "a", True)])
    world = Speech(np.full(500, 2, np.int16), 1000, [Phoneme(0.0, 0.2, "", False), Phoneme(0.2, 0.5, "o", False)])
    both = hello.followed_by(world)
    assert [(p.start_s, p.end_s, p.symbol) for p in both.phonemes] == [(0, 1, "a"), (1, 1.2, ""), (1.2, 1.5, "o")]
    assert demo.fitted(both, 1.0).phonemes == hello.phonemes  # what is cut off leaves nothing behind
    np.testing.assert_array_equal(demo.fitted(both, 2.0).samples, np.repeat([1, 2, 1], [1000, 500, 500]))
    sentences = re.findall(r"[^.?!]+", " ".join(SCRIPTS[script].text for script in demo.TEXT))
    assert len({sentence.strip() for sentence in sentences}) == len(sentences)
    assert sum(SCRIPTS[script].duration_s for script in demo.TEXT) == 60


def test_a_tiny_demo_is_whole_and_repeatable(tmp_path: Path) -> None:
    bytes_of = []
    for turn in ("one", "two"):
        places = Places(tmp_path / turn)
        places.root.mkdir()
        params = demo.DemoParams(seconds=1.2, drive_seconds=0.8, size=48, seed=3)
        execute(demo.STAGE, demo.run, Keys(), places, params)
        bytes_of.append((places.raw_speaker("demo") / "video.mp4").read_bytes())
    assert bytes_of[0] == bytes_of[1]
    folder = places.raw_speaker("demo")
    pictures = list(FrameReader(folder / "video.mp4"))
    truth = DemoTruth.load(folder / "truth")
    assert len(pictures) == len(truth.labels) == len(truth.landmarks_px) == 30
    assert pictures[0].shape == (48, 48, 3)
    assert (truth.width, truth.height) == (48, 48)
    sound = read_sound(folder / "video.mp4")
    assert len(sound) == pytest.approx(1.2 * 16000, abs=1100)  # whole packets of AAC
    assert np.abs(sound).max() > 1000
    assert json.loads((folder / "phonemes.json").read_text()) == truth.phonemes
    for drive in demo.DRIVES:
        assert len(read_sound(places.raw_drive(drive) / "speech.wav")) == pytest.approx(0.8 * 16000, abs=2)
        talker = Landmarks.load(places.raw_drive(drive) / "truth")
        gap = lip_gap(talker.points)
        assert len(gap) == 20
        assert gap.std() > 0.01  # the lips say something
        np.testing.assert_array_equal(talker.present, truth.present)
    assert not np.allclose(gap, lip_gap(Landmarks.load(places.raw_drive("de_f") / "truth").points))

    # Landmarks, pose and camera are of one head.
    camera = np.einsum("tij,tlj->tli", truth.world_to_camera[:, :3, :3], truth.landmarks_m)
    camera += truth.world_to_camera[:, None, :3, 3]
    pixels = camera @ truth.intrinsics.T
    pixels = (pixels[..., :2] / pixels[..., 2:])[:, truth.present]
    np.testing.assert_allclose(pixels, truth.landmarks_px[:, truth.present], atol=0.01)
    nose = truth.landmarks_px[:, 4].astype(int)
    assert all(truth.labels[t][y, x] == 1 for t, (x, y) in enumerate(nose))
    assert truth.expression.shape[1] == len(truth.expression_names)
    assert truth.action_units.shape[1] == len(truth.action_unit_names)
    assert not list((places.root / ".work").rglob("*.mp4"))
