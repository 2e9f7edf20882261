"""GaussianTalker's Inpainting Generator: what is cut out of a frame, what is painted, and what must stay as it is."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny_head import make_tiny_head

from models.gaussians.bound import Placed
from models.gaussians.camera import Camera
from models.gaussians.rasterize import Raster
from models.heads.mouth_parts import with_mouth
from models.heads.rig import Rig, face_mesh
from models.methods.gaussian_talker import Renderer, first_gaussians
from models.methods.gaussian_talker_config import InpaintingConfig, RendererConfig
from models.methods.gaussian_talker_inpainting import (
    FAINT,
    GatedConv,
    InpaintingBlock,
    InpaintingGenerator,
    Painter,
    View,
    composite,
    extremes,
    feather,
    inpainting_losses,
    reach_of,
    shifted,
    spread,
    without_specks,
)
from models.methods.gaussian_talker_networks import BlendShapes, Coefficients
from models.methods.gaussian_talker_phases import InpaintingPhase, RendererPhase
from models.morphology import grow
from models.schedule import weights_at

MARGIN = 2  # pixels in so small a frame, at least what the default is
SMALL = InpaintingConfig(width=4, levels=2, blocks=1, stem=2)
SIZE = 96


def camera(turn=0.0, right=0.0):
    pose = torch.diag(torch.tensor([1.0, -1, -1, 1]))
    pose[0, 0] = pose[2, 2] = np.cos(turn)
    pose[2, 2] *= -1
    pose[0, 2], pose[2, 0] = np.sin(turn), np.sin(turn)
    pose[0, 3], pose[2, 3] = right, 0.6
    return Camera(pose, torch.tensor([[150.0, 0, 48], [0, 150, 48], [0, 0, 1]]), SIZE, SIZE)


@pytest.fixture(scope="module")
def face():
    """A head's renderer, and what a frame with some expression is told."""
    model = with_mouth(make_tiny_head())
    mesh, config = face_mesh(model), RendererConfig(sh_degree=0, color_bands=1)
    shown = np.ones(len(mesh.triangles), bool)
    phase = RendererPhase(opacity=0.9)
    field = first_gaussians(mesh, shown, model.neutral[mesh.vertices], 2000, phase, config, 0)
    blend = BlendShapes(config, len(model.expression))
    renderer = Renderer(Rig(model, mesh.vertices), torch.from_numpy(mesh.triangles).long(), field, blend)

    def told(**named):
        expression = torch.zeros(len(model.expression))
        for name, value in named.items():
            expression[model.expression_names.index(name)] = value
        zero = torch.zeros(3)
        return Coefficients(torch.zeros(len(model.identity)), expression, torch.zeros(0), zero, zero)

    return renderer, told


@pytest.fixture(scope="module")
def painter(face):
    renderer, told = face
    torch.manual_seed(0)
    network = InpaintingGenerator(SMALL)
    torch.nn.init.normal_(network.leave.weight, std=0.2)
    with torch.no_grad():
        faces = [renderer.place(told(jaw_open=amount)) for amount in (0.0, 0.5, 1.0)]
    return Painter(network, reach_of(faces, 0.004))


def drawn(face, view, **named):
    renderer, told = face
    with torch.no_grad():
        return renderer.draw(view, told(**named))


