"""Head models, the landmark embedding, and what optical flow says about a clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from tiny_head import make_tiny_head

from models.errors import InputError, UsageError
from models.heads.embedding import Embedding, _closest_on_triangles, embed_mediapipe, load_canonical_face, similarity
from models.heads.flow import acceleration_error, find_cuts, find_judder, measure_flow
from models.heads.ict import load_ict, load_ict_mesh
from models.heads.mediapipe_points import CURVES, EYE_OUTER_LEFT, EYE_OUTER_RIGHT, LID_PAIRS_LEFT, LIP_PAIRS
from models.heads.model import HeadModel, triangulate

TINY = make_tiny_head()


def test_quads_become_triangles_and_triangles_stay() -> None:
    polygons = np.array([[0, 1, 2, 3], [4, 5, 6, -1], [7, 8, 9, 9]])
    triangles = {tuple(row) for row in triangulate(polygons).tolist()}
    assert triangles == {(0, 1, 2), (0, 2, 3), (4, 5, 6), (7, 8, 9)}


def test_the_mesh_is_linear_in_its_coefficients_and_landmarks_lie_on_it() -> None:
    rng = np.random.default_rng(0)
    identity = rng.normal(size=len(TINY.identity))
    expression = rng.uniform(size=(4, len(TINY.expression)))
    mesh = TINY.vertices(identity, expression)
    by_hand = TINY.neutral.copy()
    for k, value in enumerate(identity):
        by_hand = by_hand + value * TINY.identity[k]
    for k, value in enumerate(expression[2]):
        by_hand = by_hand + value * TINY.expression[k]
    assert np.allclose(mesh[2], by_hand)
    landmarks = TINY.landmarks(identity, expression)
    row = 7
    corners, weights = TINY.landmark_triangle[row], TINY.landmark_barycentric[row]
    assert np.allclose(landmarks[2, row], weights @ by_hand[corners])
    assert np.allclose(TINY.landmarks(), TINY.landmarks(0 * identity, 0 * expression[0]))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("neutral", np.zeros((5, 3)), "triangles|identity"),
        ("identity", np.zeros((2, 5, 3)), "identity"),
        ("landmark_triangle", TINY.landmark_triangle + 10**6, "landmark_triangle"),
        ("landmark_index", TINY.landmark_index + 478, "landmark_index"),
        ("landmark_index", 0 * TINY.landmark_index, "twice"),
        ("landmark_barycentric", 2 * TINY.landmark_barycentric, "barycentric"),
    ],
)
def test_a_head_model_that_does_not_fit_together_is_refused(field: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(TINY, **{field: value})


def test_expressions_are_found_under_the_names_of_several_makers() -> None:
    names = ("eyeBlink_L", "eyeBlink_R", "blink_left", "blink_right", "eyeBlinkLeft", "mouthLeft", "jawOpen")
    model = replace(TINY, expression_names=names)
    assert model.expression_rows("blink", "left").tolist() == [0, 2, 4]
    assert model.expression_rows("blink", "right").tolist() == [1, 3]


def test_pairs_and_rows_leave_out_what_the_model_lacks() -> None:
    assert len(TINY.pair_rows(LIP_PAIRS)) == 5
    assert TINY.pair_rows(((13, 468), (13, 14))).shape == (1, 2)
    assert TINY.landmark_index[TINY.rows_of((263, 468, 33))].tolist() == [263, 33]


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_a_similarity_is_recovered(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(6, 3))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.linalg.det(rotation)
    scale, shift = rng.uniform(0.3, 3), rng.normal(size=3)
    found = similarity(source, scale * source @ rotation.T + shift)
    assert found[0] == pytest.approx(scale)
    assert np.allclose(found[1], rotation)
    assert np.allclose(found[2], shift)


def test_closest_points_of_triangles_match_a_fine_search() -> None:
    rng = np.random.default_rng(3)
    points, corners = rng.normal(size=(40, 3)), rng.normal(size=(40, 1, 3, 3))
    weights, position = _closest_on_triangles(points, corners[:, :, 0], corners[:, :, 1], corners[:, :, 2])
    assert (weights > -1e-9).all()
    assert np.allclose(weights.sum(-1), 1)
    assert np.allclose(np.einsum("nkc,nkcd->nkd", weights, corners), position)
    u, v = (grid.ravel() for grid in np.meshgrid(np.linspace(0, 1, 120), np.linspace(0, 1, 120)))
    u, v = u[u + v <= 1], v[u + v <= 1]
    everywhere = np.einsum("sk,nkd->nsd", np.stack([1 - u - v, u, v], 1), corners[:, 0])
    best = np.linalg.norm(everywhere - points[:, None], axis=-1).min(1)
    distance = np.linalg.norm(position[:, 0] - points, axis=-1)
    assert (distance <= best + 1e-9).all()
    assert np.abs(distance - best).max() < 0.03


@pytest.fixture(scope="module")
def ict(assets_or_skip: Path) -> tuple[HeadModel, Embedding]:
    archive = assets_or_skip / "model3d" / "ict_facekit_light.npz"
    points, triangles = load_canonical_face(assets_or_skip / "model3d" / "canonical_face_model.obj")
    embedding = embed_mediapipe(load_ict_mesh(archive), points, triangles)
    return load_ict(archive, embedding), embedding


@pytest.fixture(scope="module")
def assets_or_skip(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue("assets")


def test_ict_comes_in_metres_in_the_head_frame(ict: tuple[HeadModel, Embedding]) -> None:
    model, _ = ict
    place = dict(zip(model.landmark_index.tolist(), model.landmarks(), strict=True))
    assert place[EYE_OUTER_LEFT][0] > 0.03  # x to the subject's left
    assert place[EYE_OUTER_RIGHT][0] < -0.03
    assert place[152][1] < place[4][1] < place[9][1]  # y up: chin, nose tip, between the brows
    assert place[4][2] == pytest.approx(model.neutral[:, 2].max(), abs=0.004)  # z out of the face
    assert abs(place[EYE_OUTER_LEFT][1]) < 0.01  # the origin is at eye height
    first, end = model.regions["face"]
    low, high = model.neutral[first:end].min(0), model.neutral[first:end].max(0)
    assert (low[[0, 2]] > -0.18).all()
    assert (high < 0.16).all()  # hair fits on top
    assert place[152][1] > -0.16
    corner = model.neutral[model.triangles[(model.triangles < end).all(1)]]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    assert ((normal * corner.mean(1)).sum(1) > 0).mean() > 0.8  # triangles face outwards


def test_the_embedding_lies_on_skin_lids_and_lips(ict: tuple[HeadModel, Embedding], assets: Path) -> None:
    model, embedding = ict
    assert 400 <= len(embedding.landmark_index) <= 440
    assert {n for curve in CURVES.values() for n in curve} <= set(embedding.landmark_index.tolist())
    assert np.median(embedding.residual_m) < 0.0003
    place = dict(zip(model.landmark_index.tolist(), model.landmarks(), strict=True))
    mirrored = np.array([1, -1, -1]) * -1
    for right, left in ((33, 263), (133, 362), (61, 291), (48, 278), (159, 386)):
        assert np.abs(place[right] - mirrored * place[left]).max() < 0.0015
    with np.load(assets / "model3d" / "mediapipe_ict_embedding.npz") as other:
        theirs = np.einsum("lk,lkc->lc", other["barycentric"], model.neutral[other["vertex_ids"]])
        ours = np.array([place[int(n)] for n in other["landmark_index"]])
    assert np.linalg.norm(ours - theirs, axis=1).mean() < 0.0002


def test_blinking_and_opening_the_jaw_do_what_they_say(ict: tuple[HeadModel, Embedding]) -> None:
    model, _ = ict

    def gap(pairs: tuple[tuple[int, int], ...], expression: np.ndarray) -> float:
        landmarks, rows = model.landmarks(None, expression), model.pair_rows(pairs)
        return float(np.linalg.norm(landmarks[rows[:, 0]] - landmarks[rows[:, 1]], axis=1).mean())

    rest, blink, jaw = (np.zeros(len(model.expression_names)) for _ in range(3))
    blink[model.expression_rows("blink", "left")] = 1.0
    jaw[model.expression_names.index("jawOpen")] = 1.0
    assert gap(LID_PAIRS_LEFT, blink) < 0.2 * gap(LID_PAIRS_LEFT, rest)
    assert gap(LIP_PAIRS, jaw) > 10 * gap(LIP_PAIRS, rest)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", neutral=np.zeros((3, 3)))
    with pytest.raises(InputError, match="quads"):
        load_ict_mesh(tmp_path / "other.npz")
    (tmp_path / "other.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1/1 2/2 3/3\n", encoding="utf-8")
    with pytest.raises(InputError, match="468"):
        load_canonical_face(tmp_path / "other.obj")


# Clips for the flow: a textured patch that moves with the landmarks over a still background.


def _moving_clip(track: np.ndarray, side: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Frames `[T, side, side]` and landmarks `[T, 478, 2]` of a face that follows `track [T, 2]`."""
    rng = np.random.default_rng(1)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (side, side)).astype(np.float32), (0, 0), 2.0)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    landmarks = np.full((478, 2), np.nan)
    rows = TINY.landmarks()[:, :2] * [1, -1] / 0.09 * 50 + side / 2
    landmarks[TINY.landmark_index] = rows
    frames = [
        cv2.warpAffine(texture, np.float32([[1, 0, x], [0, 1, y]]), (side, side), flags=cv2.INTER_CUBIC)
        for x, y in track
    ]
    points = landmarks + track[:, None]
    return np.clip(frames, 0, 255).astype(np.uint8), points.astype(np.float32)


