"""Incremental sampling: ranks, windows, and that no clip can make it hang."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.curriculum import FrameSampler, Window, absolute, ranks
from models.errors import InputError


def test_without_windows_every_frame_comes_once_a_round():
    frames = np.array([3, 5, 8, 13, 21])
    sampler = FrameSampler(frames, {}, (), 0)
    for _ in range(3):
        assert sorted(sampler.draw(step, 0.5) for step in range(5)) == frames.tolist()


def test_a_window_travels_from_closed_to_open():
    opening = np.random.default_rng(0).permutation(100).astype(float)
    window = Window("opening", every=1, low=(0.0, 0.8), high=(0.2, 1.0))
    sampler = FrameSampler(np.arange(100), {"opening": opening}, (window,), 0)
    for progress in np.linspace(0.001, 1, 400):
        rank = opening[sampler.draw(1, progress)] / 99
        assert 0.8 * progress - 1e-9 <= rank <= 0.2 + 0.8 * progress + 1e-9


def test_a_window_counts_only_in_its_phase_and_on_its_steps():
    opening = np.arange(50.0)
    window = Window("opening", every=5, phase=(0.2, 0.4), low=(1.0, 1.0))
    sampler = FrameSampler(np.arange(50), {"opening": opening}, (window,), 0)
    assert [sampler.draw(5 * step, 0.3) for step in range(1, 30)] == [49] * 29
    outside = [sampler.draw(step, 0.5) for step in range(50)]
    assert len(set(outside)) > 25
    assert any(sampler.draw(4, 0.3) != 49 for _ in range(5))


def test_equal_values_have_different_ranks():
    assert ranks(np.zeros(4)).tolist() == [0, 1 / 3, 2 / 3, 1]


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 30),
    low=st.floats(0, 1),
    width=st.floats(0, 0.5),
    constant=st.booleans(),
    seed=st.integers(0, 50),
)
def test_any_window_on_any_clip_gives_a_frame(count, low, width, constant, seed):
    values = np.zeros(count) if constant else np.random.default_rng(seed).normal(size=count)
    window = Window("blink", low=(low, low), high=(low + width, low + width))
    sampler = FrameSampler(np.arange(count) * 2, {"blink": np.repeat(values, 2)}, (window,), seed)
    assert all(sampler.draw(step, 0.5) in range(0, 2 * count, 2) for step in range(3 * count))


def test_a_restored_sampler_goes_on_as_it_would_have():
    def build():
        window = Window("opening", every=3, low=(0.5, 0.5))
        return FrameSampler(np.arange(20), {"opening": np.arange(20.0)}, (window,), 4)

    first = build()
    for step in range(1, 31):
        first.draw(step, 0.1)
    second = build()
    second.load_state_dict(first.state_dict())
    assert [first.draw(s, 0.2) for s in range(60)] == [second.draw(s, 0.2) for s in range(60)]


def test_no_frames_is_an_error():
    with pytest.raises(ValueError, match="no frame"):
        FrameSampler(np.array([], int), {}, (), 0)


def blinks(sampling, highest):
    """A clip whose eyes close to `highest` of AU45, under the released window for late training."""
    window = Window("blink", low=(0.85, 0.85), high=(1.3, 1.3))
    values = np.linspace(0, highest, 40)
    return FrameSampler(np.arange(40), {"blink": values}, (window,), 0, sampling), values


def test_a_clip_without_closed_eyes_is_no_reason_to_hang():
    sampler, values = blinks("ranks", 1.0)
    assert all(values[sampler.draw(step, 0.5)] > 0.8 for step in range(1, 60))
    with pytest.raises(InputError, match="no training frame has a blink") as error:
        blinks("rejection", 1.0)[0].draw(1, 0.5)  # by itself the released loop would go on for ever
    assert "sampling: ranks" in error.value.fix


def test_rejection_reads_windows_as_the_released_code_does():
    sampler, values = blinks("rejection", 5.0)  # a closed eye, whichever tool saw it
    drawn = {sampler.draw(step, 0.5) for step in range(1, 200)}
    assert drawn == {frame for frame in range(40) if values[frame] / 5 >= 0.85}
    assert absolute("opening", np.array([3.0, 5, 7])).tolist() == [0, 0.5, 1]
    assert absolute("blink", np.array([0.0, 1, 5])).tolist() == [0, 0.2, 1]


def test_rejection_lowers_the_mouth_s_floor_from_the_widest_twentieth_to_the_lower_quartile():
    gaps = np.random.default_rng(0).gamma(1.5, 2.0, 2000)  # most mouths are nearly closed
    windows = tuple(
        Window("parting", phase=(at, at + 0.5), low=(low, low)) for at, low in ((0.0, 0.95), (0.5, 0.95 - 0.7 * 0.6))
    )
    sampler = FrameSampler(np.arange(2000), {"parting": gaps}, windows, 0, "rejection")
    high, low = np.percentile(gaps, [95, 25])
    for progress, floor in ((0.5, high), (0.6, high - 0.6 * (high - low))):
        drawn = [gaps[sampler.draw(step, progress)] for step in range(1, 400)]
        assert min(drawn) >= floor - 1e-9
        assert len(set(drawn)) > 0.5 * np.sum(gaps >= floor)
    assert absolute("parting", np.full(10, 3.0)) == pytest.approx(np.full(10, 0.95))  # lips that never move


def test_a_window_can_have_its_own_steps():
    window = Window("opening", every=15, offset=7, low=(1.0, 1.0))
    sampler = FrameSampler(np.arange(50), {"opening": np.arange(50.0)}, (window,), 0)
    drawn = [sampler.draw(step, 0.5) for step in range(1, 46)]
    assert [drawn[step - 1] for step in (7, 22, 37)] == [49, 49, 49]
    assert drawn.count(49) <= 4
