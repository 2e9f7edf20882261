"""Metrics against known values and plain references, and the properties that a comparison rests on."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.action_units import UNIT_NAMES
from models.errors import UsageError
from models.metrics import all_metrics
from models.metrics.base import Metric, block_bootstrap, blocks_of, correlation
from models.metrics.image import psnr, ssim, ssim_map
from models.metrics.lips import LIP_POINTS, lip_gap
from models.metrics.perceptual import box_of
from models.perceptual.lpips import load
from models.perceptual.networks import NETWORKS, write
from models.ssim import ssim_map as training_ssim_map

IDEAL = {
    **{"PSNR": 100.0, "SSIM": 1.0, "LMD": 0.0, "LMD_iod": 0.0, "r_open": 1.0, "amplitude": 1.0, "r_eye": 1.0},
    **{"LMD_second": 0.0, "LMD_iod_second": 0.0, "r_open_second": 1.0, "amplitude_second": 1.0},
    **{"jitter": 1.0, "flicker": 1.0, "specks": 1.0},
    **{"AUE-L": 0.0, "AUE-U": 0.0, "AUE-L_own": 0.0, "AUE-U_own": 0.0},
    **{"r_sound": 1.0, "sound_lag": 0.0, "r_talker": 1.0, "talker_lag": 0.0},
    **{"Sync-C": 0.0, "Sync-E": 0.0, "sync_lag": 0.0},
    **{"Sync-C_house": 0.0, "Sync-E_house": 0.0, "sync_lag_house": 0.0},
    **{"identity": 1.0},
    **{"lpips_alex": 0.0, "lpips_vgg": 0.0, "lpips_squeeze": 0.0, "perceptual_squeeze": 0.0},
}


def with_random_weights() -> dict[str, Metric]:
    """All metrics, those that need weights with random ones."""
    folder = Path(tempfile.mkdtemp())
    networks = {"alexnet": "alex", "vgg16": "vgg", "squeezenet": "squeeze", "squeezenet_caffe": "squeeze"}
    files = {name: folder / name for name in (*networks, *(f"lpips_{name}" for name in NETWORKS))}
    for name, network in networks.items():
        torch.manual_seed(0)
        layers = NETWORKS[network].make().state_dict()
        state = {f"features.{key}": value for key, value in layers.items()}
        state |= {key: torch.zeros(1).expand(shape) for key, shape in NETWORKS[network].classifier.items()}
        write(network, state, files[name], "torchvision", name)
    for name, network in NETWORKS.items():
        heads = {f"lin{k}.model.1.weight": torch.rand(1, c, 1, 1) for k, c in enumerate(network.channels)}
        torch.save(heads, files[f"lpips_{name}"])
    found = {
        name: metric
        if metric.compares in ("second", "speech", "identity")
        else metric.ready([files[need] for need in metric.needs])
        for name, metric in all_metrics().items()
    }
    shutil.rmtree(folder)
    return found


METRICS = with_random_weights()
# Two clips with each other.
COMPARING = sorted(name for name, metric in METRICS.items() if metric.compares not in ("speech", "identity"))


def frames(count: int = 4, size: int = 40, seed: int = 0) -> np.ndarray:
    """Smooth coloured pictures."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    phase = random.uniform(0, 6, (count, 3))
    waves = np.sin(7 * x[None, ..., None] + phase[:, None, None]) * np.cos(
        5 * y[None, ..., None] + phase[:, None, None]
    )
    return (127 + 100 * waves).astype(np.uint8)


def faces(count: int = 60, seed: int = 0) -> np.ndarray:
    """Points of a face whose lips and lids move by known amounts."""
    random = np.random.default_rng(seed)
    base = random.uniform(20, 200, (478, 2))
    base[33], base[263] = (60, 80), (130, 80)
    points = np.repeat(base[None], count, 0)
    gap = 4 + 3 * np.sin(np.arange(count) / 3)
    points[:, 13], points[:, 14] = (95, 140), (95, 140)
    points[:, 14, 1] += gap
    for upper, lower, x in ((159, 145, 70), (386, 374, 120)):
        points[:, upper], points[:, lower] = (x, 80), (x, 80)
        points[:, lower, 1] += 5 + 3 * np.cos(np.arange(count) / 5)
    sway = np.stack([3 * np.sin(np.arange(count) / 7), 2 * np.cos(np.arange(count) / 9)], 1)
    points += np.round(16 * sway)[:, None] / 16  # which float32 holds exactly
    return points.astype(np.float32)