def _smooth_track(frames: int) -> np.ndarray:
    t = np.arange(frames)
    return np.stack([8 * np.sin(t / 3.0), 5 * np.cos(t / 4.0)], 1)


@pytest.mark.parametrize("colour", [True, False])
def test_flow_measures_the_acceleration_of_the_patch(colour: bool) -> None:
    track = _smooth_track(14)
    frames, points = _moving_clip(track)
    trembling = points + np.random.default_rng(2).normal(0, 0.7, (14, 1, 2)).astype(np.float32)
    shown = np.repeat(frames[..., None], 3, -1) if colour else frames
    halves = measure_flow(shown, trembling, np.ones(14, bool))
    truth = np.full((14, 2), np.nan)
    truth[1:-1] = track[2:] + track[:-2] - 2 * track[1:-1]
    for half in halves:
        assert np.isnan(half.nose[[0, -1]]).all()
        # The frames themselves are only good to 1/32 pixel, that is OpenCV's warping.
        assert np.abs(half.nose[1:-1] - truth[1:-1]).max() < 0.2
        assert acceleration_error(track, half.nose) < 0.12
        assert acceleration_error(trembling[:, 4], half.nose) > 0.7
    first, second = (half.corners[5, :, 1] for half in halves)
    first, second = (places[np.isfinite(places[:, 0])] for places in (first, second))
    assert min(len(first), len(second)) > 12
    apart = np.linalg.norm(first[:, None] - second, axis=2)
    assert apart.min() > 1  # what judges a fit are other corners than those that feed it