def scene(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(SIZE, SIZE, 3, generator=generator)


# ------------------------------------------------------------------------------------------------------ the network


@pytest.mark.parametrize("stride", [1, 2])
def test_a_gated_convolution_is_its_formula(stride):
    torch.manual_seed(0)
    layer, picture = GatedConv(3, 5, stride), torch.randn(2, 3, 7, 8)
    weight, bias = layer.both.weight, layer.both.bias
    padded = torch.nn.functional.pad(picture, (1, 1, 1, 1))
    found = layer(picture)
    for row, column in ((0, 0), (2, 3), (found.shape[2] - 1, found.shape[3] - 1)):
        part = padded[:, None, :, row * stride : row * stride + 3, column * stride : column * stride + 3]
        sums = (part * weight).sum((2, 3, 4)) + bias
        features, gate = sums[:, :5], sums[:, 5:]
        expected = torch.where(features > 0, features, 0.01 * features) / (1 + torch.exp(-gate))
        torch.testing.assert_close(found[:, :, row, column], expected)


def test_a_block_adds_what_comes_in():
    torch.manual_seed(0)
    block, picture = InpaintingBlock(3, 4, 2), torch.randn(1, 3, 8, 8)
    first = block.first(picture)
    torch.testing.assert_close(block(picture), first + block.second(first))


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (5, 9)])
@pytest.mark.parametrize("stem", [1, 2])
def test_an_untaught_generator_goes_on_with_the_colours_around_at_any_size(size, stem):
    network = InpaintingGenerator(InpaintingConfig(width=4, levels=2, blocks=0, stem=stem))
    face, alpha, hole = torch.rand(1, 3, *size), torch.rand(1, 1, *size), torch.ones(1, 1, *size)
    hole[..., 0] = 0
    colour = torch.tensor([0.2, 0.5, 0.7])[:, None, None]
    found = network(colour * (1 - hole), face, alpha, hole)
    torch.testing.assert_close(found, colour.expand_as(face))


def test_what_is_around_spreads_into_a_hole():
    picture, hole = torch.rand(2, 3, 21, 33), torch.zeros(2, 1, 21, 33)
    hole[:, :, 5:15, 6:30] = 1
    picture[..., :16] *= 0.1  # dark on the left
    full = spread(picture * (1 - hole), hole)
    known = (hole == 0).expand_as(picture)
    assert torch.equal(full[known], picture[known])
    assert full[~known].min() >= 0
    assert full[:, :, 5:15, 8].mean() < 0.5 * full[:, :, 5:15, 27].mean()
    assert (spread(picture * 0, torch.ones_like(hole)) == 0).all()


def test_the_generator_sees_all_that_it_is_given():
    torch.manual_seed(0)
    network = InpaintingGenerator(SMALL)
    torch.nn.init.normal_(network.leave.weight)
    given = [torch.rand(1, channels, 16, 16, requires_grad=True) for channels in (3, 3, 1, 1)]
    network(*given)[0, :, 8, 8].sum().backward()
    for part in given:
        assert part.grad[0, :, 4:12, 4:12].abs().sum() > 0


# --------------------------------------------------------------------------------------------------------- the hole


def test_the_feather_rises_evenly_from_nothing():
    hole = torch.zeros(20, 30, dtype=torch.bool)
    hole[4:20, 5:25] = True  # down to the frame's lower edge
    share = feather(hole, 4)
    assert (share[~hole] == 0).all()
    torch.testing.assert_close(share[4:9, 15], torch.tensor([0.25, 0.5, 0.75, 1, 1]))
    assert (share[8:, 9:21] == 1).all()
    assert (feather(hole, 1) == hole.float()).all()
    steps = share[:, 1:15] - share[:, :14]
    assert (steps >= 0).all()


@pytest.mark.parametrize(("turn", "right"), [(0.0, 0.0), (0.3, 0.02), (-0.4, -0.03)])
def test_the_hole_covers_the_frames_face_and_the_drawn_one_whatever_both_say(face, painter, turn, right):
    view, amounts = camera(turn, right), (0.0, 0.4, 1.0)
    alphas = {amount: drawn(face, view, jaw_open=amount).alpha for amount in amounts}
    lowest = {amount: int(torch.nonzero(alpha > FAINT)[:, 0].max()) for amount, alpha in alphas.items()}
    assert lowest[1.0] > lowest[0.0] + 1  # the chin goes down, or nothing is tested
    for own in amounts:
        for amount in amounts:
            part = painter.view(drawn(face, view, jaw_open=amount), view, alphas[own])
            hole = torch.zeros(SIZE, SIZE, dtype=torch.bool)
            hole[part.rows, part.columns] = part.hole
            assert hole[alphas[amount] > FAINT].all(), (own, amount)
            assert hole[alphas[own] > FAINT].all(), (own, amount)
            assert hole.float().mean() < 0.6
            assert part.hole[part.share > 0].all()