def sample(metric_name: str, seed: int = 0) -> np.ndarray:
    kinds = {"frames": frames, "landmarks": faces, "second": faces, "talker": faces, "units": units, "openface": units}
    return kinds[METRICS[metric_name].compares](seed=seed)


def units(count: int = 60, seed: int = 0) -> np.ndarray:
    """Intensities of all units."""
    return np.random.default_rng(seed).uniform(0, 5, (count, len(UNIT_NAMES)))


def spoilt(data: np.ndarray, amount: float) -> np.ndarray:
    noise = np.random.default_rng(9).standard_normal(data.shape)
    if data.dtype == np.uint8:
        return np.clip(data + amount * 40 * noise, 0, 255).astype(np.uint8)
    return (data + amount * 4 * noise).astype(np.float32)


def test_every_file_of_the_package_is_found() -> None:
    assert set(METRICS) == set(IDEAL)
    for metric in METRICS.values():
        assert metric.definition
        assert metric.range
        assert metric.source
        assert metric.better in ("higher", "lower", "1", "")
        assert metric.definition in metric.words
        assert metric.range in metric.words


def test_what_a_row_tells_of_its_frame() -> None:
    one, two = np.arange(6.0).reshape(6, 1), np.arange(12.0).reshape(6, 2)
    assert METRICS["LMD"].by_frame(one) is one
    assert METRICS["r_open"].by_frame(two) is two
    windows = np.array([[5.0, 2.0, 4.0], [7.0, 7.0, 1.0], [np.nan] * 3])
    np.testing.assert_array_equal(METRICS["Sync-E"].by_frame(windows), [[2], [1], [np.nan]])
    np.testing.assert_array_equal(METRICS["Sync-C"].by_frame(windows), [[2], [6], [np.nan]])
    rows = np.arange(24.0).reshape(2, 12)  # a lip gap, and the loudness 5 frames before it to 5 after
    np.testing.assert_array_equal(METRICS["r_sound"].by_frame(rows), [[0, 6], [12, 18]])
    assert METRICS["r_sound"].by_frame(np.zeros((0, 12))).shape == (0, 2)
    assert METRICS["Sync-C"].by_frame(np.zeros((0, 31))).shape == (0, 1)


@pytest.mark.parametrize(("count", "known"), [(24, False), (25, True)])
def test_in_less_than_a_second_no_shift_is_the_best(count: int, known: bool) -> None:
    points = np.zeros((count, 478, 2))
    points[:, 263, 0] = 100
    gap = 10 + 5 * np.sin(np.arange(count))
    points[:, 14, 1] = gap
    sound = (np.repeat(gap, 640) * 900 * np.sin(np.arange(count * 640) / 5)).astype(np.int16)
    found = METRICS["r_sound"].compute(None, points, sound)
    assert (METRICS["r_sound"].summary(found.windows) > 0.8) == known
    assert ("24 frames, and 25 are needed" in found.why) != known


@pytest.mark.parametrize("late", [-3, 0, 2])
def test_lips_that_come_late_follow_their_talker_all_the_same(late: int) -> None:
    true = faces(80)
    true[:, 14, 1] = 140 + 4 + 3 * np.random.default_rng(1).standard_normal(80).cumsum() / 5
    columns = METRICS["r_talker"].per_frame(np.roll(true, late, 0), true)
    inside = columns[5:-5]  # beyond the ends rolled lips are another moment's
    assert METRICS["r_talker"].summary(inside) == pytest.approx(1, abs=1e-3)
    assert METRICS["talker_lag"].summary(inside) == late
    assert METRICS["r_talker"].value(faces(80), true) < 0.9
    assert np.isnan(METRICS["r_talker"].value(true[:24], true[:24]))  # in less than a second some shift always fits
    assert METRICS["r_talker"].value(true[:25], true[:25]) == pytest.approx(1)


def test_a_metric_without_its_weights_says_so() -> None:
    metric = all_metrics()["lpips_alex"]
    assert metric.needs == ("alexnet", "lpips_alex")
    assert "alexnet" in metric.words
    with pytest.raises(UsageError, match="needs weights"):
        metric.value(frames(), frames())


@pytest.mark.parametrize("name", COMPARING)
def test_equal_input_gives_the_ideal_value(name: str) -> None:
    data = sample(name)
    assert METRICS[name].value(data, data) == pytest.approx(IDEAL[name], abs=1e-9)


@pytest.mark.parametrize("name", [name for name in COMPARING if METRICS[name].better])
def test_more_noise_never_improves(name: str) -> None:
    metric, data = METRICS[name], sample(name)
    merits = [metric.merit(metric.value(spoilt(data, amount), data)) for amount in (0.0, 0.3, 0.45, 0.6)]
    assert all(better > worse for better, worse in zip(merits, merits[1:], strict=False))