def test_flow_is_silent_next_to_cuts_and_missing_faces() -> None:
    frames, points = _moving_clip(_smooth_track(14))
    valid = np.ones(14, bool)
    valid[10] = False
    for half in measure_flow(frames, points, valid, cuts=(5,)):
        silent = [0, 4, 5, 9, 10, 11, 13]
        assert np.flatnonzero(~np.isfinite(half.nose).all(1)).tolist() == silent
        assert np.flatnonzero(~np.isfinite(half.corners).any((1, 2, 3))).tolist() == silent
    nothing, _ = measure_flow(frames, points, np.zeros(14, bool))
    assert np.isnan(nothing.nose).all()
    assert np.isnan(nothing.corners).all()
    assert np.isnan(acceleration_error(_smooth_track(14), nothing.nose))


def test_flow_of_a_face_of_a_few_pixels_measures_what_it_can() -> None:
    frames, _ = _moving_clip(np.zeros((5, 2)))
    points = np.random.default_rng(0).uniform(68, 92, (478, 2)).astype(np.float32)
    points[[33, 263]] = (74, 76), (86, 76)
    for half in measure_flow(frames, np.repeat(points[None], 5, 0), np.ones(5, bool)):
        assert np.isfinite(half.corners).any()
        assert np.nanmax(np.abs(half.corners - half.corners[:, :, 1:2])) < 0.1  # nothing moves


