"""Bound Gaussians go with their mesh, and their children stay on it."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tiny_head import make_tiny_head

from models.gaussians.adam import FieldAdam
from models.gaussians.bound import BASES, bind, paint, share_out, triangle_frames
from models.gaussians.density import DensityControl
from models.gaussians.plan import Density
from models.gaussians.rotation import matrix_of, multiply, quat_of, rotate

HEAD = make_tiny_head()
TRIANGLES = torch.from_numpy(HEAD.triangles).long()
VERTICES = torch.from_numpy(HEAD.neutral).double()


def bound(count=200, shapes=3, seed=0):
    """Gaussians at random on a few triangles, with bases."""
    random = torch.Generator().manual_seed(seed)
    faces = np.sort(np.random.default_rng(seed).integers(0, len(TRIANGLES), count))
    field = bind(HEAD.neutral, HEAD.triangles, faces, np.full(count, 2e-6), 1, shapes, 4, 0.4, seed)
    with torch.no_grad():
        for name in ("means", "quats", "raw_scales", "harmonics", *BASES):
            part = getattr(field, name)
            part += 0.3 * torch.randn(part.shape, generator=random)
    return double(field)


def double(field):
    for name, tensor in field.tensors().items():
        if tensor.is_floating_point():
            setattr(field, name, tensor.detach().double().requires_grad_())
    return field


def same_turn(quats, others):
    """Whether quaternions are the same rotations, whatever their length and sign."""
    quats, others = (torch.nn.functional.normalize(part, dim=-1) for part in (quats, others))
    torch.testing.assert_close((quats * others).sum(-1).abs(), torch.ones(len(quats), dtype=quats.dtype))


def test_a_rotation_is_the_same_as_matrix_vector_and_quaternion():
    vectors = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (400, 3)))
    vectors[:4] = torch.tensor([[0.0, 0, 0], [np.pi, 0, 0], [0, np.pi, 0], [0, 0, np.pi]])
    matrices = matrix_of(vectors)
    np.testing.assert_allclose(matrices.numpy(), Rotation.from_rotvec(vectors.numpy()).as_matrix(), atol=1e-12)
    points = torch.randn(400, 3, dtype=torch.float64)
    torch.testing.assert_close(rotate(quat_of(matrices), points), (matrices @ points[..., None])[..., 0])
    assert torch.autograd.gradcheck(lambda v: quat_of(matrix_of(v)), (vectors[4:12].clone().requires_grad_(),))
    assert torch.autograd.gradcheck(matrix_of, (torch.zeros(1, 3, dtype=torch.float64, requires_grad=True),))


def test_frames_are_square_and_have_the_size_of_their_triangle():
    frames = triangle_frames(VERTICES, TRIANGLES)
    corners = VERTICES[TRIANGLES]
    identity = torch.eye(3, dtype=torch.float64).expand(len(TRIANGLES), 3, 3)
    torch.testing.assert_close(frames.rotation.transpose(1, 2) @ frames.rotation, identity)
    torch.testing.assert_close(torch.linalg.det(frames.rotation), torch.ones(len(TRIANGLES), dtype=torch.float64))
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    base = (corners[:, 1] - corners[:, 0]).norm(dim=1)
    torch.testing.assert_close(frames.rotation[..., 1], torch.nn.functional.normalize(normal, dim=1))
    torch.testing.assert_close(frames.unit, (base + normal.norm(dim=1) / base) / 2)
    torch.testing.assert_close(frames.origin, corners.mean(1))


def test_a_rigid_motion_of_the_mesh_moves_every_gaussian_with_it():
    field, weights = bound(), torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64)
    vector, shift = torch.tensor([0.4, -0.9, 1.3], dtype=torch.float64), torch.tensor([0.1, -0.02, 0.5]).double()
    turn = matrix_of(vector)
    rest = field.place(VERTICES, TRIANGLES, weights)
    moved = field.place(VERTICES @ turn.T + shift, TRIANGLES, weights)
    torch.testing.assert_close(moved.means, rest.means @ turn.T + shift)
    same_turn(moved.quats, multiply(quat_of(turn), rest.quats))
    torch.testing.assert_close(moved.scales, rest.scales)


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_a_larger_mesh_has_larger_gaussians_farther_off(factor):
    field, frames = bound(), triangle_frames(VERTICES, TRIANGLES)
    rest, large = field.place(VERTICES, TRIANGLES), field.place(factor * VERTICES, TRIANGLES)
    torch.testing.assert_close(large.scales, factor * rest.scales)
    offsets = [placed.means - size * frames.origin[field.faces] for placed, size in ((rest, 1), (large, factor))]
    torch.testing.assert_close(offsets[1], factor * offsets[0])
    assert offsets[0].norm(dim=1).max() > 1e-4
    same_turn(large.quats, rest.quats)


def test_bases_of_zero_or_weights_of_zero_bind_statically():
    field, frames = bound(), triangle_frames(VERTICES, TRIANGLES)
    still = field.place(VERTICES, TRIANGLES)
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    moved = field.place(VERTICES, TRIANGLES, weights)
    for part, other in zip(still[:2] + still[4:], moved[:2] + moved[4:], strict=True):
        assert not torch.allclose(part, other)
    for found in (
        field.place(VERTICES, TRIANGLES, 0 * weights),
        without_bases(field).place(VERTICES, TRIANGLES, weights),
    ):
        for part, other in zip(still, found, strict=True):
            torch.testing.assert_close(part, other)
    # What a weight adds is local: in units of the triangle and along its axes.
    field = bound()
    change = torch.einsum("b,nbc->nc", weights, field.position_basis)
    origin, rotation, unit = (part[field.faces] for part in frames)
    torch.testing.assert_close(moved.means - still.means, unit[:, None] * (rotation @ change[..., None])[..., 0])


@pytest.mark.parametrize(("weighted", "area"), [(True, True), (False, True), (True, False)])
def test_kernels_equal_reference(weighted, area):
    exact = bound(3000, seed=3)
    ours = type(exact)(**{name: to_float(tensor) for name, tensor in exact.tensors().items()})
    # A mesh whose triangles face all ways, so that each number of a quaternion is once the largest.
    crumpled = VERTICES + 0.01 * torch.randn(VERTICES.shape, generator=torch.Generator().manual_seed(1)).double()
    if not area:  # that is, in some triangles
        for corner, same, other in ((0, 1, 0), (1, 0, 2), (2, 1, 2)):
            crumpled[TRIANGLES[40 * corner, same]] = crumpled[TRIANGLES[40 * corner, other]]
    found = []
    for field, kind, backend in ((ours, torch.float32, "cpu"), (exact, torch.float64, "reference")):
        generator = torch.Generator().manual_seed(2)
        vertices = crumpled.detach().to(kind).requires_grad_()
        weights = torch.tensor([0.5, -1.0, 0.2], dtype=kind, requires_grad=True)
        placed = field.place(vertices, TRIANGLES, weights if weighted else None, backend)
        total = torch.zeros((), dtype=kind)
        for part, sign in zip(placed, (1, 0, 1, 1, 1), strict=True):
            total = total + (part * torch.randn(part.shape, generator=generator).to(kind)).sum() * sign
        # The sign of a quaternion means nothing, so that what is asked of it must not depend on it.
        target = torch.nn.functional.normalize(torch.randn(3000, 4, generator=generator), dim=-1).to(kind)
        total = total + (placed.quats * target).sum(-1).square().sum()
        total.backward()
        gradients = {name: part.grad for name, part in field.tensors().items() if part.grad is not None}
        gradients |= {"vertices": vertices.grad} | ({"weights": weights.grad} if weighted else {})
        found.append((placed, gradients))
    (placed, gradients), (truth, true_gradients) = found
    for name, part, true in zip(placed._fields, placed, truth, strict=True):
        if name == "quats":
            same_turn(part.double(), true)
        else:
            torch.testing.assert_close(part.double(), true, atol=1e-6, rtol=1e-4, msg=name)
    assert gradients.keys() == true_gradients.keys()
    for name, gradient in gradients.items():
        error = (gradient.double() - true_gradients[name]).norm() / true_gradients[name].norm().clamp(min=1e-9)
        assert error < 1e-4, name
    if weighted:
        assert len(gradients) == 6 + len(BASES) + 2
        assert all(part.any() for part in gradients.values())


def to_float(tensor):
    return tensor.detach().float() if tensor.is_floating_point() else tensor


def test_kernels_refuse_what_they_cannot_take():
    with pytest.raises(ValueError, match="float32"):
        bound().place(VERTICES, TRIANGLES, backend="cpu")
    with pytest.raises(ValueError, match="unknown backend"):
        bound().place(VERTICES, TRIANGLES, backend="gpu")
    with pytest.raises(ValueError, match="not among 5"):
        single(8).place(VERTICES.float(), TRIANGLES[:5])
    with pytest.raises(ValueError, match="not among 5"):
        single(8).place(VERTICES.float()[:5], TRIANGLES)
    few = bind(HEAD.neutral, HEAD.triangles, np.arange(8), np.full(8, 2e-6), 0, 3, 4, 0.4, 0)
    for backend in ("cpu", "reference"):
        with pytest.raises(ValueError, match="4 bands for 1 of colour"):
            few.place(VERTICES.float(), TRIANGLES, backend=backend)


def test_gaussians_of_triangles_without_area_are_numbers():
    triangles = HEAD.triangles.copy()
    triangles[0] = triangles[0, 0]
    triangles[1, 1] = triangles[1, 0]
    triangles[2, 2] = triangles[2, 0]
    faces, areas = np.arange(8), np.array([0, 0, 0, 2e-6, 2e-6, 2e-6, 2e-6, 2e-6])
    field = bind(HEAD.neutral, triangles, faces, areas, 1, 3, 4, 0.4, 0)
    vertices = VERTICES.float().requires_grad_()
    for backend in ("cpu", "reference"):
        placed = field.place(vertices, torch.from_numpy(triangles).long(), backend=backend)
        assert all(part.isfinite().all() for part in placed)
        sum(part.square().sum() for part in placed).backward()
        assert all(part.grad is None or part.grad.isfinite().all() for part in field.tensors().values())
        assert vertices.grad.abs().max() < 1e4


def without_bases(field):
    with torch.no_grad():
        for name in BASES:
            getattr(field, name).zero_()
    return field


def test_first_gaussians_lie_on_their_triangles():
    faces = np.array([3, 3, 3, 17, 40])
    field = double(bind(HEAD.neutral, HEAD.triangles, faces, np.full(5, 4e-6), 0, 2, 1, 0.1, 0))
    placed = field.place(VERTICES, TRIANGLES)
    corners = VERTICES[TRIANGLES[faces]]
    torch.testing.assert_close(placed.means[[0, 3, 4]], corners[[0, 3, 4]].mean(1), rtol=0, atol=1e-9)
    matrix = torch.cat([corners.transpose(1, 2), torch.ones(5, 1, 3, dtype=torch.float64)], 1)
    wanted = torch.cat([placed.means, torch.ones(5, 1, dtype=torch.float64)], 1)[..., None]
    shares = torch.linalg.lstsq(matrix, wanted).solution
    torch.testing.assert_close(matrix @ shares, wanted, rtol=0, atol=1e-7)
    assert shares.min() > 0
    torch.testing.assert_close(placed.scales, torch.full((5, 3), 0.75 * 2e-3, dtype=torch.float64))
    paint(field, np.full((5, 3), 0.7))
    torch.testing.assert_close(field.base_color, torch.full((5, 3), 0.7, dtype=torch.float64))


def test_gaussians_are_shared_out_by_area_and_importance():
    random = np.random.default_rng(0)
    areas, importance = random.uniform(1, 3, 500), np.where(np.arange(500) < 100, 4.0, 1.0)
    extra = np.arange(500) >= 450
    faces, stands_for = share_out(areas, importance, extra, 200, 0)
    assert (np.diff(faces) >= 0).all()
    wanted = 200 * (areas * importance)[:100].sum() / (areas * importance).sum()
    assert abs((faces < 100).sum() - wanted) <= 1
    assert stands_for.sum() == pytest.approx(areas.sum(), rel=0.03)
    faces, stands_for = share_out(areas, importance, extra, 560, 0)
    counts = np.bincount(faces)
    assert (counts >= 1).all()
    assert (counts[~extra] == 1).all()
    assert counts[extra].sum() == 110
    assert stands_for.sum() == pytest.approx(areas.sum())
    faces, _ = share_out(areas, importance, extra & False, 560, 0)
    assert len(np.unique(faces)) == 500


def control(field, **plan):
    control = DensityControl(Density(green="keep", **plan), len(field), torch.Generator().manual_seed(0))
    control.seen += 1
    control.total += torch.arange(len(field)) + 1.0  # the last ones have the largest gradients
    return control


def single(count):
    return bind(HEAD.neutral, HEAD.triangles, np.arange(count), np.full(count, 2e-6), 1, 3, 4, 0.4, 0)


def test_children_inherit_triangle_and_bases():
    field = single(40)
    with torch.no_grad():
        for name in BASES:
            getattr(field, name)[:] = torch.randn(getattr(field, name).shape)
        field.raw_scales[39] += 2  # one to split; its neighbour is doubled
    before = {name: tensor.detach().clone() for name, tensor in field.tensors().items()}
    adam = FieldAdam(field.tensors())
    limit = field.scales[39].max().item() - 0.1
    change = control(field, growth=0.05, split_above=limit, prune_above=99).refine(field, adam, 0.5)
    assert change == (1, 1, 0)
    parents = [*range(39), 38, 39, 39]
    for name in ("faces", *BASES):
        assert torch.equal(field.tensors()[name], before[name][parents]), name
    assert not field.faces.requires_grad
    children = field.means[40:] - before["means"][39]
    assert 0 < children.norm(dim=1).max() < 5 * limit
    assert all(len(moment) == 42 for moment in adam.first.values())


def test_no_triangle_loses_its_last_gaussian():
    faces = np.array([0, 0, 1, 1, 2])
    field = bind(HEAD.neutral, HEAD.triangles, faces, np.full(5, 2e-6), 0, 3, 1, 0.4, 0)
    with torch.no_grad():
        field.raw_opacities[:] = torch.tensor([1.0, -9.0, -8.0, -9.0, -9.0])  # the first alone is worth keeping
    change = control(field, growth=0.0).refine(field, FieldAdam(field.tensors()), 0.5)
    assert change == (0, 0, 2)
    assert field.faces.tolist() == [0, 1, 2]
    torch.testing.assert_close(field.raw_opacities, torch.tensor([1.0, -8.0, -9.0]))