@pytest.mark.parametrize("name", COMPARING)
def test_frames_must_be_the_same(name: str) -> None:
    data = sample(name)
    with pytest.raises(UsageError, match="against"):
        METRICS[name].value(data[:-1], data)


def test_psnr_of_a_known_error() -> None:
    true = np.full((1, 8, 8, 3), 100, np.uint8)
    predicted = true.copy()
    predicted[0, :4] += 10
    assert psnr(predicted, true, None)[0] == pytest.approx(10 * np.log10(255**2 / 50), abs=1e-4)
    region = np.zeros((1, 8, 8), bool)
    region[0, :4] = True
    assert psnr(predicted, true, region)[0] == pytest.approx(20 * np.log10(25.5), abs=1e-4)
    assert psnr(predicted, true, ~region)[0] == 100
    assert np.isnan(psnr(predicted, true, np.zeros_like(region))[0])


def test_a_region_must_fit_the_frames() -> None:
    data = frames()
    with pytest.raises(UsageError, match="region"):
        METRICS["PSNR"].value(data, data, np.ones((4, 8, 8), bool))


def test_ssim_is_that_of_the_plain_reference() -> None:
    a, b = frames(1)[0], spoilt(frames(1), 0.4)[0]
    reference = training_ssim_map(*(torch.from_numpy(side / 255.0) for side in (a, b)), backend="reference").numpy()
    assert np.abs(ssim_map(a, b) - reference).max() < 1e-9
    region = np.zeros((1, 40, 40), bool)
    region[0, 5:20, 12:17] = True
    assert ssim(a[None], b[None], region)[0] == pytest.approx(reference[region[0]].mean(), abs=1e-9)


def test_ssim_of_two_grey_pictures_has_a_closed_form() -> None:
    grey = [np.full((1, 40, 40, 3), value, np.uint8) for value in (51, 102)]
    inside = np.zeros((1, 40, 40), bool)
    inside[0, 10:30, 10:30] = True
    expected = (2 * 0.2 * 0.4 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4)
    assert ssim(*grey, inside)[0] == pytest.approx(expected, abs=1e-6)


def test_ssim_and_psnr_are_those_of_scikit_image() -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    a, b = frames(1), spoilt(frames(1), 0.4)
    assert psnr(b, a, None)[0] == pytest.approx(peak_signal_noise_ratio(a[0], b[0]), abs=1e-4)
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    _, inside = structural_similarity(a[0], b[0], channel_axis=-1, full=True, **how)
    # Ours sees black beyond the border and theirs a mirror, so they are the same where the window fits in.
    region = np.zeros((1, 40, 40), bool)
    region[0, 5:-5, 5:-5] = True
    assert ssim(b, a, region)[0] == pytest.approx(inside[5:-5, 5:-5].mean(), abs=1e-6)


def test_lpips_of_a_region_is_that_of_the_box_about_it(tmp_path: Path) -> None:
    a, b = frames(2, 48), spoilt(frames(2, 48), 0.4)
    region = np.zeros((2, 48, 48), bool)
    region[0, 4, 6:40] = region[0, 4:38, 20] = True
    metric = METRICS["lpips_alex"]
    found = metric.per_frame(b, a, region)[:, 0]
    assert found[0] == pytest.approx(metric.value(b[:1, 4:38, 6:40], a[:1, 4:38, 6:40]), rel=1e-5)
    assert np.isnan(found[1])
    region[1, 4:20, 4:20] = True  # AlexNet needs 31 pixels, VGG-16 makes do with these 16
    assert np.isnan(metric.per_frame(b, a, region)[1, 0])
    assert METRICS["lpips_vgg"].per_frame(b, a, region)[1, 0] > 0
    assert box_of(None, (3, 4)) == (slice(0, 3), slice(0, 4))


