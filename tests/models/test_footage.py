"""What landmarks and sound of invented recordings tell."""

import numpy as np
import pytest

from models.footage import blinks, head_yaw, mouth_opening, sound_lag
from models.heads.mediapipe_points import LIP_PAIRS

RATE = 16000


def speech(frames=500, lag=0, seed=0):
    """An opening mouth and a noisy vowel whose loudness and colour follow it, `lag` frames later."""
    random = np.random.default_rng(seed)
    opening = np.convolve(np.clip(random.normal(0, 1, frames + 12), 0, None), np.hanning(7), "same")[6 : 6 + frames]
    loud = np.interp(np.arange(frames * 640) / 640, np.arange(frames), np.roll(opening, lag))
    sound = random.normal(0, 1, frames * 640) * (200 + 3000 * loud)
    return 0.05 * opening + random.normal(0, 0.002, frames), sound.clip(-32000, 32000).astype(np.int16)


@pytest.mark.parametrize("lag", [-9, -3, 0, 5, 12])
def test_the_lag_of_a_sound_is_found_and_it_says_how_sure_it_is(lag):
    found = sound_lag(*speech(lag=lag))
    assert found.frames == pytest.approx(lag, abs=1)
    assert found.low <= lag + 1
    assert found.high >= lag - 1
    assert found.sure


def test_gaps_in_the_face_do_not_move_the_lag():
    opening, sound = speech(lag=4)
    opening[100:140] = opening[300:310] = np.nan
    found = sound_lag(opening, sound)
    assert (found.frames, found.sure) == (4, True)


@pytest.mark.parametrize("kind", ["another sound", "short", "silence", "still", "no face", "far"])
def test_what_cannot_be_told_is_unsure_and_says_why(kind):
    opening, sound = speech(lag=0)
    if kind == "another sound":
        sound = speech(seed=1)[1]
    if kind == "short":
        opening, sound = opening[:100], sound[:64000]
    if kind == "silence":
        sound = np.zeros_like(sound)
    if kind == "still":
        opening = np.full_like(opening, 0.02)
    if kind == "no face":
        opening = np.full_like(opening, np.nan)
    if kind == "far":
        sound = np.roll(sound, 40 * 640)
    found = sound_lag(opening, sound)
    assert not found.sure
    assert found.why


def test_turns_and_openings_are_measured_against_the_eyes():
    points = np.zeros((3, 478, 2))
    points[:, 33], points[:, 263], points[:, 4] = (-50, 0), (50, 0), (0, 40)
    depth = 0.52 * 100
    points[1, 4, 0] = depth * np.tan(np.radians(20))
    points[2, 4, 0] = -depth * np.tan(np.radians(10))
    assert head_yaw(points) == pytest.approx([0, 20, -10], abs=0.01)
    for upper, lower in LIP_PAIRS:
        points[1, upper], points[1, lower] = (0, 60), (0, 70)
    assert mouth_opening(points) == pytest.approx([0, 0.1, 0])
    assert np.isnan(mouth_opening(np.full((4, 478, 2), np.nan))).all()


def test_blinks_are_counted_whatever_their_strength_but_not_made_up():
    time = np.arange(500)
    weak = 0.05 + sum(0.42 * np.exp(-0.5 * ((time - at) / 1.5) ** 2) for at in (60, 200, 340, 470))
    assert blinks(weak) == 4
    assert blinks(np.full(500, 0.02) + 0.01 * np.sin(time)) == 0
    assert blinks(np.full(500, np.nan)) == 0
    assert blinks(np.full(500, 0.9)) == 1