def test_with_the_frames_own_motion_nothing_is_invented(face, painter):
    view, frame = camera(), scene()
    for amount in (0.0, 0.5, 1.0):
        raster = drawn(face, view, jaw_open=amount)
        assert not painter.share(raster, view, raster.alpha).any()
        picture = painter.paint(raster, view, frame, raster.alpha)
        expected = raster.image + (1 - raster.alpha[..., None]) * frame
        torch.testing.assert_close(picture, expected.clamp(0, 1))
        bare = raster.alpha == 0
        assert bare.any()
        assert torch.equal(picture[bare], frame[bare])


def test_the_drawn_face_stays_as_it_was_drawn_and_the_frame_where_no_face_was(face, painter):
    view, frame = camera(), scene()
    kept = frame.clone()
    for new, old in ((0.0, 1.0), (1.0, 0.0), (0.5, 0.5)):
        raster, own = drawn(face, view, jaw_open=new), drawn(face, view, jaw_open=old).alpha
        picture = painter.paint(raster, view, frame, own)
        opaque = raster.alpha > 0.99
        assert opaque.sum() > 500
        torch.testing.assert_close(picture[opaque], raster.image[opaque].clamp(0, 1), rtol=0, atol=0.01)
        outside = (raster.alpha == 0) & ~grow(own > 0, MARGIN)
        assert torch.equal(picture[outside], frame[outside])
        assert picture.min() >= 0
        assert picture.max() <= 1
    assert torch.equal(frame, kept)


def test_a_lower_chin_of_the_frame_is_painted_over(face, painter):
    """Whatever the frame's own chin looks like, it is not in the picture; without the mask it would be."""
    view, frame = camera(), scene()
    raster = drawn(face, view)
    own = drawn(face, view, jaw_open=1.0).alpha
    chin = (own > 0.5) & (raster.alpha < FAINT)
    assert chin.sum() > 20
    black, white = (painter.paint(raster, view, torch.where(chin[..., None], to, frame), own) for to in (0.0, 1.0))
    shows = (white - black).abs().amax(-1)
    assert shows[chin].median() < 1e-6
    assert shows[chin].mean() < 0.1  # the frame shines through where the drawn face begins
    nobody = torch.zeros_like(own)
    without = painter.paint(raster, view, frame, nobody)
    clear = raster.alpha == 0
    assert torch.equal(without[clear], frame[clear])


def test_the_seam_has_no_jump(face, painter):
    """What is painted comes in as evenly as it says: by one part of the feather's width with each pixel."""
    view, white = camera(), torch.ones(SIZE, SIZE, 3)
    raster, own = drawn(face, view), drawn(face, view, jaw_open=1.0).alpha
    wide = Painter(InpaintingGenerator(dataclasses.replace(SMALL, margin_px=16, feather_px=12)), painter.reach)
    part = wide.view(raster, view, own)
    for painted in (torch.zeros_like(part.face), torch.full_like(part.face, 0.5)):
        behind = part._replace(face=torch.zeros_like(part.face), alpha=torch.zeros_like(part.alpha))
        picture = composite(behind, white[part.rows, part.columns], painted)
        depth = 1 - float(painted.max())
        assert picture.min() == pytest.approx(1 - depth)
        steps = [(picture[1:] - picture[:-1]).abs().max(), (picture[:, 1:] - picture[:, :-1]).abs().max()]
        assert max(steps) <= depth / 4 + 1e-6  # 12 pixels of a frame of 256 are 4 here


