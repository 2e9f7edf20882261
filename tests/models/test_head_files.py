"""FLAME and the Basel Face Model: their files, their landmarks, and puppets of theirs whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from head_files import FLAME_SHIFT, components, write_bfm, write_flame
from official_heads import write_flame as write_official_flame
from puppets import follow
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from models.demo.head_model import build
from models.errors import InputError
from models.heads import flame_files
from models.heads.bfm import load_bfm, load_bfm_mesh
from models.heads.embedding import Embedding, embed_mediapipe, load_canonical_face, similarity
from models.heads.fit import fit_head
from models.heads.fit_params import IDENTITY_SCHEDULE, FitParams
from models.heads.fit_phases import pivot_of
from models.heads.flame import JOINTS, load_flame, load_flame_mesh
from models.heads.flow import Flow
from models.heads.mediapipe_points import (
    CURVES,
    LID_PAIRS_LEFT,
    LID_PAIRS_RIGHT,
    LIP_RING_OUTER,
    POINTS_68,
    RIGID_PARTS,
)
from models.heads.model import HeadModel

HINGE = (0.0, -0.02, 0.01)
DIRECTIONS = {"identities": 15, "expressions": 14}  # those of the demo's head; the files have more, all zero
SIDE, FOCAL = 512, 1200.0

Made = tuple[HeadModel, Path]


@pytest.fixture(scope="module")
def flame(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    path = write_flame(tmp_path_factory.mktemp("flame") / "flame.npz", build(), "jaw", HINGE)
    canonical = load_canonical_face(assets / "model3d" / "canonical_face_model.obj")
    return load_flame(path, embed_mediapipe(load_flame_mesh(path), *canonical), "flame2020", **DIRECTIONS), path


@pytest.fixture(scope="module")
def bfm(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    path = write_bfm(tmp_path_factory.mktemp("bfm") / "bfm.npz", build())
    canonical = load_canonical_face(assets / "model3d" / "canonical_face_model.obj")
    return load_bfm(path, embed_mediapipe(load_bfm_mesh(path), *canonical), "bfm2009", **DIRECTIONS), path


def test_flame_comes_in_the_head_frame_with_its_joints(flame: Made) -> None:
    model, path = flame
    with np.load(path) as archive:
        official = {name: archive[name].astype(np.float64) for name in archive.files}
    assert model.joint_names == JOINTS
    assert model.skeleton is not None
    eyes = model.skeleton.joints[3:].mean(0)
    assert np.allclose(eyes, [0, 0, 0.07], atol=1e-6)  # the origin is between the ears, at the height of the eyes
    shift = model.neutral[0] - official["v_template"][0]
    assert np.allclose(shift, -FLAME_SHIFT, atol=5e-3)
    rng = np.random.default_rng(0)
    identity, expression = rng.normal(size=15), rng.normal(size=14)
    shaped = official["v_template"] + official["shapedirs"][..., :15] @ identity
    shaped += official["shapedirs"][..., 300:314] @ expression
    assert np.abs(model.vertices(identity, expression) - shift - shaped).max() < 1e-6
    joints = official["J_regressor"] @ shaped
    turn = np.array([0.3, 0.05, -0.02])
    rotation = Rotation.from_rotvec(turn).as_matrix()
    corrected = shaped + official["posedirs"][..., 9:18] @ (rotation - np.eye(3)).ravel()
    carried = official["weights"][:, 2, None]
    posed = corrected + carried * ((corrected - joints[2]) @ rotation.T + joints[2] - corrected)
    found = model.vertices(identity, expression, model.skeleton.turns(turn))
    assert np.abs(found - shift - posed).max() < 1e-6
    chin = dict(zip(model.landmark_index.tolist(), range(len(model.landmark_index)), strict=True))[152]
    opened = model.landmarks(None, None, model.skeleton.turns(np.array([0.3, 0, 0])))
    assert opened[chin, 1] < model.landmarks()[chin, 1] - 0.015  # a positive angle opens the mouth


@pytest.mark.parametrize("root_parent", [-1, 2**32 - 1])
def test_a_root_without_a_parent_is_written_in_two_ways(flame: Made, tmp_path: Path, root_parent: int) -> None:
    path = _changed(flame[1], tmp_path, kintree_table=np.array([[root_parent, 0, 1, 1, 1], [0, 1, 2, 3, 4]]))
    assert len(load_flame_mesh(path).neutral) == len(flame[0].neutral)


def test_what_the_converter_leaves_of_an_official_pickle_can_be_read(flame: Made, tmp_path: Path) -> None:
    with np.load(flame[1]) as archive:
        arrays = {name: archive[name].astype(np.float64) for name in archive.files}
    markup = arrays.pop("landmarks68").astype(np.int32)  # on a mesh of 5023 vertices the loader knows them
    arrays["f"] = arrays["f"].astype(np.uint32)
    arrays["kintree_table"] = np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32)
    flame_files.convert(write_official_flame(tmp_path / "generic_model.pkl", **arrays), tmp_path / "flame.npz")
    path, model = _changed(tmp_path / "flame.npz", tmp_path, landmarks68=markup), flame[0]
    embedding = Embedding(model.landmark_index, model.landmark_triangle, model.landmark_barycentric, np.zeros(0))
    again = load_flame(path, embedding, "flame2020", **DIRECTIONS)
    turns = np.random.default_rng(1).normal(0, 0.2, (5, 3))
    ones = np.ones(15), np.ones(14), turns
    assert np.abs(again.vertices(*ones) - model.vertices(*ones)).max() < 1e-6


def test_bfm_comes_in_metres_with_standard_deviations(bfm: Made) -> None:
    model, _ = bfm
    source = build()
    shift = model.neutral - source.neutral
    assert np.abs(shift - shift.mean(0)).max() < 1e-6
    lids = model.neutral[model.landmarks68[36:48]].mean(0)
    assert np.allclose(lids, [0, 0, 0.077], atol=1e-6)
    assert np.abs(model.identity - source.identity).max() < 1e-6
    assert np.abs(model.expression - components(source, "")[:14]).max() < 1e-6
    assert model.skeleton is None
    assert model.expression_range.low < 0


@pytest.mark.parametrize("kind", ["flame", "bfm"])
def test_landmarks_lie_on_lids_and_lips(kind: str, request: pytest.FixtureRequest) -> None:
    model: HeadModel = request.getfixturevalue(kind)[0]
    assert model.landmarks68 is not None
    place = dict(zip(model.landmark_index.tolist(), model.landmarks(), strict=True))
    assert {n for curve in CURVES.values() for n in curve} <= set(place)
    for name, curve in CURVES.items():
        ends = [place[curve[0]], place[curve[-1]]]
        marks = [model.neutral[model.landmarks68[POINTS_68.index(n)]] for n in (curve[0], curve[-1])]
        assert np.abs(np.array(ends) - marks).max() < 1e-5, name
    for right, left in ((33, 263), (61, 291), (159, 386)):
        assert np.abs(place[right] - place[left] * [-1, 1, 1]).max() < 0.002
    assert place[152][1] < place[17][1] < place[4][1]


def _changed(path: Path, folder: Path, **changes: Any) -> Path:
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    np.savez(folder / "changed.npz", **{name: value for name, value in arrays.items() if value is not None})
    return folder / "changed.npz"


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("flame", {"posedirs": None}, "lacks posedirs"),
        ("flame", {"weights": np.zeros((7, 5))}, "weights"),
        ("flame", {"v_template": np.full((2428, 3), np.nan)}, "not finite"),
        ("flame", {"f": np.full((10, 3), 9999)}, "f names vertices outside"),
        ("flame", {"f": np.array([["a", None, {}]] * 4, object)}, "cannot be read"),
        ("flame", {"shapedirs": np.zeros((2428, 3, 300))}, "300 directions"),
        ("flame", {"kintree_table": np.array([[-1, 0, 0, 1, 1], [0, 1, 2, 3, 4]])}, "hang on"),
        ("flame", {"landmarks68": None}, "official 5023"),
        ("bfm", {"expEV": None}, "lacks expEV"),
        ("bfm", {"shapePC": np.zeros((2428, 15, 3))}, "shapePC"),
        ("bfm", {"tl": np.full((10, 3), -1)}, "tl names vertices outside"),
    ],
)
def test_damaged_files_are_refused_by_name(
    kind: str, changes: dict[str, Any], message: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = _changed(request.getfixturevalue(kind)[1], tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        (load_flame_mesh if kind == "flame" else load_bfm_mesh)(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x02}q\x00.", b"\x93NUMPY\x01\x00"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "flame.npz").write_bytes(content)
    for load in (load_flame_mesh, load_bfm_mesh):
        with pytest.raises(InputError, match="cannot be read"):
            load(tmp_path / "flame.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match="single array"):
        load_flame_mesh(tmp_path / "one.npy")


def test_torn_lids_are_told(bfm: Made, assets: Path, tmp_path: Path) -> None:
    with np.load(bfm[1]) as archive:
        around_eye = (archive["tl"][..., None] == archive["landmarks68"][37]).any((1, 2))
        path = _changed(bfm[1], tmp_path, tl=archive["tl"][~around_eye])
    canonical = load_canonical_face(assets / "model3d" / "canonical_face_model.obj")
    with pytest.raises(InputError, match="not connected"):
        embed_mediapipe(load_bfm_mesh(path), *canonical)


def _wander(rng: np.random.Generator, frames: int, count: int, sigma: float) -> np.ndarray:
    noise = gaussian_filter1d(rng.standard_normal((frames + 80, count)), sigma, axis=0)[40 : 40 + frames]
    return noise * np.sqrt(2 * sigma * np.sqrt(np.pi))


def _filmed(
    model: HeadModel, rng: np.random.Generator, identity: np.ndarray, expression: np.ndarray, turns: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, Flow]:
    """Landmarks `[T, 478, 2]` of a wandering head without noise, its rotations and the flow of its rigid parts."""
    frames = len(expression)
    wander = _wander(rng, frames, 6, 10)
    angles = wander[:, :3] * [4, 8, 3]
    rotation = np.diag([1.0, -1, -1]) @ Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    translation = np.array([0.0, 0.0, 0.7]) + wander[:, 3:] * [0.01, 0.01, 0.015]
    shape = model.landmarks(identity, expression, turns) - pivot_of(model)
    camera = shape @ rotation.transpose(0, 2, 1) + translation[:, None]
    points = np.full((frames, 478, 2), np.nan, np.float32)
    points[:, model.landmark_index] = FOCAL * camera[..., :2] / camera[..., 2:] + SIDE / 2
    nose = FOCAL * translation[:, :2] / translation[:, 2:]
    acceleration = np.full((frames, 2), np.nan)
    acceleration[1:-1] = np.diff(nose, 2, axis=0) + 0.1 * rng.standard_normal((frames - 2, 2))
    corners = follow(points[:, [p for p in sum(RIGID_PARTS, ()) if p in model.landmark_index]], 0.1, 1)
    return points, rotation, Flow(acceleration, corners)


# Here the embedding is exact and people are as the prior says; nothing has to be corrected.
SETTINGS = FitParams(FOCAL / SIDE, identity=1.0, identity_frames=64, identity_schedule=IDENTITY_SCHEDULE[:-1])


@pytest.mark.parametrize("kind", ["flame", "bfm"])
def test_the_truth_of_a_puppet_is_found(kind: str, request: pytest.FixtureRequest) -> None:
    """100 frames with 1 px of noise and a known focal length: 0.3 degrees, 0.4 mm after a similarity."""
    model: HeadModel = request.getfixturevalue(kind)[0]
    rng, frames = np.random.default_rng(5), 100
    identity = rng.standard_normal(len(model.identity))
    expression = 0.8 * _wander(rng, frames, len(model.expression), 4)
    turns = None
    if model.skeleton is not None:
        opening = np.abs(_wander(rng, frames, 1, 3)) * [[0.12]]
        turns = model.skeleton.turns(np.concatenate([opening, 0.02 * _wander(rng, frames, 2, 4)], 1))
    points, rotation, flow = _filmed(model, rng, identity, expression, turns)
    points += rng.standard_normal(points.shape).astype(np.float32)
    settings = replace(SETTINGS, snap_lids=False)  # these faces open and close their eyes at random
    fitted = fit_head(model, points, np.ones(frames, bool), SIDE, SIDE, (), flow, None, settings)
    relative = fitted.world_to_camera[:, :3, :3] @ rotation.transpose(0, 2, 1)
    assert np.degrees(np.linalg.norm(Rotation.from_matrix(relative).as_rotvec(), axis=1)).mean() < 0.3
    apart = []
    for t in range(0, frames, 10):
        found = model.vertices(fitted.identity, fitted.expression[t], fitted.turns[t])
        true = model.vertices(identity, expression[t], None if turns is None else turns[t])
        scale, turn, shift = similarity(found, true)
        apart.append(np.linalg.norm(scale * found @ turn.T + shift - true, axis=1).mean())
    assert np.mean(apart) < 0.0004
    assert fitted.turns.shape == (frames, len(model.joint_names), 3)
    if turns is not None:
        error = np.degrees(np.abs(fitted.turns - turns))
        assert error[:, 2, 0].mean() < 0.5
        assert np.corrcoef(fitted.turns[:, 2, 0], turns[:, 2, 0])[0, 1] > 0.98
        assert (fitted.turns[:, [0, 1, 3, 4]] == 0).all()


def test_eyes_close_without_a_shape_named_blink(flame: Made) -> None:
    model, source = flame[0], build()
    named = [name for name in source.expression_names if name != "jaw"]
    mixture = np.linalg.qr(np.random.default_rng(3).normal(size=(len(named),) * 2))[0]  # as in the file
    blink = np.isin(named, ("blink_left", "blink_right"))
    closing = np.exp(-(((np.arange(30) - 15) / 4.0) ** 4))
    expression = 4.0 * closing[:, None] * (mixture @ blink)
    points, _, flow = _filmed(model, np.random.default_rng(6), np.zeros(15), expression, None)
    closed = closing > 0.9
    for upper, lower in (*LID_PAIRS_RIGHT, *LID_PAIRS_LEFT):  # a landmarker never says that lids touch
        middle = (points[:, upper] + points[:, lower]) / 2
        points[closed, upper], points[closed, lower] = middle[closed] - [0, 1.0], middle[closed] + [0, 1.0]
    scores = np.zeros((30, 52), np.float32)
    scores[:, 9:11] = closing[:, None]

    def fitted(snap: bool) -> tuple[np.ndarray, np.ndarray]:
        settings = replace(SETTINGS, snap_lids=snap)
        fit = fit_head(model, points, np.ones(30, bool), SIDE, SIDE, (), flow, scores, settings)
        return model.landmarks(fit.identity, fit.expression, fit.turns), fit.expression

    (snapped, new), (plain, old) = fitted(True), fitted(False)
    pairs = np.concatenate([model.pair_rows(LID_PAIRS_RIGHT), model.pair_rows(LID_PAIRS_LEFT)])
    gap, before = (1e3 * np.abs(np.diff(shape[:, pairs, 1], axis=2)).mean((1, 2)) for shape in (snapped, plain))
    assert gap[closed].mean() < 0.35 < before[closed].mean()
    assert np.array_equal(new[closing < 0.01], old[closing < 0.01])
    lips = [model.landmark_index.tolist().index(number) for number in LIP_RING_OUTER]
    assert 1e3 * np.linalg.norm(snapped - plain, axis=2)[:, lips].max() < 0.5  # nothing else moves with the lids


def test_an_embedding_of_another_mesh_is_refused(flame: Made) -> None:
    model, path = flame
    other = Embedding(model.landmark_index, model.landmark_triangle + 10**6, model.landmark_barycentric, np.zeros(0))
    with pytest.raises(Exception, match="landmark_triangle"):
        load_flame(path, other, "flame2020")