def test_cuts_are_found_and_fast_motion_is_none() -> None:
    track = _smooth_track(40)
    frames, points = _moving_clip(track)
    eye_distance = np.linalg.norm(points[0, 33] - points[0, 263])
    assert np.abs(np.diff(track, axis=0)).max() > 0.04 * eye_distance  # as fast as a cut's jump
    valid = np.ones(40, bool)
    assert find_cuts(points, valid, frames).tolist() == []
    jumped = points.copy()
    jumped[25:] += [30, 5]
    assert find_cuts(jumped, valid).tolist() == [25]
    shown, points = _moving_clip(0.1 * track)  # the same pose before and after, only the picture changes
    flash = shown.copy()
    flash[20] = 255
    assert find_cuts(points, valid, flash).tolist() == []
    shown[12:] = 255 - shown[12:]
    assert find_cuts(points, valid, shown).tolist() == [12]
    valid[11:13] = False
    points[11:13] = np.nan
    assert find_cuts(points, valid, shown).tolist() == [12]
    assert find_cuts(points[:2], valid[:2]).tolist() == []


def test_judder_is_told_from_even_motion() -> None:
    def clip(instants: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(4)
        phases = rng.uniform(0, 6.28, 4)
        path = sum(
            np.stack([np.sin(instants * w + p), np.cos(instants * w * 0.8 + p)], 1)
            for w, p in zip((0.11, 0.17, 0.23, 0.31), phases, strict=True)
        )
        noise = rng.normal(0, 0.05, (len(instants), 1, 2))
        still = np.full((478, 2), np.nan)
        still[TINY.landmark_index] = TINY.landmarks()[:, :2] * [1, -1] / 0.09 * 50 + 80
        return still + 5 * path[:, None] + noise

    frames = np.arange(250)
    valid = np.ones(250, bool)
    assert find_judder(clip(frames.astype(float)), valid) is None
    found = find_judder(clip(frames + frames // 5), valid)  # every sixth of 30 frames dropped
    assert found is not None
    assert found.period == 5
    assert found.unevenness > 1.3
    assert find_judder(clip(frames + frames // 5)[:40], valid[:40]) is None


def test_judder_is_told_from_motion_that_is_only_random() -> None:
    valid, frames = np.ones(125, bool), np.arange(125)

    def clip(seed: int, instants: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(seed)
        path = 35 * gaussian_filter1d(rng.standard_normal((200, 2)), 8, axis=0)[20:180]
        trembling = 0.15 * rng.standard_normal((len(instants), 1, 2))
        still = np.full((478, 2), np.nan)
        still[TINY.landmark_index] = TINY.landmarks()[:, :2] * [1, -1] / 0.09 * 70 + 128
        return still + path[instants][:, None] + trembling

    alarms = [find_judder(clip(seed, frames), valid) for seed in range(40)]
    assert sum(alarm is not None for alarm in alarms) <= 1
    found = [find_judder(clip(seed, frames + frames // 5), valid) for seed in range(40)]
    assert sum(judder is not None and judder.period == 5 for judder in found) >= 37
