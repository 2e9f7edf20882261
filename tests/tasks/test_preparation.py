"""The stages from footage to trusted figures, run on a small drawn speaker about whom everything is known."""

import json

import cv2
import numpy as np
import pytest
from clips import make_clip
from saved_clip import save_clip

from models.curriculum import FrameSampler, Window
from models.demo.head_model import build
from models.errors import InputError, MissingAssetError, UsageError
from models.heads.mediapipe_points import LANDMARK_COUNT, LIP_RING_OUTER, OVAL
from models.methods.talking_gaussian_config import Config
from models.parsing import labels as L
from models.parsing.geometry import coverage
from models.records import (
    TEST,
    ActionUnits,
    Clip,
    DemoTruth,
    HeadTrack,
    Landmarks,
    Layers,
    Masks,
    RefinedPoses,
    store_path,
)
from models.storage import FrameStore
from tasks import action_units, layers, parse, quality, track
from tasks.material import expression_inputs
from tasks.places import Keys, Places
from tasks.preview import preview
from tasks.stage import execute

SIZE, FRAMES = 128, 36
KEYS = Keys(speaker="drawn")
FOCAL = 330.0
INTRINSICS = np.array([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]], np.float32)
TIME = np.arange(FRAMES)
BLINK = np.exp(-0.5 * ((TIME - 18) / 1.2) ** 2)
JAW = 0.25 * (1 + np.sin(TIME / 2.5))


def pose(t):
    """A head that turns a little, 0.96 m away."""
    yaw, pitch, roll = 0.12 * np.sin(t / 6), 0.05 * np.cos(t / 5), 0.04 * np.sin(t / 9)
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]) @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turn = turn @ np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ turn  # head axes (y up, z to us) to camera axes (y down, z away)
    matrix[:3, 3] = 0.004 * np.sin(t / 7), 0.002 * np.cos(t / 4), 0.96
    return matrix


def expressions(model):
    """The coefficients of every frame `[T, E]`."""
    values = np.zeros((FRAMES, len(model.expression_names)), np.float32)
    for name, curve in (("jaw", JAW), ("blink_left", BLINK), ("blink_right", BLINK)):
        values[:, model.expression_names.index(name)] = curve
    return values


