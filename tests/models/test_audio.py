"""Every frame's window of features lies on the frame's instant, whatever the extractor's rate and the microphone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_speech import RATE, speech_like

from models import audio
from models.audio import logmel
from models.audio.align import scale_of, windows
from models.errors import UsageError
from models.methods.audio_encoder import AudioEncoder


@settings(max_examples=60, deadline=None)
@given(
    rate_hz=st.sampled_from([20.0, 25.0, 49.95, 50.0, 100.0]),
    first_s=st.floats(-0.3, 0.3),
    width=st.integers(1, 20),
    frame_count=st.integers(1, 60),
    entry_count=st.integers(2, 150),
)
def test_windows_are_centred_on_their_frames(
    rate_hz: float, first_s: float, width: int, frame_count: int, entry_count: int
) -> None:
    # Features that are their own instant: what comes out must be the instants that were asked for.
    instants = first_s + np.arange(entry_count) / rate_hz
    values = windows(instants[:, None], first_s, rate_hz, frame_count, width)
    assert values.shape == (frame_count, 1, width)
    assert values.dtype == np.float32
    wanted = np.arange(frame_count)[:, None] / 25 + (np.arange(width) - (width - 1) / 2) / rate_hz
    np.testing.assert_allclose(values[:, 0], np.clip(wanted, instants[0], instants[-1]), atol=1e-5)


def test_entries_that_fall_on_an_instant_are_taken_unchanged() -> None:
    entries = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    values = windows(entries, 0.01, 50.0, 40, 16)
    for t in (8, 20, 39):
        np.testing.assert_array_equal(values[t].T, entries[2 * t - 8 : 2 * t + 8])


def test_features_of_any_scale_are_brought_to_one() -> None:
    random = np.random.default_rng(0)
    plain = random.normal(size=(300, 6, 4)).astype(np.float32)
    factors, shifts = np.array([6, 0.3, 1, 50, 1e-4, 0.0]), np.array([0, -4, 0, 90, 2, 7])
    mean, deviation = scale_of((plain * factors[:, None] + shifts[:, None]).astype(np.float32))
    np.testing.assert_allclose(mean[:4], shifts[:4], atol=4)
    np.testing.assert_allclose(deviation[:4], factors[:4], rtol=0.1)
    # What hardly varies keeps being small, and what never does divides by something.
    assert deviation[4] == deviation[5] == pytest.approx(0.1 * np.median(deviation), rel=0.2)
    for silent in (np.full((9, 3, 2), -3, np.float32), np.zeros((0, 3, 2), np.float32)):
        np.testing.assert_array_equal(scale_of(silent)[1], 1)


def test_features_without_entries_are_refused() -> None:
    with pytest.raises(UsageError, match="shape"):
        windows(np.empty((0, 80)), 0.0, 50.0, 3, 16)


@pytest.mark.parametrize("frame", [6, 20, 37])
def test_a_click_is_seen_symmetrically_about_its_frame(frame: int) -> None:
    sound = np.random.default_rng(0).normal(0, 20, 2 * RATE)
    sound[frame * 640 - 4 : frame * 640 + 4] = 20000
    values = logmel.extract(sound.astype(np.int16), 50, 16)
    level = values.mean(1)  # [T, W]
    assert level[:, 7:9].mean(1).argmax() == frame
    at_frame = level[frame]
    assert set(np.argsort(at_frame)[-2:]) == {7, 8}
    np.testing.assert_allclose(at_frame[7], at_frame[8], atol=0.15)


@pytest.mark.parametrize("hertz", [200.0, 1000.0, 4000.0])
def test_a_tone_lights_up_the_band_that_holds_it(hertz: float) -> None:
    tone = (8000 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)).astype(np.int16)
    levels = logmel.log_mel(tone, 0, 50)[25]
    bank = logmel.mel_bank()
    assert bank[round(hertz / 20), levels.argmax()] > 0.5
    assert levels.max() == pytest.approx(20 * np.log10(8000 / 32768) + 10 * np.log10(0.375), abs=3)


def test_computing_in_blocks_changes_nothing() -> None:
    sound = speech_like(3.0)
    whole = logmel.log_mel(sound, -9, 170)
    for block in (1, 7, 64):
        np.testing.assert_allclose(logmel.log_mel(sound, -9, 170, block), whole, atol=1e-3)
    np.testing.assert_allclose(logmel.log_mel(sound, 40, 50), whole[49:99], atol=1e-3)


@pytest.mark.parametrize("seconds", [0.2, 1.0, 3.17])
@pytest.mark.parametrize("window", [2, 15, 16])
def test_there_is_a_window_for_every_frame_whatever_the_sound_lasts(seconds: float, window: int) -> None:
    for frame_count in (1, 25, 100):
        values = logmel.extract(speech_like(seconds), frame_count, window)
        assert values.shape == (frame_count, 80, window)
        assert np.isfinite(values).all()
        assert np.abs(values).max() <= 3


def test_another_microphone_looks_the_same() -> None:
    sound = speech_like(4.0).astype(float)
    plain = logmel.extract(sound.astype(np.int16), 100, 16)
    quiet = logmel.extract((0.25 * sound).astype(np.int16), 100, 16)
    muffled = logmel.extract(np.convolve(sound, [0.5, 0.5], "same").astype(np.int16), 100, 16)
    other = logmel.extract(np.roll(sound, RATE // 6).astype(np.int16), 100, 16)
    loud = plain[:, :, 7:9].mean((1, 2)) > 0
    assert loud.sum() > 20
    assert np.abs(quiet - plain)[loud].mean() < 0.15
    assert np.abs(muffled - plain)[loud].mean() < 0.25
    assert np.abs(other - plain)[loud].mean() > 0.5  # it is not that everything looks alike


def test_silence_lies_at_the_lower_limit_digital_or_not() -> None:
    sound = speech_like(4.0)
    sound[: RATE // 2] = 0
    values = logmel.extract(sound, 100, 16)
    np.testing.assert_array_equal(values[2, :, 8:], -3)
    assert np.percentile(values[20:60], 90) > 0.5  # speech does not
    np.testing.assert_array_equal(logmel.extract(np.zeros(RATE, np.int16), 25, 16), -3)
    np.testing.assert_array_equal(logmel.extract(np.empty(0, np.int16), 25, 16), -3)


def test_one_sentence_in_a_recording_that_is_muted_otherwise_is_heard() -> None:
    speech = speech_like(2.0)
    sound = np.random.default_rng(0).normal(0, 2, 60 * RATE).round().astype(np.int16)
    sound[10 * RATE : 12 * RATE] = speech
    heard = logmel.extract(sound, 60 * 25, 16)[250:300]
    alone = logmel.extract(speech, 50, 16)
    assert np.corrcoef(heard[10:-10].ravel(), alone[10:-10].ravel())[0, 1] > 0.95
    np.testing.assert_array_equal(logmel.extract(sound[15 * RATE :], 100, 16), -3)


def test_extractors_are_found_by_name() -> None:
    assert "logmel" in audio.names()
    assert "align" not in audio.names()
    for name in audio.names():
        module = audio.extractor(name)
        assert isinstance(module.REVISION, str)
        assert all(isinstance(asset, str) for asset in module.ASSETS)
        assert callable(module.extract)
    with pytest.raises(UsageError, match="log_mel") as raised:
        audio.extractor("log_mel")
    assert "logmel" in raised.value.why


def test_a_head_hears_the_same_whatever_the_scale_of_its_features() -> None:
    random = np.random.default_rng(0)
    plain = random.normal(size=(40, 8, 6, 16)).astype(np.float32)
    factors, shifts = random.uniform(10, 60, (6, 1)), random.normal(0, 20, (6, 1))
    codes = []
    for values in (plain, (plain * factors + shifts).astype(np.float32)):
        torch.manual_seed(0)
        encoder = AudioEncoder(6)
        encoder.expect(*map(torch.from_numpy, scale_of(values[:, 0])))
        codes.append(encoder(torch.from_numpy(values)).detach().numpy())
    assert codes[0].std(0).max() > 1e-3
    np.testing.assert_allclose(codes[1], codes[0], atol=1e-4)
