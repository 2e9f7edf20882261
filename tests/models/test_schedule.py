"""Rows of a phase: when they are on, how curves fall, and that the table says what the loop does."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.curriculum import FrameSampler
from models.gaussians.plan import Density
from models.methods.gaussian_talker_phases import RendererPhase, TranslatorPhase
from models.methods.talking_gaussian_phases import FacePhase, FusePhase, MotionPhase, MouthPhase, StillPhase
from models.schedule import (
    OFF,
    Backdrop,
    Decay,
    Frozen,
    Term,
    color_at,
    curve_rows,
    describe,
    factor_at,
    frozen_at,
    weighed,
    weights_at,
)


def steps_on(term, steps):
    return [step for step in range(1, steps + 1) if term.at(step, steps)]


def test_a_term_is_on_after_its_start_and_up_to_its_end():
    assert steps_on(Term(2.0, start=0.5, end=0.8), 10) == [6, 7, 8]
    assert steps_on(Term(2.0, every=4), 10) == [4, 8]
    assert steps_on(Term(start=0.2, end=0.9, rests=3), 10) == [4, 5, 7, 8]  # the hair: all but every third
    assert steps_on(OFF, 10) == []
    assert Term(0.3, start=0.5).at(6, 10) == 0.3


@settings(max_examples=60, deadline=None)
@given(start=st.floats(0, 1), width=st.floats(0, 1), steps=st.integers(1, 400))
def test_the_table_says_what_the_loop_does_however_short_the_phase(start, width, steps):
    term = Term(1.0, start, min(1.0, start + width))
    on = steps_on(term, steps)
    ((_, first, last, _),) = term.rows("x", steps)
    assert on == list(range(first, last + 1))


@pytest.mark.parametrize("wrong", [{"start": -0.1}, {"start": 0.6, "end": 0.5}, {"end": 1.1}, {"every": 0}])
def test_a_term_outside_its_phase_is_refused(wrong):
    with pytest.raises(ValueError, match="a term starts"):
        Term(1.0, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: FacePhase(steps=-5),
        lambda: FacePhase(points=-1),
        lambda: TranslatorPhase(windows=0),
        lambda: TranslatorPhase(audio_noise=float("nan")),
        lambda: Term(-1.0),
        lambda: Term(float("inf")),
        lambda: Density(every=0.0),
        lambda: Backdrop(()),
        lambda: Decay(0.1, over=0.0),
        lambda: Decay(0.1, until=5.0),
    ],
)
def test_a_number_with_which_nothing_can_be_trained_is_refused(wrong):
    with pytest.raises(ValueError, match="above 0|or more|no number"):
        wrong()


def test_the_released_curve_halves_then_jumps():
    curve = (Decay(0.5, over=0.8, until=0.8), Decay(0.1))
    for step in (1, 20_000, 39_999):
        assert factor_at(curve, step / 50_000) == pytest.approx(0.5 ** (step / 40_000))
    for step in (40_000, 45_000, 50_000):
        assert factor_at(curve, step / 50_000) == pytest.approx(0.1 ** (step / 50_000))
    held = (Decay(0.01, over=0.9, until=0.9),)
    assert factor_at(held, 0.45) == pytest.approx(0.1)
    assert factor_at(held, 0.9) == factor_at(held, 1.0) == pytest.approx(0.01)
    assert factor_at((), 0.7) == 1
    assert [row.says for row in curve_rows("rate", curve, 2.0, 100)] == ["2 → 1", "0.317 → 0.2"]


def test_only_terms_that_count_are_computed():
    def never():
        raise AssertionError

    assert weighed({"a": 0.5, "b": 0.0}, {"a": lambda: 4.0, "b": never, "c": never}) == {"a": 2.0}


def test_parts_are_frozen_and_backdrops_change_in_their_time():
    rows = (Frozen(("motion",), end=0.125), Frozen(("means", "motion"), start=0.98))
    assert frozen_at(rows, 0.125) == {"motion"}
    assert frozen_at(rows, 0.5) == frozenset()
    assert frozen_at(rows, 1.0) == {"means", "motion"}
    green, red = (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)
    rows = (Backdrop((green, red), end=0.5), Backdrop((red,), start=0.8))
    assert [color_at(rows, step, 10) for step in (1, 2, 7, 9)] == [red, green, (0.0, 0.0, 0.0), red]


@pytest.mark.parametrize("phase", [MotionPhase(), StillPhase(), FacePhase(), MouthPhase(), FusePhase()])
@pytest.mark.parametrize("steps", [1, 7, 900])
def test_every_term_of_every_phase_is_in_its_table(phase, steps):
    phase = type(phase)(steps=steps)
    rows, constants = describe(phase)
    told = {row.name for row in rows}
    assert all(1 <= row.first <= row.last <= steps for row in rows)
    for name, weight in weights_at(phase, steps).items():
        assert name in told or weight == 0
    assert constants["steps"] == steps


def test_density_control_is_told_step_by_step():
    plan = Density(start=0.1, every=0.05, stop=0.8, green_until=1.0, prune_size_from=0.4)
    rows = {row.name: row for row in plan.rows("density", 1000)}
    due = [step for step in range(1, 1001) if plan.due(step, 1000)]
    assert (due[0], due[-1]) == (100, 950)
    assert (rows["density: grow"].first, rows["density: grow"].last) == (100, 799)
    assert rows["density: prune large"].first == 401
    assert rows["density: green"].last == 999
    assert "every 50" in rows["density: grow"].says


def test_closed_eyes_meet_every_backdrop_and_are_drawn_in_every_way():
    phase = RendererPhase()
    blink = np.arange(300.0)
    sampler = FrameSampler(np.arange(300), {"blink": blink}, phase.windows, 0)
    met = Counter()
    for step in range(1, phase.steps + 1):
        frame = sampler.draw(step, step / phase.steps)
        if frame >= 270:  # the tenth with the most closed eyes
            alone = weights_at(phase, step)["skin_alone"] > 0
            met[color_at(phase.backdrops, step, phase.steps), alone] += 1
    for alone in (True, False):
        shares = [met[color, alone] for color in phase.backdrops[0].colors]
        assert min(shares) > 0.6 * max(shares) > 0, met