def test_lpips_sees_colours_in_minus_one_to_one(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = {f"features.{key}": value for key, value in NETWORKS["squeeze"].make().state_dict().items()}
    state |= {key: torch.zeros(shape) for key, shape in NETWORKS["squeeze"].classifier.items()}
    write("squeeze", state, tmp_path / "s", "somebody", "s")
    a, b = frames(1), spoilt(frames(1), 0.4)
    planes = [torch.from_numpy(side[0] / 255.0 * 2 - 1).permute(2, 0, 1).float() for side in (b, a)]
    expected = float(load("squeeze", tmp_path / "s")(*planes))
    assert all_metrics()["perceptual_squeeze"].ready([tmp_path / "s"]).value(b, a) == pytest.approx(expected, rel=1e-4)


def test_lmd_of_a_shift_is_nought_and_of_a_stretch_is_known() -> None:
    true = faces()
    lips = list(LIP_POINTS)
    assert METRICS["LMD"].value(true + 5, true) == pytest.approx(0, abs=1e-4)
    stretched = true.copy()
    centre = true[:, lips].mean(1, keepdims=True)
    stretched[:, lips] = centre + 1.1 * (true[:, lips] - centre)
    expected = 0.1 * np.linalg.norm(true[:, lips] - centre, axis=-1).mean()
    assert METRICS["LMD"].value(stretched, true) == pytest.approx(expected, rel=1e-4)
    assert METRICS["LMD_iod"].value(stretched, true) == pytest.approx(100 * expected / 70, rel=1e-4)


def test_lips_that_close_when_they_should_open_have_a_negative_correlation() -> None:
    true, wrong = faces(), faces()
    wrong[:, 14, 1] = true[:, 13, 1] + 14 - (true[:, 14, 1] - true[:, 13, 1])
    assert METRICS["r_open"].value(wrong, true) == pytest.approx(-1, abs=1e-4)
    assert METRICS["amplitude"].value(wrong, true) == pytest.approx(1, abs=1e-4)


def test_half_the_motion_is_an_amplitude_of_a_half() -> None:
    true, small = faces(), faces()
    small[:, 14, 1] = true[:, 13, 1] + 2 + (true[:, 14, 1] - true[:, 13, 1]) / 2
    assert METRICS["amplitude"].value(small, true) == pytest.approx(0.5, abs=1e-4)
    assert METRICS["r_open"].value(small, true) == pytest.approx(1, abs=1e-4)


def test_a_still_mouth_has_no_correlation_and_ranks_last() -> None:
    true, still = faces(), faces()
    still[:, 14] = still[:, 13] + (0, 4)
    value = METRICS["r_open"].value(still, true)
    assert np.isnan(value)
    assert METRICS["r_open"].merit(value) < METRICS["r_open"].merit(-1.0)


def test_a_frame_without_a_face_is_left_out() -> None:
    true = faces()
    predicted = spoilt(true, 0.2)
    gap = predicted.copy()
    gap[7] = np.nan
    kept = np.delete(np.arange(len(true)), 7)
    for name in ("LMD", "r_open", "amplitude", "r_eye"):
        metric = METRICS[name]
        assert metric.value(gap, true) == pytest.approx(metric.value(predicted[kept], true[kept]))
        assert np.isnan(metric.per_frame(gap, true)[7, 0])


def test_open_lids_that_tremble_are_not_correlated() -> None:
    random, metric = np.random.default_rng(0), METRICS["r_eye"]
    true = 0.07 + random.normal(0, 0.003, 60)
    following = np.stack([true + random.normal(0, 0.003, 60), true], 1)
    assert correlation(following) > 0.5
    assert np.isnan(metric.summary(following))
    following[30:34] = [[0.03, 0.02]]  # a blink
    assert metric.summary(following) > 0.9


def test_the_gap_is_relative_to_the_eye_distance() -> None:
    true = faces()
    assert np.allclose(lip_gap(3 * true), lip_gap(true), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=1, max_size=80, unique=True), st.integers(1, 30))
def test_blocks_hold_every_frame_once_and_only_neighbours(chosen: list[int], length: int) -> None:
    index = np.array(sorted(chosen))
    blocks = blocks_of(index, length)
    assert sorted(np.concatenate(blocks).tolist()) == list(range(len(index)))
    for block in blocks:
        assert len(block) <= length
        assert (np.diff(index[block]) == 1).all()


def test_interval_holds_the_value_and_widens_with_fewer_blocks() -> None:
    values = np.random.default_rng(0).standard_normal((400, 1))

    def interval(count: int) -> tuple[float, float]:
        return block_bootstrap(lambda p: float(values[p].mean()), blocks_of(np.arange(count), 10), 400)

    low, high = interval(400)
    assert low < values.mean() < high
    assert 0.7 < (high - low) / (2 * 1.96 * values.std() / np.sqrt(400)) < 1.3
    narrow = high - low
    low, high = interval(60)
    assert high - low > 1.5 * narrow
    assert all(np.isnan(interval(20)))


def test_correlation_needs_three_frames() -> None:
    assert np.isnan(correlation(np.array([[0.0, 1.0], [1.0, 2.0]])))
