"""SyncNet against a direct reading of its published definition; planted lags; tracks and cut-outs of faces."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.errors import InputError
from models.metrics import speech as speech_metrics
from models.sync import faces, lags, syncnet
from models.sync.mfcc import mfcc

# What the public file has: name, shape of the weight, and the normalisation behind it.
LAYERS = [
    *(("netcnnaud.0", (64, 1, 3, 3), 1), ("netcnnaud.4", (192, 64, 3, 3), 5), ("netcnnaud.8", (384, 192, 3, 3), 9)),
    *(("netcnnaud.11", (256, 384, 3, 3), 12), ("netcnnaud.14", (256, 256, 3, 3), 15)),
    *(("netcnnaud.18", (512, 256, 5, 4), 19), ("netfcaud.0", (512, 512), 1), ("netfcaud.3", (1024, 512), None)),
    *(("netfclip.0", (512, 512), 1), ("netfclip.3", (1024, 512), None)),
    *(("netcnnlip.0", (96, 3, 5, 7, 7), 1), ("netcnnlip.4", (256, 96, 1, 5, 5), 5)),
    *(("netcnnlip.8", (256, 256, 1, 3, 3), 9), ("netcnnlip.11", (256, 256, 1, 3, 3), 12)),
    *(("netcnnlip.14", (256, 256, 1, 3, 3), 15), ("netcnnlip.18", (512, 256, 1, 6, 6), 19)),
]


def official_state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape, normal in LAYERS:
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / np.prod(shape[1:])) ** 0.5
        state[f"{name}.bias"] = 0.1 * torch.randn(shape[:1], generator=generator)
        if normal is not None:
            below = f"{name.split('.')[0]}.{normal}"
            for part in ("weight", "running_var"):
                state[f"{below}.{part}"] = 0.5 + torch.rand(shape[:1], generator=generator)
            for part in ("bias", "running_mean"):
                state[f"{below}.{part}"] = 0.1 * torch.randn(shape[:1], generator=generator)
    return state


@pytest.fixture(scope="module")
def state():
    return official_state()


@pytest.fixture(scope="module")
def network(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("syncnet") / "syncnet_v2.model"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    # 54,573,114 bytes are published; the container's few kilobytes depend on what wrote it.
    assert abs(path.stat().st_size - 54_573_114) < 1000
    return syncnet.load(path)


def speech(seconds, seed=0):
    """Noise whose loudness goes up and down."""
    random = np.random.default_rng(seed)
    t = np.arange(int(16000 * seconds))
    return (3000 * random.standard_normal(len(t)) * (1.1 + np.sin(t / 2600))).astype(np.int16)


def pictures(count, seed=0, size=224):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


# --- the network ---------------------------------------------------------------------------------------------------


def direct(state, start, images, sound):
    """Lips and sound of one window, read off the published definition."""

    def unit(x, name, normal, convolve, **how):
        top = name.split(".")[0]
        x = convolve(x, state[f"{name}.weight"], state[f"{name}.bias"], **how)
        parts = (state[f"{top}.{normal}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.relu(F.batch_norm(x, *parts))

    def head(x, name):
        x = unit(x, f"{name}.0", 1, F.linear)
        return F.linear(x, state[f"{name}.3.weight"], state[f"{name}.3.bias"])[0].numpy()

    x = torch.from_numpy(images[start : start + 5, ..., ::-1].astype(np.float32)).permute(3, 0, 1, 2)[None]
    x = unit(x, "netcnnlip.0", 1, F.conv3d, stride=(1, 2, 2))
    x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2))
    x = unit(x, "netcnnlip.4", 5, F.conv3d, stride=(1, 2, 2), padding=(0, 1, 1))
    x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for layer in (8, 11, 14):
        x = unit(x, f"netcnnlip.{layer}", layer + 1, F.conv3d, padding=(0, 1, 1))
    x = unit(F.max_pool3d(x, (1, 3, 3), (1, 2, 2)), "netcnnlip.18", 19, F.conv3d)
    lips = head(x.reshape(1, -1), "netfclip")

    x = torch.from_numpy(mfcc(sound).T.astype(np.float32))[None, None, :, 4 * start : 4 * start + 20]
    x = unit(x, "netcnnaud.0", 1, F.conv2d, padding=1)
    x = F.max_pool2d(unit(x, "netcnnaud.4", 5, F.conv2d, padding=1), 3, (1, 2))
    for layer in (8, 11, 14):
        x = unit(x, f"netcnnaud.{layer}", layer + 1, F.conv2d, padding=1)
    x = unit(F.max_pool2d(x, 3, 2), "netcnnaud.18", 19, F.conv2d)
    return lips, head(x.reshape(1, -1), "netfcaud")


def test_it_is_the_published_network(network, state, monkeypatch):
    monkeypatch.setattr(syncnet, "BATCH", 3)
    images, sound = pictures(9), speech(9 / 25)
    count = syncnet.window_count(len(images), len(sound))
    assert count == 4
    lips = syncnet.lip_rows(network, iter(images), count)
    heard = syncnet.sound_rows(network, sound, count)
    assert lips.shape == heard.shape == (4, 1024)
    for k in range(count):
        expected = direct(state, k, images, sound)
        np.testing.assert_allclose(lips[k], expected[0], rtol=1e-3, atol=1e-3 * np.abs(expected[0]).max())
        np.testing.assert_allclose(heard[k], expected[1], rtol=1e-3, atol=1e-3 * np.abs(expected[1]).max())
    assert syncnet.lip_rows(network, iter(images), 0).shape == (0, 1024)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("netfcaud.3.bias"), "lacks netfcaud.3.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "has extra"),
        (lambda s: s.update({"netfclip.3.weight": torch.zeros(256, 512)}), "netfclip.3.weight is"),
    ],
)
def test_another_file_is_refused(state, tmp_path, change, told):
    other = dict(state)
    change(other)
    torch.save(other, tmp_path / "syncnet_v2.model")
    with pytest.raises(InputError, match="SyncNet") as refused:
        syncnet.load(tmp_path / "syncnet_v2.model")
    assert told in str(refused.value)
    (tmp_path / "damaged.model").write_bytes(b"no network at all")
    with pytest.raises(InputError, match="cannot be read"):
        syncnet.load(tmp_path / "damaged.model")


# --- the sound -----------------------------------------------------------------------------------------------------


def plain_mfcc(sound):
    """The coefficients as a textbook has them, one number at a time where that can be afforded."""
    x = [float(sound[0])] + [float(b) - 0.97 * float(a) for a, b in zip(sound[:-1], sound[1:], strict=True)]
    count = 1 if len(x) <= 400 else 1 + math.ceil((len(x) - 400) / 160)
    x += [0.0] * ((count - 1) * 160 + 400 - len(x))
    mel = [k * 2595 * math.log10(1 + 8000 / 700) / 27 for k in range(28)]
    corner = [math.floor(513 * 700 * (10 ** (m / 2595) - 1) / 16000) for m in mel]
    rows = []
    for k in range(count):
        power = np.abs(np.fft.fft(x[160 * k : 160 * k + 400], 512)[:257]) ** 2 / 512
        bands = []
        for j in range(26):
            low, middle, high = corner[j : j + 3]
            total = sum((i - low) / (middle - low) * power[i] for i in range(low, middle))
            total += sum((high - i) / (high - middle) * power[i] for i in range(middle, high))
            bands.append(math.log(total or np.finfo(float).eps))
        row = []
        for n in range(13):
            value = sum(b * math.cos(math.pi * n * (2 * j + 1) / 52) for j, b in enumerate(bands))
            value *= math.sqrt((1 if n == 0 else 2) / 26) * (1 + 11 * math.sin(math.pi * n / 22))
            row.append(value)
        row[0] = math.log(power.sum() or np.finfo(float).eps)
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("samples", [1, 399, 400, 401, 560, 561, 3000])
def test_coefficients_are_those_of_the_formula(samples):
    sound = speech(1)[:samples]
    np.testing.assert_allclose(mfcc(sound), plain_mfcc(sound), rtol=1e-9, atol=1e-9)


def test_coefficients_are_those_of_the_package():
    package = pytest.importorskip("python_speech_features")
    sound = speech(1.03)
    np.testing.assert_allclose(mfcc(sound), package.mfcc(sound, 16000), rtol=1e-9, atol=1e-9)


def test_silence_has_finite_coefficients():
    found = mfcc(np.zeros(16000, np.int16))
    assert found.shape == (99, 13)
    assert np.isfinite(found).all()
    assert mfcc(np.zeros(0, np.int16)).shape == (0, 13)


# --- lags ----------------------------------------------------------------------------------------------------------


def rows(count=120, size=32, seed=0):
    """Features that change from frame to frame."""
    random = np.random.default_rng(seed)
    return np.cumsum(random.standard_normal((count, size)), 0)


@pytest.mark.parametrize("late", [-15, -4, 0, 1, 10, 15])
def test_a_planted_lag_is_found(late):
    whole = rows(160)
    sound = whole[20:140]
    lips = whole[20 - late : 140 - late] + 0.1  # what is seen now was heard `late` frames ago
    windows = lags.distances(lips, sound)
    assert windows.shape == (120, 31)
    assert lags.lag(windows) == late
    assert lags.confidence(windows) > 1


def test_definitions_are_those_of_the_published_code():
    lips, sound = rows(40, 8, 1), rows(40, 8, 2)
    padded = F.pad(torch.from_numpy(sound), (0, 0, 15, 15))
    one = [
        F.pairwise_distance(torch.from_numpy(lips[[i]]).repeat(31, 1), padded[i : i + 31]).numpy() for i in range(40)
    ]
    windows = lags.distances(lips, sound)
    np.testing.assert_allclose(windows, one, rtol=1e-9)
    mean = np.mean(one, 0)
    assert lags.error(windows) == pytest.approx(mean.min())
    assert lags.confidence(windows) == pytest.approx(np.median(mean) - mean.min())
    assert lags.lag(windows) == 15 - mean.argmin()


def test_frames_without_a_window_are_left_out():
    windows = lags.distances(rows(seed=1), rows(seed=2))
    gaps = np.concatenate([np.full((7, 31), np.nan), windows, np.full((5, 31), np.nan)])
    for measure in (lags.error, lags.confidence, lags.lag):
        assert measure(gaps) == measure(windows)
        assert np.isnan(measure(gaps[:7]))


def test_more_noise_is_less_confidence():
    sound = rows()
    noise = np.random.default_rng(5).standard_normal(sound.shape)
    found = [lags.confidence(lags.distances(sound + amount * noise, sound)) for amount in (0, 2, 8, 32)]
    assert found == sorted(found, reverse=True)
    worse = [lags.error(lags.distances(sound + amount * noise, sound)) for amount in (0, 2, 8, 32)]
    assert worse == sorted(worse)
    assert worse[0] < 1e-4


# --- tracks and cut-outs -------------------------------------------------------------------------------------------


def boxes(count=130, side=120.0):
    """A face that drifts slowly to the right."""
    left = 60 + 0.2 * np.arange(count)
    return np.stack([left, np.full(count, 40.0), left + 0.8 * side, np.full(count, 40 + side)], 1)


def test_a_gap_is_bridged_and_its_boxes_interpolated():
    found = boxes()
    found[50:70] = np.nan
    (track,), why = faces.tracks_of(found)
    assert why == ""
    assert len(track) == 130
    expected = (found[49, 0] + found[70, 0]) / 2 + 48
    assert track.middle[59:61, 0].mean() == pytest.approx(expected, abs=0.2)
    assert track.half[60] == 60


def test_what_ends_a_track():
    long_gap = boxes(260)
    long_gap[120:146] = np.nan  # the next face is found 27 frames after the last one
    assert [len(track) for track in faces.tracks_of(long_gap)[0]] == [120, 114]
    jump = boxes(260)
    jump[130:, [0, 2]] += 60
    assert [len(track) for track in faces.tracks_of(jump)[0]] == [130, 130]
    assert [len(track) for track in faces.tracks_of(boxes(260), [150])[0]] == [150, 110]


def test_short_and_small_faces_say_why():
    tracks, why = faces.tracks_of(boxes(100))
    assert not tracks
    assert "100 frames" in why
    tracks, why = faces.tracks_of(boxes(side=90))
    assert not tracks
    assert "90 pixels" in why
    tracks, why = faces.tracks_of(np.full((200, 4), np.nan))
    assert not tracks
    assert "0 frames" in why


def test_one_wrong_box_does_not_move_the_cut_out():
    found = boxes()
    found[64] += 12
    clean, spoilt = (faces.tracks_of(b)[0][0] for b in (boxes(), found))
    assert np.abs(spoilt.middle - clean.middle).max() < 0.5


def test_the_cut_out_reaches_as_far_as_published():
    y, x = np.mgrid[:200, :300]
    frame = np.stack([x % 256, y, np.zeros_like(x)], -1).astype(np.uint8)
    face = faces.cut_out(frame, np.array([150.0, 90.0]), 50.0)
    assert face.shape == (224, 224, 3)
    # 150 -+ 1.4 * 50 across, 90 - 50 to 90 + 1.8 * 50 down, pixel centres half a step inside
    assert face[112, 0, 0] == pytest.approx(80, abs=1)
    assert face[112, -1, 0] == pytest.approx(219, abs=1)
    assert face[0, 112, 1] == pytest.approx(40, abs=1)
    assert face[-1, 112, 1] == pytest.approx(179, abs=1)
    beyond = faces.cut_out(frame, np.array([10.0, 90.0]), 50.0)
    assert (beyond[100, :50] == 110).all()


def test_boxes_span_the_landmarks_that_are_there():
    points = np.full((2, 478, 2), np.nan)
    points[1, [3, 9, 40]] = [[10, 20], [30, 5], [25, 60]]
    found = faces.boxes_about(points)
    assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(found[1], [10, 5, 30, 60])


def test_a_clip_is_measured_from_where_its_track_begins(network, monkeypatch):
    monkeypatch.setattr(faces, "LEAST_FRAMES", 20)
    count = 35
    small = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    frames = [np.kron(picture, np.ones((18, 18, 1), np.uint8)) for picture in small]
    points = np.full((count, 478, 2), np.nan)
    points[8:, 0], points[8:, 1] = (20, 10), (122, 130)
    sound = speech(count / 25)
    found = syncnet.measure(network, frames, points, sound)
    assert found.why == ""
    known = np.flatnonzero(~np.isnan(found.windows).any(1))
    assert list(known) == list(range(8, count - 5))
    track = faces.tracks_of(faces.boxes_about(points))[0][0]
    cut = [faces.cut_out(frames[t], track.middle[t - 8], track.half[t - 8]) for t in range(12, 18)]
    lips = syncnet.lip_rows(network, cut, 1)
    heard = syncnet.sound_rows(network, sound[8 * 640 :], 22)
    assert found.windows[12, 15 + 3] == pytest.approx(np.linalg.norm(lips[0] - heard[4 + 3]), rel=1e-3)
    silent = syncnet.measure(network, frames, points, sound[: 8 * 640])
    assert np.isnan(silent.windows).all()
    assert "sound is over" in silent.why


# --- lips and loudness ---------------------------------------------------------------------------------------------


def mouth(gap):
    points = np.zeros((len(gap), 478, 2))
    points[:, 263, 0] = 50
    points[:, 14, 1] = gap
    return points


def test_loudness_is_in_decibels_and_never_below_sixty():
    tone = np.full(16000, 16384, np.int16)
    np.testing.assert_allclose(speech_metrics.loudness(tone, 20), -6.02, atol=0.01)
    assert (speech_metrics.loudness(np.zeros(16000, np.int16), 30) == -60).all()


@pytest.mark.parametrize("late", [-5, -2, 0, 3, 5])
def test_lips_that_follow_the_loudness_late_are_seen_to(late):
    level = np.random.default_rng(0).uniform(-40, -10, 120)
    sound = np.repeat(32768 * 10 ** (level / 20), 640).astype(np.int16)
    heard = speech_metrics.loudness(sound, 120)
    columns = speech_metrics.lips_and_loudness(None, mouth(5 + np.roll(heard, late) / 20), sound).windows
    assert columns.shape == (120, 12)
    inner = columns[5:-5]  # where nothing has come round from the other end
    assert speech_metrics.best_lag(inner) == late
    assert speech_metrics.best(inner) == pytest.approx(1)
    drawn = inner[np.random.default_rng(1).integers(0, len(inner), len(inner))]
    assert speech_metrics.best_lag(drawn) == late


def test_a_still_mouth_follows_nothing():
    columns = speech_metrics.lips_and_loudness(None, mouth(np.full(50, 3.0)), speech(2)).windows
    assert np.isnan(speech_metrics.best(columns))
    assert np.isnan(speech_metrics.best_lag(columns))
