"""The house's own SyncNet: it finds planted lags after learning and not before; what it cannot measure is a gap."""

from __future__ import annotations

import drawn_face
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from models.errors import InputError
from models.sync import lags
from models.sync.house import (
    SHORTEST,
    HouseNet,
    compare,
    levels_of,
    measure,
    network_of,
    steadied,
    tensors_of,
)
from models.sync.house_learning import Footage, Lessons, find_planted, learn
from models.sync.mouths import SIDE, mouths


def footage(seconds: float, seed: int, learnt_s: float = 1e9) -> Footage:
    """A mouth that opens as loudly as the voice speaks."""
    random = np.random.default_rng(seed)
    count = round(25 * seconds)
    opening = np.clip(gaussian_filter1d(random.standard_normal(count), 1.5) * 2 + 0.7, 0, 3)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    pictures = np.full((count, SIDE, SIDE), 150.0)
    for t, wide in enumerate(opening):
        inside = ((columns - 24) / 14) ** 2 + ((rows - 26) / (1 + 3 * wide)) ** 2 < 1
        pictures[t][inside] = 60
    pictures += 4 * random.standard_normal(pictures.shape)
    loud = np.interp(np.arange(640 * count) / 640, np.arange(count), opening)
    sound = (2000 * loud**2 * random.standard_normal(len(loud)) + 20).clip(-32768, 32767).astype(np.int16)
    learnt = np.arange(count) < 25 * learnt_s
    return Footage(pictures.clip(0, 255).astype(np.uint8), np.ones(count, bool), sound, [], learnt)


@pytest.fixture(scope="module")
def clip() -> Footage:
    return footage(24, 0, 18)


@pytest.fixture(scope="module")
def network(clip: Footage) -> HouseNet:
    torch.set_num_threads(1)
    trained, losses = learn(Lessons([clip], 0), 45, 0)
    assert np.mean(losses[-5:]) < losses[0] - 0.5
    return trained


def test_planted_lags_are_found_in_what_was_not_learnt_from(clip: Footage, network: HouseNet) -> None:
    found = find_planted(network, clip, ~clip.learnt)
    assert (found.excerpts, found.seconds) == (11, 6.0)  # they overlap
    assert found.share > 0.9
    stranger = footage(8, 5, 0)
    assert find_planted(network, stranger, ~stranger.learnt).share > 0.9
    torch.manual_seed(0)
    assert find_planted(HouseNet().eval(), clip, ~clip.learnt).share < 0.5


def test_no_excerpt_reaches_into_what_was_learnt_from(clip: Footage, network: HouseNet) -> None:
    short = ~clip.learnt & (np.arange(600) < 450 + 49)
    assert find_planted(network, clip, short).tried == 0
    exact = ~clip.learnt & (np.arange(600) < 450 + 50)
    assert find_planted(network, clip, exact).tried == 1  # only the lag of nought has its sound


def test_late_lips_have_a_positive_lag(clip: Footage, network: HouseNet) -> None:
    tail = clip.pictures[450:], clip.seen[450:]
    early = np.concatenate([clip.sound[640 * 454 :], np.zeros(640 * 4, np.int16)])
    assert lags.lag(compare(network, *tail, clip.sound[640 * 450 :]).windows) == 0
    windows = compare(network, *tail, early).windows
    assert lags.lag(windows) == 4
    assert lags.confidence(windows) > 0.1
    shuffled = np.random.default_rng(1).permutation(clip.sound.reshape(-1, 640))[450:].ravel()
    assert lags.confidence(compare(network, *tail, shuffled).windows) < lags.confidence(windows) / 2


def test_the_same_seed_gives_the_same_network(clip: Footage) -> None:
    one, other = (learn(Lessons([clip], 3), 2, 3)[1] for _ in range(2))
    assert one == other
    assert learn(Lessons([clip], 4), 2, 4)[1] != one


def test_beyond_the_sound_nothing_counts(clip: Footage, network: HouseNet) -> None:
    windows = compare(network, clip.pictures[:80], clip.seen[:80], clip.sound[: 640 * 80]).windows
    assert windows.shape == (80, 31)
    assert np.isnan(windows[76:]).all()
    np.testing.assert_array_equal(np.isnan(windows[0]), np.arange(31) < 15)
    assert np.isfinite(windows[15:61]).all()
    assert np.nanmax(windows) <= 2.0001


