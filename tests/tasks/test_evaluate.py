"""Evaluation of a drawn head: what hears must win, what cannot be compared must be refused."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import evaluated_project
import numpy as np
import pandas
import pytest
import recogniser
import torch
import yaml

from models.errors import InputError, MissingAssetError
from models.metrics import all_metrics
from models.perceptual.networks import NETWORKS, write
from models.records import Clip, DemoTruth, Judge, Landmarks, Rendering, Weights, store_path
from models.storage import FrameStore
from models.sync.house import HouseNet, tensors_of
from tasks import evaluate, evaluate_drive, judge, measuring, measuring_drive, per_frame, regions
from tasks.closure import closure
from tasks.doctor import wrong_params
from tasks.judge import JudgeParams
from tasks.judging import known_points
from tasks.measured import Measured
from tasks.measuring import EvaluateParams
from tasks.media import write_wav
from tasks.per_frame import read_per_frame
from tasks.places import Keys, Places
from tasks.scores import Bar, Scores
from tasks.stage import execute
from tasks.windows import read_windows

KEYS = Keys("ada", "logmel")
BARS = (
    Bar(name="opens", metric="r_open", region="face", at_least=0.9),
    Bar(name="wrong", metric="r_open", region="face", variant="wrong_audio", at_most=0.5),
    Bar(name="still", metric="LMD", region="face", compare="ratio", against="static", at_most=0.9),
    Bar(name="gain", metric="PSNR", region="mouth", compare="difference", against="wrong_audio", at_least=0.5),
    Bar(name="nothing", metric="LMD", region="face", compare="ratio", against="speaker", at_most=0.9),
    Bar(name="no weights", metric="lpips_vgg", region="mouth", at_most=0.1),
)
PARAMS = EvaluateParams(bars=BARS, draws=100, block_seconds=0.4, worst=3)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    places = evaluated_project.make(tmp_path_factory.mktemp("project"))
    execute(judge.STAGE, judge.run, Keys("ada"), places, JudgeParams())
    give_weights(places.root / "data/assets/squeezenet_caffe.safetensors")
    recogniser.write(places.root / "data/assets/face_recognition_sface_2021dec.onnx")
    return places


def give_weights(path: Path) -> None:
    """Write a SqueezeNet with random weights."""
    path.parent.mkdir()
    torch.manual_seed(0)
    state = {f"features.{key}": tensor for key, tensor in NETWORKS["squeeze"].make().state_dict().items()}
    state |= {key: torch.zeros(shape) for key, shape in NETWORKS["squeeze"].classifier.items()}
    write("squeeze", state, path, "somebody", path.name)


@pytest.fixture(scope="module")
def content(places: Places) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GAUSSTALK_ASSETS", raising=False)
        execute(evaluate.STAGE, evaluate.run, KEYS, places, PARAMS)
    return json.loads((places.metrics("evaluate", KEYS) / "metrics.json").read_text())


def value(content: dict[str, Any], metric: str, region: str, variant: str) -> float:
    found = [
        r["value"] for r in content["rows"] if (r["metric"], r["region"], r["variant"]) == (metric, region, variant)
    ]
    assert len(found) == 1
    return found[0]


def test_a_synthetic_speaker_is_judged_by_what_was_learnt_from_its_frames(
    places: Places, content: dict[str, Any]
) -> None:
    assert content["about"]["judge"] == "personal"
    assert value(content, "LMD", "face", "judge") < 0.5
    assert Judge.load(places.record("judge", Keys("ada"))).learnt


def test_what_is_known_of_a_synthetic_face_comes_before_what_was_found_in_it(places: Places, tmp_path: Path) -> None:
    clip = Clip.load(places.record("ingest", Keys("ada")))
    found = Landmarks.load(places.record("landmarks", Keys("ada")))
    found.valid[3] = False
    elsewhere = Places(tmp_path)
    points = known_points(clip, found, elsewhere)
    assert np.isnan(points[3]).all()
    np.testing.assert_array_equal(points[4], found.points[4])

    # The clip is a square of a source in which its corner lies at (10, 4) and it is twice as large.
    size, count = clip.frames.shape[1], len(clip)
    clip.sources[:] = [{"crop": [10, 4, 2 * size]}]
    folder = elsewhere.raw_speaker("ada") / "truth"
    nothing = np.zeros((count, 0), np.float32)
    DemoTruth(
        width=2 * size,
        height=2 * size,
        labels=FrameStore.create(store_path(folder, "labels"), np.zeros((count, 8, 8), np.uint8), (8, 8)),
        intrinsics=np.eye(3, dtype=np.float32),
        world_to_camera=np.tile(np.eye(4, dtype=np.float32), (count, 1, 1)),
        expression=nothing,
        landmarks_px=2 * found.points + np.array([10, 4], np.float32),
        landmarks_m=np.zeros((count, 478, 3), np.float32),
        present=found.present,
        action_units=nothing,
        gaze=np.zeros((count, 4), np.float32),
    ).save(folder)
    found.points[:] += 5
    np.testing.assert_allclose(known_points(clip, found, elsewhere), found.points - 5, atol=1e-4)


def test_mediapipe_as_judge_is_asked_for_its_model_before_anything_is_rendered(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAUSSTALK_ASSETS", "")
    with pytest.raises(MissingAssetError, match="face_landmarker"):
        execute(judge.STAGE, judge.run, Keys("ada"), places, JudgeParams(source="mediapipe"))


def test_what_hears_wins_over_every_control(content: dict[str, Any]) -> None:
    for control in ("motion_off", "mean_motion", "wrong_audio"):
        assert value(content, "PSNR", "mouth", "full") > value(content, "PSNR", "mouth", control)
        assert value(content, "LMD", "face", "full") < value(content, "LMD", "face", control)
    assert value(content, "r_open", "face", "full") > 0.95
    assert abs(value(content, "amplitude", "face", "full") - 1) < 0.15
    assert value(content, "missed_frames", "face", "full") == 0


def test_static_is_the_strongest_control_that_does_not_hear(content: dict[str, Any]) -> None:
    controls = [value(content, "LMD", "face", v) for v in ("motion_off", "mean_motion", "constant_lips")]
    assert value(content, "LMD", "face", "static") == min(controls)
    assert value(content, "PSNR", "mouth", "static") == max(
        value(content, "PSNR", "mouth", v) for v in ("motion_off", "mean_motion")
    )


def test_bars_tell_value_interval_and_verdict(content: dict[str, Any]) -> None:
    bars = {bar["name"]: bar for bar in content["bars"]}
    assert [bars[name]["ok"] for name in ("opens", "wrong", "still", "gain")] == [True] * 4
    for bar in (bars["opens"], bars["still"], bars["gain"]):
        assert bar["low"] <= bar["value"] <= bar["high"]
    assert bars["still"]["value"] == pytest.approx(
        value(content, "LMD", "face", "full") / value(content, "LMD", "face", "static"), abs=1e-4
    )
    assert bars["nothing"]["ok"] is None
    assert "speaker" in bars["nothing"]["why"]
    assert bars["no weights"]["ok"] is None
    assert "lpips_vgg of full" in bars["no weights"]["why"]


def test_every_row_is_whole_and_said_what_it_means(content: dict[str, Any]) -> None:
    names = {
        "speaker",
        "method",
        "extractor",
        "split",
        "drive",
        "region",
        "variant",
        "metric",
        "value",
        "unit",
        "better",
    }
    for row in content["rows"]:
        assert set(row) == names
        assert np.isfinite(row["value"])
        assert row["metric"] in content["definitions"]
        assert f"variant {row['variant']}" in content["definitions"]
    assert all(entry["why"] for entry in content["absent"])
    assert value(content, "training_time", "all", "full") == 8.0
    assert value(content, "gaussians", "all", "full") == 500
    assert value(content, "fps", "all", "full") == pytest.approx(1000 / 12)
    assert value(content, "peak_memory", "all", "full") == 0.5
    assert value(content, "model_size", "all", "full") == pytest.approx(4e-6)


def test_what_lacks_its_weights_is_absent_and_says_how_to_get_them(content: dict[str, Any]) -> None:
    why = {entry["metric"]: entry["why"] for entry in content["absent"] if entry["region"] == "all"}
    assert {"lpips_alex", "lpips_vgg", "lpips_squeeze"} <= why.keys()
    assert "gausstalk fetch alexnet" in why["lpips_alex"]
    assert "gausstalk fetch openseeface_landmarks" in why["LMD_second"]
    assert why.keys() >= {"LMD_iod_second", "r_open_second", "amplitude_second"}
    assert not [row for row in content["rows"] if row["metric"] in why or row["metric"].endswith("_second")]
    assert Measured({}, [], absent=content["absent"]).cell("lpips_alex", "face_box").why == why["lpips_alex"]


def test_with_weights_it_is_measured_in_every_region(content: dict[str, Any]) -> None:
    found = {region: value(content, "perceptual_squeeze", region, "full") for region in ("frame", "head", "face_box")}
    for region, distance in found.items():
        assert 0 < distance < value(content, "perceptual_squeeze", region, "wrong_audio")
    assert found["frame"] < found["face_box"]


def test_the_person_is_more_alike_in_what_hears_than_in_another_moment(content: dict[str, Any]) -> None:
    full, still = (value(content, "identity", "face", variant) for variant in ("full", "motion_off"))
    assert 1 > full > still
    assert full > value(content, "identity", "face", "other_moment")


def test_the_table_of_frames_gives_the_numbers_of_the_table(places: Places, content: dict[str, Any]) -> None:
    table = read_per_frame(places.metrics("evaluate", KEYS) / per_frame.FILE)
    test_frames = list(range(evaluated_project.TEST_FROM, 130))

    def of(metric: str, region: str, variant: str = "full") -> pandas.DataFrame:
        return table[(table.metric == metric) & (table.region == region) & (table.variant == variant)]

    for metric, region, variant in (
        ("PSNR", "mouth", "full"),
        ("SSIM", "head", "wrong_audio"),
        ("LMD", "face", "static"),
    ):
        rows = of(metric, region, variant)
        assert list(rows.frame) == test_frames
        assert rows.value.mean() == pytest.approx(value(content, metric, region, variant), abs=1e-4)
        assert rows.against.isna().all()
    gaps = of("r_open", "face")
    assert np.corrcoef(gaps.value, gaps.against)[0, 1] == pytest.approx(
        value(content, "r_open", "face", "full"), abs=1e-4
    )
    np.testing.assert_allclose(gaps.time, np.array(test_frames) / 25)
    assert set(table.split) == {"test"}
    assert set(table.speaker) == {"ada"}
    curves = json.loads((places.metrics("evaluate", KEYS) / "curves.json").read_text())
    assert [phase["phase"] for phase in curves["training"]] == ["tg_motion", "tg_face", "tg_mouth", "tg_fuse"]


def test_a_damaged_table_of_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / per_frame.FILE
    path.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InputError, match="no parquet"):
        read_per_frame(path)
    pandas.DataFrame({"frame": [1]}).to_parquet(path)
    with pytest.raises(InputError, match="no column speaker"):
        read_per_frame(path)


def test_a_store_of_another_length_is_refused(places: Places) -> None:
    folder = places.record("render", KEYS)
    rendering = Rendering.load(folder)
    short = FrameStore.create(folder / "short.zarr", iter(rendering.full.take(range(5))), (96, 96, 3))
    broken = Rendering("drawn", ["full"], full=short, frame_index=rendering.frame_index)
    with pytest.raises(InputError, match="5 frames"):
        measuring.rendered_stores(broken)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "PNSR"}, "no metric 'PNSR', but .*PSNR, SSIM, LMD"),
        ({"region": "moth"}, "no region for PSNR 'moth', but frame, head, face_box, mouth"),
        ({"region": "steady"}, "no region for PSNR 'steady', but frame"),
        ({"metric": "LMD"}, "no region for LMD 'mouth', but face"),
        ({"variant": "wrong_adio"}, "no variant 'wrong_adio', but full, motion_off"),
        ({"compare": "ratio", "against": "sttic"}, "no variant 'sttic', but full"),
    ],
)
def test_a_bar_on_what_there_is_not_is_refused_before_anything_is_computed(
    tmp_path: Path, change: dict[str, str], message: str
) -> None:
    bar = {"name": "x", "metric": "PSNR", "region": "mouth", "at_least": 1.0, **change}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"evaluate": {"bars": [bar]}}))
    (error,) = wrong_params(Places(tmp_path))
    assert re.search(f"evaluate: bars.0: .*{message}", error.what)


@pytest.mark.parametrize("change", [{"at_most": 1.0}, {"against": "static"}, {"compare": "ratio"}, {"at_least": None}])
def test_a_bar_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at_least|against"):
        Bar(**{"name": "x", "metric": "LMD", "region": "face", "at_least": 1.0, **change})


def test_the_mouth_box_is_square_and_stays_in_the_frame() -> None:
    points = np.full((478, 2), np.nan)
    assert regions.mouth_box(points, (96, 96), 2) == (slice(0, 0), slice(0, 0))
    points[[61, 291, 0, 17]] = [[40, 60], [60, 60], [50, 55], [50, 66]]
    rows, columns = regions.mouth_box(points, (96, 96), 2)
    assert (rows, columns) == (slice(48, 72), slice(38, 62))
    rows, _ = regions.mouth_box(points, (64, 64), 2)
    assert rows.stop == 64


@pytest.fixture(scope="module")
def driven(places: Places) -> Keys:
    """A drive that the head has been made to say, ready to be measured."""
    keys = Keys("ada", "logmel", "de_f")
    frames = Rendering.load(places.record("render", KEYS)).full.take(range(60))
    folder = places.record("render_drive", keys)
    stores = {"full": evaluated_project.store(folder, "full", frames)}
    Rendering("drawn", ["full"], frame_index=np.arange(60, dtype=np.int32), **stores).save(folder)
    mouth = evaluated_project.drawn_face.motion()["mouth"][evaluated_project.TEST_FROM :]
    sound = (np.repeat(mouth, 640) * 900 * np.sin(np.arange(len(mouth) * 640) / 5)).astype(np.int16)
    write_wav(places.raw_drive("de_f") / "speech.wav", sound)
    own = Landmarks.load(places.record("landmarks", Keys("ada")))
    talker = np.roll(own.points[evaluated_project.TEST_FROM :], -2, 0)[:58]  # two frames early, and of another length
    known = (own.present, np.ones(58, bool), np.zeros((58, 0), np.float32))
    folder = places.record("drive_landmarks", Keys(drive="de_f"))
    folder.mkdir(parents=True)
    Landmarks("truth", talker, *known).save(folder)
    return keys


def test_a_drive_is_held_against_its_sound(places: Places, driven: Keys) -> None:
    keys = driven
    execute(evaluate_drive.STAGE, evaluate_drive.run, keys, places, PARAMS)
    content = json.loads((places.metrics("evaluate_drive", keys) / "metrics.json").read_text())
    assert value(content, "r_sound", "face", "full") > 0.7
    assert abs(value(content, "sound_lag", "face", "full")) <= 1
    assert value(content, "r_sound", "face", "full") > value(content, "r_sound", "face", "wrong_sound") + 0.2
    assert value(content, "r_talker", "face", "full") > 0.9
    assert value(content, "talker_lag", "face", "full") == 2
    assert value(content, "r_talker", "face", "full") > value(content, "r_talker", "face", "wrong_sound") + 0.2
    assert value(content, "found_share", "face", "full") == 100
    assert value(content, "length_error", "face", "full") == 0
    assert content["about"]["language"] == "de"
    assert len(content["about"]["sound"]) == 64
    absent = {entry["metric"]: entry["why"] for entry in content["absent"]}
    names = ("Sync-C", "Sync-E", "sync_lag")
    assert set(absent) == {*names, *(f"{name}_house" for name in names), "render_time"}
    assert "gausstalk fetch syncnet" in absent["Sync-C"]
    assert absent["Sync-C_house"] == "too little material"
    assert "SyncNet" in content["definitions"]["Sync-C"]
    table = read_per_frame(places.metrics("evaluate_drive", keys) / per_frame.FILE)
    assert set(table.drive) == {"de_f"}
    for metric in ("closed_share", "head_motion", "found_share"):
        for variant in ("full", "speaker"):
            rows = table[(table.metric == metric) & (table.variant == variant)]
            assert rows.value.mean() == pytest.approx(value(content, metric, "face", variant), abs=1e-4)
    own = table[(table.variant == "speaker") & (table.metric == "opening")]
    assert list(own.frame) == list(Judge.load(places.record("judge", Keys("ada"))).own)
    heard = table[(table.metric == "r_sound") & (table.variant == "full")]
    assert list(heard.frame) == list(range(60))
    assert heard.against.max() > heard.against.min() + 10  # decibels
    assert 0.1 < value(content, "jitter", "face", "full") < 10
    kept = read_windows(places.metrics("evaluate_drive", keys))
    assert kept["r_talker", "wrong_sound"].shape == (60, 12)
    assert kept["r_sound", "full"].shape == (60, 12)
    assert all_metrics()["r_sound"].summary(kept["r_sound", "full"]) == pytest.approx(
        value(content, "r_sound", "face", "full"), abs=1e-5
    )


def test_lips_of_a_talker_nobody_sees_are_a_gap_with_its_reason() -> None:
    scores = Scores({"speaker": "ada"})
    nobody = np.full((50, 478, 2), np.nan, np.float32)
    unseen = Landmarks(
        *("mediapipe", nobody, np.ones(478, bool), np.zeros(50, bool), np.zeros((50, 0), np.float32)),
        quality={"why": "the drive is sound alone"},
    )
    metrics = [metric for metric in all_metrics().values() if metric.compares == "talker"]
    measuring_drive.compare_talker(scores, metrics, np.random.default_rng(0).random((50, 478, 2)), unseen)
    assert not scores.rows
    reasons = {(entry["metric"], entry["variant"]): entry["why"] for entry in scores.absent}
    pairs = [(metric, variant) for metric in ("r_talker", "talker_lag") for variant in ("full", "wrong_sound")]
    assert reasons == dict.fromkeys(pairs, "the drive is sound alone")
    broken = dataclasses.replace(unseen, quality={"why": "", "note": "only the first 0.4 s are used"})
    scores = Scores({"speaker": "ada"})
    measuring_drive.compare_talker(scores, metrics, np.zeros((50, 478, 2)), broken)
    assert {entry["why"] for entry in scores.absent} == {
        "too few frames show both faces, only the first 0.4 s are used"
    }


def test_a_network_of_the_project_is_not_shown_what_it_has_learnt_from(
    places: Places, driven: Keys, tmp_path: Path
) -> None:
    project = Places(shutil.copytree(places.root, tmp_path / "project"))
    check = {"share": 0.95, "found": 95, "tried": 100, "unseen_s": 5.6, "wanted": 0.9, "reached": True}
    check |= {"speakers": {}, "left_out": {}}
    network = tensors_of(HouseNet())
    Weights("sync_house", "trained", {}, network, {}, {"check": check}).save(project.record("sync_house", Keys()))
    execute(evaluate_drive.STAGE, evaluate_drive.run, driven, project, PARAMS)
    table = read_per_frame(project.metrics("evaluate_drive", driven) / per_frame.FILE)
    own, test = table[table.variant == "speaker"], range(evaluated_project.TEST_FROM, 130)
    assert set(own[own.metric == "Sync-C_house"].frame) == set(test)
    assert not set(own[own.metric == "r_sound"].frame) & set(test)


def test_a_cut_of_the_own_footage_is_no_motion_of_the_head(places: Places) -> None:
    clip = Clip.load(places.record("ingest", Keys("ada")))
    own = Judge.load(places.record("judge", Keys("ada"))).own
    points = Landmarks.load(places.record("landmarks", Keys("ada"))).points[own].astype(np.float64)
    points += np.random.default_rng(0).normal(0, 0.2, points.shape)
    elsewhere = points.copy()
    elsewhere[30:] += 40.0  # the second shot shows the head at another place

    def told(points: np.ndarray, clip: Clip) -> tuple[float, float]:
        pairs = measuring_drive.Pairs(clip, own, own)
        steps = measuring_drive.head_steps(points, pairs.breaks)
        return measuring_drive.trembling(points, points, pairs.inner(1))[0, 1], np.nanmean(steps)

    cut = dataclasses.replace(clip, cuts=np.array([30], np.int32))
    assert told(elsewhere, cut) == pytest.approx(told(points, clip), rel=0.05)
    assert told(elsewhere, clip)[0] > 2 * told(points, clip)[0]  # where nobody says that it is a cut


def test_blinks_are_counted_right() -> None:
    lids = np.array([1, 1, 0.2, 0.2, 1, np.nan, 0.1, 1])
    assert measuring_drive.blinks(lids, 0.5) == 2


def test_without_test_frames_it_says_so(places: Places, tmp_path: Path) -> None:
    shutil.copytree(places.root / "data", tmp_path / "data")
    other = Places(tmp_path)
    frames = Rendering.load(places.record("render", KEYS)).full.take(range(3))
    evaluated_project.render(other, np.arange(3, dtype=np.int32), full=frames)
    with pytest.raises(InputError, match="no test frame"):
        execute(evaluate.STAGE, evaluate.run, KEYS, other, PARAMS)


def test_every_metric_is_code_that_evaluation_depends_on() -> None:
    root = evaluated_project.ROOT
    reached = closure(root / "tasks/evaluate.py", root)
    assert set((root / "models/metrics").glob("*.py")) <= set(reached)