def test_the_seam_comes_and_goes_with_the_chin(painter, face):
    view, own = camera(), drawn(face, camera(), jaw_open=1.0).alpha
    shares = [painter.share(drawn(face, view, jaw_open=amount), view, own).sum() for amount in (1.0, 0.7, 0.4, 0.0)]
    assert shares == sorted(shares)
    assert shares[0] == 0 < shares[-1]


def test_a_face_that_moved_by_a_pixel_uncovers_nothing(painter, face):
    small = camera()
    intrinsics = small.intrinsics * torch.tensor([[256 / SIZE], [256 / SIZE], [1.0]])
    view = Camera(small.world_to_camera, intrinsics, 256, 256)
    raster = drawn(face, view)
    shares = [painter.share(raster, view, shifted(raster.alpha, down, 0)).sum() for down in (0, 1, 3, 6)]
    assert shares[0] == shares[1] == 0
    assert 0 < shares[2] < shares[3]


def test_a_face_beyond_the_frame_is_cut_off_at_its_edge(face, painter):
    for right in (0.1, 0.25, 1.0):  # at the edge, half gone, gone
        view, frame = camera(right=right), scene()
        raster, own = drawn(face, view), torch.zeros(SIZE, SIZE)
        picture = painter.paint(raster, view, frame, own)
        assert picture.shape == frame.shape
        assert torch.equal(picture[:, :8], frame[:, :8])
    assert torch.equal(picture, frame)


def test_reach_is_every_voxel_that_is_touched():
    def ball(x, size, opacity=1.0):
        scales, turn = torch.tensor([[size, 1e-4, 1e-4]]), torch.tensor([[1.0, 0, 0, 0]])
        return Placed(torch.tensor([[x, 0.0, 0.0]]), turn, scales, torch.tensor([opacity]), torch.zeros(1, 1, 3))

    points = reach_of([ball(0.001, 1e-4), ball(0.055, 0.0165), ball(0.1, 0.01, opacity=0.01), ball(9.0, 1e-3)], 0.01)
    assert {round(float(x), 3) for x in points[:, 0]} == {0.005, 0.015, 0.055, 0.095}
    assert (points[:, 1:].abs() <= 0.006).all()
    assert reach_of([], 0.01).shape == (0, 3)


def test_the_farthest_expressions_are_asked_first():
    motions = torch.zeros(50, 3)
    motions[7, 0], motions[9, 1], motions[30, 2], motions[31] = 3, -2, 1, 1
    chosen = extremes(motions, 4)
    assert {7, 9, 30}.issubset(chosen) or {7, 9, 31}.issubset(chosen)
    assert {0, 16, 32, 49}.issubset(chosen)
    assert chosen == sorted(set(chosen))
    assert extremes(motions[:2], 9) == [0, 1]


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, 0), (-1, 3), (3, -2), (9, 9)])
def test_a_shifted_mask_loses_what_leaves_it(down, right):
    mask = torch.zeros(6, 7, dtype=torch.bool)
    mask[1:4, 2:6] = True
    expected = torch.zeros_like(mask)
    for row, column in torch.nonzero(mask).tolist():
        if 0 <= row + down < 6 and 0 <= column + right < 7:
            expected[row + down, column + right] = True
    assert torch.equal(shifted(mask, down, right), expected)


# ----------------------------------------------------------------------------------------------------------- losses


def square(foreign):
    """A frame with a face in its upper half, one that was drawn in the left half, both beside what is painted over."""
    share, own, alpha = torch.zeros(12, 12), torch.zeros(12, 12, dtype=torch.bool), torch.zeros(12, 12)
    share[1:11, 1:11], own[:5], alpha[:, :5] = 1.0, True, 1.0
    share[10, 1:11], alpha[:, 5] = 0.5, 0.25
    painted = torch.full((12, 12, 3), 0.4, requires_grad=True)
    view = View(slice(0, 12), slice(0, 12), share > 0, share, torch.zeros(12, 12, 3), alpha)
    terms = inpainting_losses(painted, torch.zeros(12, 12, 3), view, own, foreign, {"image": 1.0})
    terms["image"].backward()
    return terms["image"].item(), painted.grad.abs().sum(-1)


