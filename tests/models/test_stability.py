"""Trembling, flickering and specks against what was put in; errors of action units by hand."""

import numpy as np
import pytest

from models.action_units import UNIT_NAMES
from models.metrics import all_metrics, specks
from models.metrics.temporal import RIGID, flicker, jitter
from models.metrics.units import LOWER, UPPER, error_of

METRICS = all_metrics()


def head(count=50, seed=0):
    """Points of a head that sways."""
    t = np.arange(count)
    points = np.random.default_rng(seed).uniform(20, 200, (478, 2))
    points[33], points[263] = (60, 80), (140, 80)
    return points + np.stack([3 * np.sin(t / 7), 2 * np.cos(t / 9)], 1)[:, None]


def pictures(count=6, size=24, seed=0):
    """Soft pictures that drift."""
    y, x = np.mgrid[:size, :size] / size
    shades = [120 + 60 * np.sin(5 * x + 0.3 * t) * np.cos(4 * y) for t in range(count)]
    return np.repeat(np.array(shades)[..., None], 3, -1).astype(np.uint8)


def test_jitter_is_the_second_difference_over_the_eye_distance():
    true = head()
    shaken = true + np.where(np.arange(50) % 2, 1.0, -1.0)[:, None, None] * (1, 0)
    rows = jitter(shaken, true, None)
    assert np.isnan(rows[[0, -1]]).all()
    sway = np.diff(true[:, RIGID[0]], 2, 0)
    np.testing.assert_allclose(rows[1:-1, 1], 100 * np.linalg.norm(sway, axis=1) / 80, rtol=1e-6)
    shake = np.diff(np.where(np.arange(50) % 2, 1.0, -1.0), 2)
    expected = np.hypot(sway[:, 0] + shake, sway[:, 1])
    np.testing.assert_allclose(rows[1:-1, 0], 100 * expected / 80, rtol=1e-6)
    assert METRICS["jitter"].value(shaken, true) > 20
    assert METRICS["jitter"].value(true + 5, true) == pytest.approx(1)


def test_jitter_does_not_mind_lips_or_a_missing_frame():
    true = head()
    talking = true.copy()
    talking[:, [13, 14, 61, 291, 159, 145]] += np.random.default_rng(1).normal(0, 5, (50, 6, 2))
    assert METRICS["jitter"].value(talking, true) == pytest.approx(1)
    gap = talking.copy()
    gap[20] = np.nan
    rows = jitter(gap, true, None)
    assert np.isnan(rows[19:22]).all()
    assert METRICS["jitter"].value(gap, true) == pytest.approx(1)
    still = np.repeat(true[:1], 50, 0)
    assert np.isnan(METRICS["jitter"].value(true, still))


def test_flicker_of_a_known_change():
    true = pictures()
    region = np.zeros(true.shape[:3], bool)
    region[:, 5:15, 5:15] = True
    blinking = true.copy()
    blinking[3, 5:15, 5:15] += 20
    rows, same = flicker(blinking, true, region), flicker(true, true, region)
    assert np.isnan(rows[[0, -1]]).all()
    # 20 levels come and go: once in the frames beside it, twice in its own.
    exact = [np.abs(np.diff(blinking[:, 5:15, 5:15].astype(int), 2, 0)).mean((1, 2, 3))]
    np.testing.assert_allclose(rows[1:-1, 0], exact[0])
    np.testing.assert_allclose(rows[:, 1], same[:, 0])
    assert rows[3, 0] - rows[3, 1] == pytest.approx(40, abs=4)
    outside = ~region
    assert METRICS["flicker"].value(blinking, true, outside) == pytest.approx(1)
    assert np.isnan(METRICS["flicker"].value(blinking, np.repeat(true[:1], 6, 0), region))


def test_specks_are_small_and_alone():
    picture = np.full((40, 40, 3), 120, np.uint8)
    picture[:, 30:] = 20  # an edge
    picture[5, 5] = 200
    picture[10:12, 10] = 40
    picture[20, 20] = 135  # too faint
    picture[30:34, 8:12] = 220  # too large
    found = specks.specks(picture)
    assert found.sum() == 2
    assert found[5, 5]
    assert found[10:12, 10].sum() == 1


def test_specks_are_counted_in_the_region_against_the_truth():
    true = np.full((2, 30, 30, 3), 120, np.uint8)
    true[:, 4, 4] = 220
    spotted = true.copy()
    for k in range(5):
        spotted[:, 15, 4 * k + 4] = 20
    region = np.zeros((2, 30, 30), bool)
    region[:, :, :10] = True
    np.testing.assert_array_equal(specks.counts(spotted, true, None), [[6, 1]] * 2)
    np.testing.assert_array_equal(specks.counts(spotted, true, region), [[3, 1]] * 2)
    assert METRICS["specks"].value(spotted, true) == pytest.approx(7 / 2)
    assert METRICS["specks"].value(true, true) == 1
    assert np.isnan(METRICS["specks"].value(true, true, np.zeros((2, 30, 30), bool)))


def test_errors_of_units_are_added_up_over_the_two_halves():
    assert sorted(LOWER + UPPER) == sorted(int(name[2:]) for name in UNIT_NAMES)
    true = np.zeros((10, 17))
    wrong = true.copy()
    wrong[:, UNIT_NAMES.index("AU25")] = 2
    wrong[::2, UNIT_NAMES.index("AU12")] = 1
    wrong[:, UNIT_NAMES.index("AU45")] = 3
    assert METRICS["AUE-L"].value(wrong, true) == pytest.approx(4 + 0.5)
    assert METRICS["AUE-U"].value(wrong, true) == pytest.approx(9)


def test_a_unit_that_is_absent_makes_the_paper_s_sum_absent_and_shortens_ours():
    true = np.zeros((10, 17))
    wrong = true + 1
    true[:, UNIT_NAMES.index("AU14")] = np.nan
    assert np.isnan(METRICS["AUE-L"].value(wrong, true))
    assert METRICS["AUE-L_own"].value(wrong, true) == pytest.approx(len(LOWER) - 1)
    wrong[3] = np.nan  # a frame without a face is left out
    assert METRICS["AUE-L_own"].value(wrong, true) == pytest.approx(len(LOWER) - 1)
    assert np.isnan(error_of(LOWER, False)(np.full((2, 17), np.nan), true[:2], None)).all()
