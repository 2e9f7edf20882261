"""From samples to frames: only what has been drawn is developed, and the frame is the same as if all were."""

from collections import Counter

import numpy as np
import pytest

from models.demo.film import Plate, Samples, develop, shrink_labels
from models.parsing.labels import BACKGROUND, CLOTH, HAIR, LIPS, NECK, SKIN

ROWS = 96
IN_SKIN = (SKIN, LIPS, NECK)


def drawn(where: tuple[slice, ...], seed: int, labels: tuple[int, ...]) -> Samples:
    """Samples of which those at `where` show something, at random."""
    generator = np.random.default_rng(seed)
    samples = Samples.of(ROWS)
    samples.owner[where] = 3
    samples.depth[where] = 0.5
    samples.label[where] = generator.choice(labels, samples.label[where].shape)
    for colours in (samples.irradiance, samples.albedo, samples.gloss):
        colours[:] = generator.random(colours.shape)
    return samples


@pytest.fixture
def plate() -> Plate:
    room = np.random.default_rng(5).random((ROWS, ROWS, 3)).astype(np.float32)
    return Plate.of(drawn(np.s_[70:, 10:90], 1, (CLOTH,)), room, ROWS // 2)


@pytest.mark.parametrize("where", [np.s_[11:60, 23:71], np.s_[0:5, 90:], np.s_[40:41, 7:8]])
def test_a_frame_is_the_plate_with_the_samples_in_front(plate: Plate, where: tuple[slice, ...]) -> None:
    samples = drawn(where, 2, (HAIR,))
    samples.label[samples.owner < 0] = plate.label[samples.owner < 0]
    rgb, labels = plate.frame(samples)
    whole = plate.colour.copy()
    whole[where] = (samples.irradiance * samples.albedo + samples.gloss)[where]
    assert np.abs(rgb.astype(int) - develop(whole, 2)).max() <= 1  # of rounding
    np.testing.assert_array_equal(labels, shrink_labels(samples.label, 2))
    assert (rgb != plate.rgb).any()


def test_the_plate_alone_is_what_was_drawn_first(plate: Plate) -> None:
    samples = drawn(np.s_[:, :], 3, (HAIR,))
    plate.lay(samples)
    rgb, labels = plate.frame(samples)
    np.testing.assert_array_equal(rgb, plate.rgb)
    np.testing.assert_array_equal(labels, plate.labels)
    assert set(np.unique(labels)) == {BACKGROUND, CLOTH}
    assert (samples.depth == plate.depth).all()
    assert (samples.depth > 0).sum() == 26 * 80


def scattered(label: int, edge: int = 48) -> np.ndarray:
    """A picture of something white, lit up to a column: linear RGB along a row in its middle."""
    samples = drawn(np.s_[8:88, 8:88], 4, (label,))
    samples.albedo[:], samples.gloss[:], samples.irradiance[:] = 1, 0, 0
    samples.irradiance[:, :edge] = 0.4
    room = np.zeros((ROWS, ROWS, 3), np.float32)
    return Plate.of(samples, room, ROWS).colour[48]


@pytest.mark.parametrize("label", IN_SKIN)
def test_light_wanders_in_skin_red_the_farthest_and_none_is_lost_at_its_border(label: int) -> None:
    row = scattered(label)
    assert row[8] == pytest.approx([0.4] * 3, rel=1e-5)
    assert row[87] == pytest.approx([0, 0, 0], abs=1e-6)
    assert (row[:8] == 0).all()
    assert row[48, 0] > 0.02
    assert (np.diff(row[8:88], axis=0) <= 1e-6).all()
    np.testing.assert_allclose(scattered(HAIR)[8:88], np.repeat([[0.4] * 3, [0.0] * 3], 40, axis=0))


def test_shrunk_labels_are_the_commonest_or_the_first() -> None:
    label = np.random.default_rng(0).integers(0, 4, (40, 60)).astype(np.uint8)
    small = shrink_labels(label, 2)
    for y, x in np.ndindex(small.shape):
        counts = Counter(label[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist())
        assert counts[int(small[y, x])] == max(counts.values())
        if len(counts) == 4:
            assert small[y, x] == label[2 * y, 2 * x]
    np.testing.assert_array_equal(shrink_labels(label[:39], 3), label[1:39:3, 1::3])