def draw(points, rng):
    """A frame and its labels: wall, sweater, neck, hair, face and lips."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    oval = coverage(points[list(OVAL)], SIZE, SIZE) > 0.5
    x, y = points[list(OVAL)].mean(0)
    half, height = np.ptp(points[list(OVAL)], axis=0) / 2
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[(rows > SIZE - 14) & (np.abs(columns - x) < 54)] = L.CLOTH
    labels[(rows > y) & (rows <= SIZE - 12) & (np.abs(columns - x) < 0.5 * half)] = L.NECK
    crown = ((columns - x) / (1.12 * half)) ** 2 + ((rows - y + 0.25 * height) / (1.15 * height)) ** 2 < 1
    labels[crown & (rows < y)] = L.HAIR
    labels[oval] = L.SKIN
    labels[coverage(points[list(LIP_RING_OUTER)], SIZE, SIZE) > 0.5] = L.LIPS
    colours = {
        L.BACKGROUND: (130, 150, 165),
        L.CLOTH: (40, 60, 130),
        L.NECK: (205, 150, 125),
        L.HAIR: (60, 40, 28),
        L.SKIN: (228, 176, 148),
        L.LIPS: (185, 85, 85),
    }
    frame = np.zeros((SIZE, SIZE, 3), np.float32)
    for label, colour in colours.items():
        frame[labels == label] = colour
    frame += rng.normal(0, 3, frame.shape)
    return np.clip(cv2.GaussianBlur(frame, (3, 3), 0.6), 0, 255).astype(np.uint8), labels


def make_project(root):
    """Write records of ingest and landmarks, truth and stand-in refined poses of the drawn speaker."""
    places, model, rng = Places(root), build(), np.random.default_rng(0)
    (root / "data" / "speakers").mkdir(parents=True)
    places.speaker_record("drawn").write_text(
        "name: Drawn\nbasis: synthetic\nlandmarks: truth\nhead_model: synthetic\nsources: [video.mp4]\n"
    )
    (root / "data" / "assets.toml").write_text(
        '[selfie_segmentation]\nfile = "none.tflite"\nurl = ""\nsha256 = ""\nbytes = 1\nlicence = ""\nwhat = "masks"\n'
    )
    values = expressions(model)
    poses = np.stack([pose(t) for t in TIME])
    space = np.full((FRAMES, LANDMARK_COUNT, 3), np.nan, np.float32)
    space[:, model.landmark_index] = np.stack([model.landmarks(None, v) for v in values])
    camera = np.einsum("tij,tpj->tpi", poses[:, :3, :3], space) + poses[:, None, :3, 3]
    image = camera @ INTRINSICS.T
    points = (image[..., :2] / image[..., 2:]).astype(np.float32)
    present = np.zeros(LANDMARK_COUNT, bool)
    present[model.landmark_index] = True
    pictures, labels = zip(*(draw(p, rng) for p in points), strict=True)
    valid = np.ones(FRAMES, bool)
    valid[30:32] = False
    split = np.zeros(FRAMES, np.int8)
    split[-6:] = TEST

    truth = places.raw_speaker("drawn") / "truth"
    store = FrameStore.create(store_path(truth, "labels"), labels, (SIZE, SIZE))
    units = np.stack([5 * JAW, 5 * BLINK], axis=1).astype(np.float32)
    DemoTruth(
        width=SIZE,
        height=SIZE,
        labels=store,
        intrinsics=INTRINSICS,
        world_to_camera=poses.astype(np.float32),
        expression=values,
        landmarks_px=points,
        landmarks_m=space,
        present=present,
        action_units=units,
        gaze=np.zeros((FRAMES, 4), np.float32),
        expression_names=list(model.expression_names),
        action_unit_names=["AU26", "AU45"],
    ).save(truth)

    ingest = places.record("ingest", KEYS)
    save_clip(
        ingest,
        pictures,
        speaker="drawn",
        sound=(3000 * rng.normal(size=FRAMES * 640) * np.repeat(JAW, 640)).astype(np.int16),
        split=split,
        sources=[{"file": "video.mp4", "first_frame": 0, "frames": FRAMES, "frame_rate": 25.0, "crop": [0, 0, SIZE]}],
        fitness={"silence_share": 0.1, "verdicts": ["only 1 s"]},
    )
    seen = points.copy()
    seen[~valid] = np.nan
    Landmarks(
        source="truth",
        points=seen + rng.normal(0, 0.1, seen.shape).astype(np.float32),
        present=present,
        valid=valid,
        blendshapes=np.zeros((FRAMES, 0), np.float32),
    ).save(places.record("landmarks", KEYS))
    return places


def run_all(places):
    """Run the stages of preparation in order; refinement is stood in for by the tracked poses."""
    execute(parse.STAGE, parse.run, KEYS, places, parse.ParseParams(learning_frames=12))
    execute(layers.STAGE, layers.run, KEYS, places, layers.LayersParams())
    execute(track.STAGE, track.run, KEYS, places, track.TrackParams(focal_factor=FOCAL / SIZE))
    head = HeadTrack.load(places.record("track", KEYS))
    refined = RefinedPoses(head.world_to_camera, np.zeros((FRAMES, 4), np.float32))
    refined.save(places.record("pose_refine", KEYS))
    execute(action_units.STAGE, action_units.run, KEYS, places, action_units.ActionUnitParams())
    execute(quality.STAGE, quality.run, KEYS, places, quality.NoParams())


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    places = make_project(tmp_path_factory.mktemp("project"))
    run_all(places)
    return places


@pytest.fixture(scope="module")
def rows(places):
    content = json.loads((places.metrics("quality", KEYS) / "quality.json").read_text())
    return {(row["stage"], row["metric"]): row for row in content["rows"]}


def test_every_frame_is_labelled_also_where_no_face_was_seen(places):
    masks = Masks.load(places.record("parse", KEYS))
    truth = DemoTruth.load(places.raw_speaker("drawn") / "truth")
    assert masks.parser == "colour"
    assert len(masks.labels) == FRAMES
    assert list(np.flatnonzero(~masks.valid)) == [30, 31]
    for t in (3, 30):
        assert L.intersection_over_union(masks.labels[t] > 0, truth.labels[t] > 0) > 0.93
    assert not L.select(masks.labels[30], (L.LIPS, L.EYES)).any()


def test_torso_over_plate_is_the_frame_without_a_head(places):
    stored = Layers.load(places.record("layers", KEYS))
    masks = Masks.load(places.record("parse", KEYS))
    frames = Clip.load(places.record("ingest", KEYS)).frames
    behind = np.round(stored.behind(5) * 255)
    cloth = masks.labels[5] == L.CLOTH
    far = np.zeros_like(cloth)
    far[SIZE - 8 :] = True
    assert np.array_equal(behind[cloth & far], frames[5][cloth & far])
    forehead = L.select(masks.labels[5], (L.HAIR,))
    assert np.abs(np.median(behind[forehead], axis=0) - (130, 150, 165)).max() < 12


def test_tracking_finds_pose_and_expression(places):
    head = HeadTrack.load(places.record("track", KEYS))
    assert head.model == "synthetic"
    assert np.isnan(head.residual_px[30])
    assert np.nanmax(head.residual_px) < 1.0
    jaw = head.expression[:, head.expression_names.index("jaw")]
    assert np.corrcoef(jaw, JAW)[0, 1] > 0.97
    assert head.rest_landmarks.shape == (len(head.landmark_index), 3)


def test_action_units_follow_the_face(places):
    units = ActionUnits.load(places.record("action_units", KEYS))
    assert units.source == "geometry"
    assert np.corrcoef(units.columns(("AU45",))[:, 0], BLINK)[0, 1] > 0.95
    assert units.quality["interpolated_frames"] == 2


@pytest.mark.parametrize(
    ("stage", "metric", "most"),
    [
        ("track", "true_rotation_error", 0.6),
        ("track", "true_sideways_error", 0.8),
        ("track", "true_landmark_error", 0.5),
        ("track", "true_shape_error", 3.0),
        ("landmarks", "longest_gap", 2),
    ],
)
def test_errors_against_truth_are_small(rows, stage, metric, most):
    assert 0 <= rows[stage, metric]["value"] <= most
    assert rows[stage, metric]["ok"]


def test_overlap_and_correlations_with_truth_are_told(rows):
    assert rows["parse", "iou head"]["value"] > 0.9
    assert rows["parse", "iou person"]["ok"] is True
    assert rows["action_units", "r AU45"]["value"] > 0.95
    assert rows["action_units", "r gaze up-down"]["value"] is None
    assert rows["action_units", "r gaze up-down"]["ok"] is None
    assert rows["landmarks", "lips_with_sound"]["value"] > 0.8


def test_what_fails_is_said_in_words(rows, places):
    content = json.loads((places.metrics("quality", KEYS) / "quality.json").read_text())
    assert content["truth"] is True
    failed = [row for row in content["rows"] if row["ok"] is False]
    findings = content["fitness"]["findings"]
    assert len(content["verdicts"]) == len(findings) + len(failed)
    assert content["verdicts"][0].startswith("only 1.44 s")
    assert content["fitness"]["verdict"] == "unfit"
    assert ["length", "1.44 s"] in content["fitness"]["figures"]
    assert content["action_units"]["units"]["AU45"]["level"] == "solid"
    assert rows["landmarks", "found_share"]["ok"] is False
    assert any("found_share" in verdict for verdict in content["verdicts"])


@pytest.mark.parametrize("stage", ["parse", "layers", "track", "action_units", "quality"])
def test_previews_are_pictures_of_bounded_width(places, stage):
    picture = cv2.imread(str(places.preview(stage, KEYS) / "strip.jpg"))
    assert picture is not None
    assert picture.shape[1] <= 1800
    assert picture.std() > 10


def test_stages_give_the_same_bytes_again(places, tmp_path):
    again = make_project(tmp_path / "again")
    run_all(again)
    for stage, field in (("parse", "labels"), ("layers", "torso")):
        one, other = (FrameStore(store_path(p.record(stage, KEYS), field)) for p in (places, again))
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    for stage, record in (("track", HeadTrack), ("action_units", ActionUnits)):
        one, other = (record.load(p.record(stage, KEYS)) for p in (places, again))
        name = "world_to_camera" if stage == "track" else "intensity"
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_the_network_parser_names_the_asset_it_lacks(places, monkeypatch):
    monkeypatch.delenv("GAUSSTALK_ASSETS", raising=False)
    with pytest.raises(MissingAssetError, match="selfie_segmentation"):
        execute(parse.STAGE, parse.run, KEYS, places, parse.ParseParams(parser="mediapipe"))
    assert Masks.load(places.record("parse", KEYS)).parser == "colour"


@pytest.mark.parametrize(("blink", "blinks"), [(0.0, 0.0), (3.0, None)])
def test_a_speaker_who_never_blinks_or_never_looks_can_be_trained_on(places, blink, blinks):
    table = places.raw_speaker("drawn") / "openface" / "video.csv"
    table.parent.mkdir(exist_ok=True)
    units = action_units.NEEDED
    lines = [",".join(["frame", "timestamp", "confidence", "success", *(f"{unit}_r" for unit in units)])]
    for k in range(FRAMES):
        values = [blink if unit == "AU45" else 0.4 for unit in units]
        lines.append(",".join(map(str, (k + 1, k / 25, 0.9, int(k != 20), *values))))
    table.write_text("\n".join(lines))
    kept = ActionUnits.load(places.record("action_units", KEYS))
    try:
        execute(action_units.STAGE, action_units.run, KEYS, places, action_units.ActionUnitParams(source="openface"))
        found = ActionUnits.load(places.record("action_units", KEYS))
    finally:
        kept.save(places.record("action_units", KEYS))
    assert found.source == "openface"
    assert np.flatnonzero(~found.measured).tolist() == [20]
    curve = found.columns(("AU45",))[:, 0]
    assert curve == pytest.approx(5.0 if blink else 0.0)
    assert (expression_inputs(found, Config()) >= 0).all()
    assert np.isfinite(expression_inputs(found, Config())).all()
    if blinks is not None:
        assert found.quality["blinks_per_minute"] == blinks
    sampler = FrameSampler(TIME[:30], {"blink": curve}, (Window("blink", low=(0.9, 0.9)),), seed=0)
    drawn = {sampler.draw(step, step / 100) for step in range(100)}
    assert drawn <= set(TIME[:30].tolist())


@pytest.mark.parametrize("stage", ["parse", "track", "layers"])
def test_a_stage_is_previewed_without_a_trace_in_the_project(places, stage, tmp_path):
    params = {"ingest": {"size": SIZE}, "landmarks": {}, "parse": {}, "layers": {}, "track": {"focal_factor": 2.58}}
    places.params.write_text(json.dumps(params))
    video = places.raw_speaker("drawn") / "video.mp4"
    clip = Clip.load(places.record("ingest", KEYS))
    make_clip(video, FRAMES / 25, size=(SIZE, SIZE), codec="libx264", pictures=list(clip.frames))
    before = {path: path.stat().st_mtime_ns for path in (places.root / "data").rglob("*")}
    path = preview(places, "drawn", stage)
    assert path == places.root / ".work" / "preview" / f"drawn.{stage}.jpg"
    picture = cv2.imread(str(path))
    assert picture.shape[1] > 1500
    thirds = np.array_split(picture[20:].astype(float), 3, axis=1)
    assert np.abs(thirds[0][:, :500] - thirds[1][:, :500]).mean() > 3
    assert {path: path.stat().st_mtime_ns for path in (places.root / "data").rglob("*")} == before
    assert [left.name for left in path.parent.iterdir() if left.is_dir()] == []
    with pytest.raises(UsageError, match="no speaker"):
        preview(places, "nobody", stage)
    with pytest.raises(UsageError, match=r"\.jpg"):
        preview(places, "drawn", stage, tmp_path / "a.gif")


def test_a_clip_without_any_face_is_refused(tmp_path):
    places = make_project(tmp_path / "faceless")
    landmarks = Landmarks.load(places.record("landmarks", KEYS))
    nobody = Landmarks(
        source="truth",
        points=np.full_like(landmarks.points, np.nan),
        present=landmarks.present,
        valid=np.zeros(FRAMES, bool),
        blendshapes=landmarks.blendshapes,
    )
    nobody.save(places.record("landmarks", KEYS))
    with pytest.raises(InputError, match="no frame"):
        execute(parse.STAGE, parse.run, KEYS, places, parse.ParseParams())