def test_no_window_crosses_a_gap_or_a_cut(clip: Footage, network: HouseNet) -> None:
    seen = clip.seen[:120].copy()
    seen[60] = False
    windows = compare(network, clip.pictures[:120], seen, clip.sound[: 640 * 120], cuts=[90]).windows
    known = np.isfinite(windows).any(1)
    assert not known[[56, 57, 58, 59, 60, 86, 87, 88, 89, 116]].any()
    assert known[[0, 55, 61, 85, 90, 115]].all()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda p, seen, s: (p, seen & False, s), "not seen"),
        (lambda p, seen, s: (np.zeros_like(p), seen, s), "does not change"),
        (lambda p, seen, s: (p[:1].repeat(len(p), 0), seen, s), "does not change"),
        (lambda p, seen, s: (p, seen, np.zeros_like(s)), "silent"),
        (lambda p, seen, s: (p, seen, s[:640]), "silent or over"),
        (lambda p, seen, s: (p, seen, s[:0]), "silent or over"),
        (lambda p, seen, s: (p[: SHORTEST - 1], seen[: SHORTEST - 1], s), "49 frames"),
    ],
)
def test_what_cannot_be_measured_is_a_gap_with_its_reason(clip: Footage, network: HouseNet, change, why) -> None:
    found = compare(network, *change(clip.pictures[:100], clip.seen[:100], clip.sound[: 640 * 100]))
    assert np.isnan(found.windows).all()
    assert why in found.why
    assert np.isnan(lags.confidence(found.windows))


def test_sound_that_ends_early_or_late_is_used_as_far_as_it_goes(clip: Footage, network: HouseNet) -> None:
    pictures, seen = clip.pictures[:100], clip.seen[:100]
    short = compare(network, pictures, seen, clip.sound[: 640 * 60]).windows
    assert lags.lag(short) == 0
    assert np.isnan(short[80]).all()
    assert compare(network, pictures, seen, clip.sound[: 640 * 140]).windows.shape == (100, 31)


def test_a_record_keeps_the_network(clip: Footage, network: HouseNet) -> None:
    tensors = tensors_of(network)
    again = network_of(tensors)
    given = (clip.pictures[:60], clip.seen[:60], clip.sound[: 640 * 60])
    np.testing.assert_array_equal(compare(again, *given).windows, compare(network, *given).windows)
    tensors.pop("motion.0.weight")
    with pytest.raises(InputError, match="sync_house"):
        network_of(tensors)


def test_looks_and_loudness_of_a_recording_hardly_matter(clip: Footage) -> None:
    seen = clip.seen[:50]
    dark = steadied((0.5 * clip.pictures[:50]).astype(np.uint8), seen)
    plain = steadied(clip.pictures[:50], seen)
    assert dark is not None
    assert plain is not None
    assert np.abs(dark - plain).mean() < 0.1 * np.abs(plain).mean()
    quiet = (0.2 * clip.sound).astype(np.int16)
    assert np.abs(levels_of(quiet, 600) - levels_of(clip.sound, 600)).mean() < 0.1


def test_mouths_stay_where_they_are_while_the_head_moves() -> None:
    count = 40
    still = drawn_face.clip(mouth=np.full(130, 4.0))
    pictures, seen = mouths(still[0][:count], still[1][:count].astype(np.float32))
    assert seen.all()
    assert np.abs(np.diff(pictures.astype(float), axis=0)).mean() < 4  # a drawing of 96 pixels, smoothly placed
    moving = drawn_face.clip()
    opened, _ = mouths(moving[0][:count], moving[1][:count].astype(np.float32))
    middle = slice(18, 30)
    assert opened[:, middle, middle].std(0).mean() > 3 * pictures[:, middle, middle].std(0).mean()


def test_without_a_face_there_is_no_mouth() -> None:
    frames, points = drawn_face.clip()
    points = points[:20].astype(np.float32)
    points[5:8] = np.nan
    pictures, seen = mouths(frames[:20], points)
    assert not seen[5:8].any()
    assert seen.sum() == 17
    assert not pictures[5:8].any()
    nothing, none = mouths(frames[:4], np.full((4, 478, 2), np.nan, np.float32))
    assert not none.any()
    assert nothing.shape == (4, SIDE, SIDE)


def test_a_clip_of_black_frames_is_a_gap(network: HouseNet) -> None:
    points = np.full((60, 478, 2), np.nan, np.float32)
    found = measure(network, np.zeros((60, 96, 96, 3), np.uint8), points, np.ones(60 * 640, np.int16))
    assert np.isnan(found.windows).all()
    assert "not seen" in found.why
