"""The torch rig is the numpy head model; what is built inside a mouth goes with it."""

import numpy as np
import pytest
import torch
from tiny_head import make_jointed_head, make_tiny_head

from models.demo.head_model import build
from models.errors import UsageError
from models.heads.mediapipe_points import CURVES
from models.heads.mouth_parts import COLUMNS, REGION, with_mouth
from models.heads.rig import Rig, face_mesh, spread

HEADS = {"linear": make_tiny_head, "jointed": make_jointed_head, "synthetic": build}


def pose(model, frames=3, seed=0):
    random = np.random.default_rng(seed)
    identity = random.normal(0, 1, len(model.identity))
    expression = random.uniform(0, 1, (frames, len(model.expression)))
    jaw = random.normal(0, 0.2, (frames, 0 if model.skeleton is None else 3))
    return identity, expression, jaw


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("mouth", [False, True])
def test_the_rig_is_the_head_model(name, mouth):
    model = with_mouth(HEADS[name]()) if mouth else HEADS[name]()
    identity, expression, jaw = pose(model)
    turns = None if model.skeleton is None else model.skeleton.turns(jaw)
    wanted = model.vertices(identity, expression, turns)
    chosen = np.arange(0, len(model.neutral), 7)
    offsets = np.full((len(chosen), 3), 1e-3)
    tensors = [torch.tensor(part, dtype=torch.float32) for part in (identity, expression, jaw)]
    found = Rig(model, chosen).vertices(*tensors)
    np.testing.assert_allclose(found, wanted[:, chosen], atol=2e-6)
    some = torch.tensor([5, 0, 31])
    torch.testing.assert_close(Rig(model, chosen).part(some).vertices(*tensors), found[:, some])
    rest = [torch.zeros_like(part) for part in tensors]
    moved = Rig(model, chosen, offsets).vertices(*rest) - Rig(model, chosen).vertices(*rest)
    np.testing.assert_allclose(moved, np.broadcast_to(offsets, moved.shape), atol=1e-6)


def test_a_jaw_has_gradients():
    rig = Rig(make_jointed_head(), np.arange(0, 4000, 40))
    identity, expression, jaw = (torch.tensor(part, dtype=torch.float32) for part in pose(make_jointed_head()))
    for part in (identity, expression, jaw.zero_()):
        part.requires_grad_()
    rig.vertices(identity, expression, jaw).square().sum().backward()
    for part in (identity, expression, jaw):
        assert torch.isfinite(part.grad).all()
        assert part.grad.abs().max() > 0


@pytest.mark.parametrize("name", HEADS)
def test_teeth_keep_to_skull_and_chin_and_the_cavity_to_the_lips(name):
    bare = HEADS[name]()
    model = with_mouth(bare)
    assert with_mouth(model) is model
    first, end = model.regions[REGION]
    assert (first, end) == (len(bare.neutral), len(model.neutral))
    np.testing.assert_array_equal(model.neutral[:first], bare.neutral)
    lips = bare.at_landmarks(bare.neutral)[bare.rows_of(CURVES["lip_inner_upper"] + CURVES["lip_inner_lower"])]
    inside = model.neutral[first:]
    assert inside[:, 2].max() < lips[:, 2].max()  # nothing sticks out of the mouth
    assert np.ptp(inside[:, 0]) < 1.1 * np.ptp(lips[:, 0])

    shapes = [i for i, word in enumerate(model.expression_names) if word.startswith("jaw")]
    expression = np.zeros(len(model.expression))
    expression[shapes[:1]] = 0.5
    turns = None if model.skeleton is None else model.skeleton.turns(np.array([0.2, 0.0, 0.0]))
    moved = model.vertices(None, expression, turns) - model.neutral
    strip = 3 * COLUMNS
    upper, lower = moved[end - 2 * strip : end - strip], moved[end - strip :]
    assert np.abs(upper).max() < 0.1 * np.abs(lower).max()
    assert lower[:, 1].max() < -1e-3  # down
    chin = moved[: len(bare.neutral)][:, 1].min()
    assert lower[:, 1].mean() == pytest.approx(chin, rel=0.6)


def test_a_head_without_inner_lips_cannot_have_a_mouth():
    model = make_tiny_head()
    keep = ~np.isin(model.landmark_index, CURVES["lip_inner_upper"] + CURVES["lip_inner_lower"])
    parts = {
        name: getattr(model, name)[keep] for name in ("landmark_index", "landmark_triangle", "landmark_barycentric")
    }
    with pytest.raises(UsageError, match="inner lips"):
        with_mouth(type(model)(**{**vars(model), **parts}))


def test_a_face_is_a_head_without_neck_and_sockets():
    model = with_mouth(make_tiny_head())
    count = len(model.neutral)
    mesh = face_mesh(model)
    np.testing.assert_array_equal(mesh.vertices[mesh.triangles], model.triangles)
    first, _ = model.regions[REGION]
    np.testing.assert_array_equal(mesh.inside, (model.triangles >= first).any(1))
    assert 0 < mesh.lips.sum() < mesh.fine.sum() < len(mesh.triangles) / 4
    assert not (mesh.lips & mesh.inside).any()
    assert not mesh.eyeballs.any()
    seeing = face_mesh(type(model)(**{**vars(model), "regions": {**model.regions, "eyeball_left": (3, 40)}}))
    np.testing.assert_array_equal(seeing.eyeballs, ((model.triangles >= 3) & (model.triangles < 40)).any(1))
    part = face_mesh(type(model)(**{**vars(model), "regions": {**model.regions, "head_neck": (0, 1000)}}))
    assert part.vertices.min() == 1000
    assert part.triangles.max() == len(part.vertices) - 1 < count - 1000


def test_what_landmarks_know_is_spread_about_them():
    random = np.random.default_rng(0)
    points, offsets = random.uniform(-0.05, 0.05, (200, 3)), random.normal(0, 1e-3, (200, 3))
    near = spread(points, offsets, points)
    assert np.corrcoef(near.ravel(), offsets.ravel())[0, 1] > 0.7
    np.testing.assert_allclose(spread(points, np.full((200, 3), 2e-3), points), 2e-3, rtol=1e-5)
    assert np.abs(spread(points, offsets, points + 0.3)).max() < 1e-9