@pytest.mark.parametrize(("foreign", "top", "left"), [(False, 1, 5), (True, 6, 6)])
def test_it_learns_where_what_it_paints_is_taken_and_the_frame_tells_the_truth(foreign, top, left):
    value, gradient = square(foreign)
    assert value == pytest.approx(0.4)
    assert (gradient[top:11, left:11] > 0).all()
    assert gradient.sum() == pytest.approx(gradient[top:11, left:11].sum().item())
    assert gradient[10, 8] == pytest.approx(0.5 * gradient[8, 8].item())  # where the frame shines through
    if not foreign:
        assert gradient[8, 5] == pytest.approx(0.75 * gradient[8, 8].item())  # behind the drawn face's edge


def test_a_few_steps_teach_what_is_behind_a_face(face, painter):
    """Around the face is a shadow, of which the frame shows nothing where the face is taken to have been lower."""
    torch.manual_seed(0)
    taught = Painter(InpaintingGenerator(SMALL), painter.reach)
    optimizer = torch.optim.Adam(taught.network.parameters(), lr=1e-2)
    phase, light, dark = InpaintingPhase(), torch.tensor([0.2, 0.6, 0.9]), torch.tensor([0.1, 0.2, 0.4])

    def seen(right, amount):
        view = camera(right=right)
        raster = drawn(face, view, jaw_open=amount)
        room = torch.where(grow(raster.alpha > 0.5, 8)[..., None], dark, light)
        lower = torch.maximum(raster.alpha, shifted(raster.alpha, 8, 0))
        return view, raster, raster.image + (1 - raster.alpha[..., None]) * room, lower

    def wrong():
        view, raster, frame, lower = seen(0.005, 0.3)
        bare = (taught.share(raster, view, lower) > 0) & (raster.alpha < FAINT)
        assert bare.sum() > 50
        return float((taught.paint(raster, view, frame, lower) - frame)[bare].abs().mean())

    before = wrong()
    for step in range(80):
        view, raster, frame, lower = seen(0.01 * (step % 5 - 2), step % 3 / 2)
        part = taught.view(raster, view, lower)
        args = (frame[part.rows, part.columns], part, lower[part.rows, part.columns] > 0.5)
        total = sum(inpainting_losses(taught.fill(part, args[0]), *args, False, weights_at(phase, 1)).values())
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert wrong() < 0.5 * before


def test_specks_go_and_edges_stay():
    edge = torch.zeros(20, 24, 3)
    edge[:, 12:] = 0.8
    specked = edge.clone()
    specked[3:5, 4:6], specked[10, 11], specked[16, 0] = 1.0, torch.tensor([0.0, 0.9, 0.0]), 0.5
    everywhere, above = torch.ones(20, 24, dtype=torch.bool), torch.arange(20)[:, None].expand(20, 24) < 8
    assert torch.equal(without_specks(specked, 2, everywhere), edge)
    assert torch.equal(without_specks(specked, 0, everywhere), specked)
    assert torch.equal(without_specks(specked, 2, above), torch.where(above[..., None], edge, specked))


def test_where_nothing_is_drawn_only_the_uncovered_face_is_painted(painter):
    empty = Raster(torch.zeros(SIZE, SIZE, 3), torch.zeros(SIZE, SIZE), *[torch.zeros(0)] * (len(Raster._fields) - 2))
    frame, view = scene(), camera()
    own = torch.zeros(SIZE, SIZE)
    assert torch.equal(painter.paint(empty, view, frame, own), frame)
    own[SIZE // 2 - 4 : SIZE // 2 + 4, SIZE // 2 - 4 : SIZE // 2 + 4] = 1
    changed = (painter.paint(empty, view, frame, own) != frame).any(-1)
    assert changed[own > 0].all()
    assert not changed[~grow(own > 0, painter.network.config.margin_px)].any()
