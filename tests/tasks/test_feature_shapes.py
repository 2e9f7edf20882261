"""A head can be taught with the features of every extractor, whatever their shape and scale."""

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_speaker import FRAMES, KEYS, make_speaker

from models import audio
from models.audio.align import scale_of
from models.methods.talking_gaussian_phases import MotionPhase
from models.records import AudioFeatures, Weights
from tasks import tg_motion, training
from tasks.stage import execute

# Numbers in an entry, entries in a window, and how large they are on speech: scores before softmax are the largest, a
# layer's activations the smallest.
SHAPES = {"deepspeech": 6.0, "hubert": 0.3, "logmel_embedding": 1.0}
STEPS = 180


@pytest.mark.parametrize("extractor", SHAPES)
def test_lips_are_learnt_from_features_of_any_shape(
    extractor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "live_curves", lambda *_: nullcontext(SimpleNamespace(log=lambda *_, **__: None)))
    monkeypatch.setenv("GAUSSTALK_THREADS", "1")
    places, module, random = make_speaker(tmp_path), audio.extractor(extractor), np.random.default_rng(3)
    jaw = AudioFeatures.load(places.record("audio", KEYS)).values.mean((1, 2))
    jaw = (jaw - jaw.mean()) / jaw.std()
    pattern = random.normal(0, 1, module.SIZE)
    values = jaw[:, None] * pattern + random.normal(0, 0.1, (FRAMES, module.SIZE))
    values = np.repeat(SHAPES[extractor] * values[:, :, None], module.WINDOW, 2).astype(np.float32)

    def error_after(heard: np.ndarray) -> float:
        keys = dataclasses.replace(KEYS, extractor=extractor)
        folder = places.record("audio", keys)
        folder.mkdir(parents=True, exist_ok=True)
        AudioFeatures(extractor, module.REVISION, 25.0, heard, *scale_of(heard), FRAMES / 25).save(folder)
        params = tg_motion.MotionParams(phase=MotionPhase(steps=STEPS, frames=8))
        weights = Weights.load(execute(tg_motion.STAGE, tg_motion.run, keys, places, params))
        assert weights.config["audio_size"] == module.SIZE
        return float(np.mean(weights.curves["landmarks"][-20:]))

    # The whole is learnt from the sound: silence does not lead there.
    heard, silent = error_after(values), error_after(0 * values)
    assert heard < 0.85 * silent
