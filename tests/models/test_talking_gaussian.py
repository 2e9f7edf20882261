"""The method's parts: what moves what, what is compared with what, and that landmarks can teach it."""

import dataclasses

import numba
import numpy as np
import pytest
import torch
from head_parts import CONFIG, camera, face_motion, field

from models.encoders import hashgrid
from models.errors import InputError
from models.gaussians.plan import Harmonics
from models.gaussians.rasterize import Raster
from models.methods import talking_gaussian, talking_gaussian_networks
from models.methods.audio_encoder import AudioEncoder, Convolution
from models.methods.talking_gaussian import (
    Branch,
    Config,
    FaceMotion,
    LandmarkBatch,
    MouthMotion,
    behind_lips,
    compose,
    draw,
    draw_maps,
    landmark_losses,
    lip_attention,
    motion_size,
    mouth_losses,
)
from models.methods.talking_gaussian_phases import MotionPhase, MouthPhase
from models.schedule import weights_at


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads that wait for each other cost more than such small work gives."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


@pytest.mark.parametrize(("size", "window"), [(80, 16), (29, 16), (1024, 2), (44, 24)])
def test_the_encoder_takes_every_extractors_windows(size, window):
    assert AudioEncoder(size)(torch.randn(3, 8, size, window)).shape == (3, 32)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("length", [1, 2, 7, 16])
def test_a_convolution_is_torchs(stride, length):
    torch.manual_seed(0)
    convolution, values = Convolution(5, 4, stride), torch.randn(3, 5, length)
    expected = torch.nn.functional.conv1d(values, convolution.weight, convolution.bias, stride, 1)
    torch.testing.assert_close(convolution(values), expected)


def test_the_encoder_mixes_its_neighbours_without_amplifying_them():
    torch.manual_seed(0)
    encoder = AudioEncoder(6)
    one = torch.randn(1, 1, 6, 16)
    same = encoder(one.expand(1, 8, 6, 16))
    torch.testing.assert_close(encoder.code(encoder.windows(one[0])[..., 0]), same)
    changed = one.repeat(1, 8, 1, 1)
    changed[0, 2] += 1
    assert not torch.allclose(encoder(changed), same)


def test_a_batch_is_its_frames():
    motion = face_motion()
    points = motion.look_up(field().means)
    audio, expression = torch.randn(3, 8, 6, 16), torch.rand(3, CONFIG.expression_size)
    together = motion(points, audio, expression)
    for index in range(3):
        alone = motion(points, audio[index : index + 1], expression[index : index + 1]).frame(0)
        for part, other in zip(together.frame(index), alone, strict=True):
            torch.testing.assert_close(part, other)
    assert together.means.shape == (3, 60, 3)
    assert together.quats.shape == (3, 60, 4)
    assert together.raw_scales.shape == (3, 60, 3)


def test_every_unit_can_move_every_region_at_first():
    # With the released start, half of all regions cannot learn to listen to a unit: a dead ReLU.
    motion = face_motion()
    points = motion.look_up(field(200).means)
    motion(points, torch.randn(1, 8, 6, 16), torch.ones(1, CONFIG.expression_size)).means.square().sum().backward()
    last = motion.expression_attention[-1].weight.grad
    assert (points.expression_attention > 0).all()
    assert (last.abs().sum(1) > 0).all()


def test_expression_is_seen_in_units_of_its_scale():
    motion = face_motion()
    points, audio = motion.look_up(field().means), torch.randn(1, 8, 6, 16)
    before = motion(points, audio, torch.full((1, CONFIG.expression_size), 0.5))
    motion.expression_scale.fill_(4.0)
    torch.testing.assert_close(motion(points, audio, torch.full((1, CONFIG.expression_size), 2.0)).means, before.means)


def test_the_inside_of_the_mouth_moves_up_and_down():
    torch.manual_seed(0)
    motion = MouthMotion(CONFIG)
    points, audio = motion.look_up(field(200).means), torch.randn(4, 8, 6, 16) * 3
    deformation = motion(points, audio)
    assert deformation.quats is None
    assert deformation.raw_scales is None
    with torch.no_grad():
        motion.decoder[-1].weight.fill_(0.1)  # the same output in all directions
        means = motion(points, audio).means
    torch.testing.assert_close(means[..., 0] * 5, means[..., 1])
    torch.testing.assert_close(means[..., 2] * 5, means[..., 1])
    assert means[..., 1].abs().max() > 0


def test_a_crop_of_a_camera_is_a_crop_of_its_picture():
    gaussians, whole = field(), camera()
    picture = draw(gaussians, whole, None, torch.tensor([0.1, 0.5, 0.2])).image
    part = draw(gaussians, whole.crop(13, 7, 20, 24), None, torch.tensor([0.1, 0.5, 0.2])).image
    torch.testing.assert_close(part, picture[7:31, 13:33], atol=1e-3, rtol=0)


def test_no_deformation_is_a_deformation_of_zero_and_appearance_does_not_change():
    gaussians, motion = field(), face_motion()
    points = motion.look_up(gaussians.means)
    deformation = motion(points, torch.randn(1, 8, 6, 16), torch.rand(1, CONFIG.expression_size)).frame(0)
    still = draw(gaussians, camera()).image
    zero = type(deformation)(*(None if part is None else torch.zeros_like(part) for part in deformation))
    torch.testing.assert_close(draw(gaussians, camera(), zero).image, still)
    shift = zero._replace(means=torch.tensor([0.0, 0.015, 0.0]).expand(60, 3))
    moved = draw(gaussians, camera(), shift).image
    # 15 mm up at 0.6 m and 200 px of focal length are five rows.
    torch.testing.assert_close(moved[:30], still[5:35], atol=8e-2, rtol=0)
    assert (moved[:30] - still[:30]).abs().max() > 0.3


def test_maps_are_drawn_without_touching_geometry():
    gaussians, motion = field(), face_motion()
    points = motion.look_up(gaussians.means)
    deformation = motion(points, torch.randn(1, 8, 6, 16), torch.rand(1, CONFIG.expression_size)).frame(0)
    draw_maps(gaussians, camera(), deformation, points.maps()).sum().backward()
    assert gaussians.means.grad is None
    assert gaussians.raw_opacities.grad is None
    assert motion.decoder[0].weight.grad is None
    assert motion.audio_attention[0].weight.grad.abs().sum() > 0


def test_attention_maps_lie_where_the_deformed_face_does():
    gaussians, motion = field(), face_motion()
    deformation = motion(
        motion.look_up(gaussians.means), torch.randn(1, 8, 6, 16), torch.rand(1, CONFIG.expression_size)
    )
    wider = deformation.frame(0)._replace(raw_scales=torch.full_like(gaussians.raw_scales, 1.0))
    maps = draw_maps(gaussians, camera(), wider, torch.ones(len(gaussians), 2))
    alpha = draw(gaussians, camera(), wider).alpha
    torch.testing.assert_close(maps, alpha[..., None].expand(-1, -1, 2))


def layer(color, alpha, size=(4, 5)):
    image = torch.tensor(color).expand(*size, 3) * alpha
    return Raster(image, torch.full(size, alpha), torch.zeros(size), torch.zeros(0), torch.zeros(0))


@pytest.mark.parametrize(
    ("face", "mouth", "expected"),
    [(1.0, 1.0, [1, 0, 0]), (0.0, 1.0, [0, 1, 0]), (0.0, 0.0, [0, 0, 1]), (0.5, 0.5, [0.5, 0.25, 0.25])],
)
def test_face_over_mouth_over_what_is_behind(face, mouth, expected):
    behind = torch.tensor([0.0, 0.0, 1.0]).expand(4, 5, 3)
    image = compose(layer([1.0, 0, 0], face), layer([0, 1.0, 0], mouth), behind)
    torch.testing.assert_close(image, torch.tensor(expected, dtype=torch.float32).expand(4, 5, 3))


def test_what_the_lips_hide_is_free_for_the_mouth_but_must_be_opaque():
    size = (20, 24)
    box, mouth = torch.zeros(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
    box[5:15, 6:18], mouth[8:12, 9:15] = True, True
    target = torch.where(mouth[..., None], torch.tensor([0.4, 0.1, 0.1]), torch.tensor([0.0, 1.0, 0.0]))
    torch.manual_seed(0)
    image, alpha = torch.rand(*size, 3), torch.rand(size)

    def terms(image, alpha):
        raster = Raster(image, alpha, alpha, torch.zeros(0), torch.zeros(0))
        on = weights_at(MouthPhase(), MouthPhase().steps)
        return mouth_losses(behind_lips(raster, target, mouth, box), target, box, on)

    hidden = torch.where((box & ~mouth)[..., None], torch.rand(*size, 3), image)
    seen = torch.where(mouth[..., None], torch.rand(*size, 3), image)
    assert terms(hidden, alpha)["image"] == terms(image, alpha)["image"]
    assert terms(seen, alpha)["image"] != terms(image, alpha)["image"]
    perfect = terms(target, box.float())
    assert all(value.item() == pytest.approx(0, abs=1e-6) for value in perfect.values())


def test_parameters_survive_storage_bit_by_bit():
    branch = Branch(field(), face_motion())
    again = Branch.from_tensors(FaceMotion, Config.from_record(CONFIG.as_record()), branch.tensors("face"), "face")
    for name, tensor in branch.gaussians.tensors().items():
        assert torch.equal(tensor, getattr(again.gaussians, name))
    for name, tensor in branch.motion.state_dict().items():
        assert torch.equal(tensor, again.motion.state_dict()[name])


@pytest.mark.parametrize("layout", ["torch_ngp", "tcnn"])
def test_a_head_looks_the_same_through_every_grid_backend(monkeypatch, layout):
    config = dataclasses.replace(CONFIG, grid_layout=layout)
    motion = FaceMotion(config, torch.Generator().manual_seed(0))
    with torch.no_grad():
        motion.planes.table.mul_(1e4)  # untrained it says next to nothing
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) * 0.2 - 0.1
    looked_up = []
    for backend in ("cpu", "reference"):
        monkeypatch.setattr(
            talking_gaussian_networks,
            "encode",
            lambda *given, backend=backend: hashgrid.encode(*given, backend=backend),
        )
        looked_up.append(motion.look_up(points).features)
    torch.testing.assert_close(*looked_up, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("layout", "other"), [("torch_ngp", "tcnn"), ("tcnn", "torch_ngp")])
def test_a_grid_in_another_layout_is_refused(layout, other):
    config = dataclasses.replace(CONFIG, grid_layout=layout)
    arrays = Branch(field(), FaceMotion(config)).tensors("face")
    Branch.from_tensors(FaceMotion, config, arrays, "face")
    with pytest.raises(InputError, match=f"laid out as {layout}, but its record says {other}"):
        Branch.from_tensors(FaceMotion, dataclasses.replace(config, grid_layout=other), arrays, "face")


def test_what_is_no_head_is_refused_by_name():
    arrays = Branch(field(), face_motion()).tensors("face")
    with pytest.raises(InputError, match="not weights of MouthMotion"):
        Branch.from_tensors(MouthMotion, CONFIG, arrays, "face")
    older = {name: array for name, array in arrays.items() if not name.endswith("articulation")}
    with pytest.raises(InputError, match="not weights of FaceMotion") as error:
        Branch.from_tensors(FaceMotion, CONFIG, older, "face")
    assert error.value.fix == "train it again: gausstalk run SPEAKER"
    with pytest.raises(InputError, match="not weights of FaceMotion"):
        Branch.from_tensors(FaceMotion, dataclasses.replace(CONFIG, audio_size=7), arrays, "face")
    with pytest.raises(InputError, match="mouth: not the Gaussians"):
        Branch.from_tensors(MouthMotion, CONFIG, arrays, "mouth")
    with pytest.raises(InputError, match="terms that are not known"):
        Config.from_record(CONFIG.as_record() | {"wings": 2})


def jaw_clip(frames=120, landmarks=24):
    """A mouth whose lower half follows one band of the sound, a blink that the sound knows nothing of."""
    random = np.random.default_rng(0)
    rest = torch.tensor(random.uniform(-0.04, 0.04, (landmarks, 3)), dtype=torch.float32)
    jaw = np.interp(np.arange(frames), np.arange(0, frames, 4), random.uniform(0, 1, len(range(0, frames, 4))))
    sound = np.zeros((frames + 7, 6, 16), np.float32)
    sound[4 : 4 + frames] = jaw[:, None, None]
    sound += random.normal(0, 0.05, sound.shape).astype(np.float32)
    moved = rest.expand(frames, -1, -1).clone()
    lower = rest[:, 1] < -0.01
    moved[:, lower, 1] -= 0.01 * torch.tensor(jaw, dtype=torch.float32)[:, None]
    return rest, torch.tensor(sound), moved, lower, jaw


def jaw_batch(frames, rest, sound, moved, lower, view):
    pose = view.world_to_camera.expand(len(frames), 4, 4)
    camera_points = moved[frames] @ view.world_to_camera[:3, :3].T + view.world_to_camera[:3, 3]
    pixels = camera_points @ view.intrinsics.T
    windows = torch.stack([sound[frame : frame + 8] for frame in frames])
    expression = torch.zeros(len(frames), CONFIG.expression_size)
    weights = torch.ones(len(frames), len(rest))
    return LandmarkBatch(
        windows, expression, pose, pixels[..., :2] / pixels[..., 2:], weights, lower.nonzero()[:, 0], lower, ~lower
    )


def test_landmarks_teach_the_field_what_sound_does():
    rest, sound, moved, lower, jaw = jaw_clip()
    motion, view, phase = face_motion(), camera(), MotionPhase()
    optimizer = torch.optim.AdamW(motion.parameters(), lr=3e-3)
    random = np.random.default_rng(1)
    for _ in range(150):
        batch = jaw_batch(random.choice(90, 8).tolist(), rest, sound, moved, lower, view)
        points = motion.look_up(rest)
        optimizer.zero_grad()
        landmark_losses(motion, points, rest, batch, view.intrinsics, phase).backward()
        optimizer.step()
    held_out = list(range(95, 120))
    batch = jaw_batch(held_out, rest, sound, moved, lower, view)
    with torch.no_grad():
        moves = motion(motion.look_up(rest), batch.audio, batch.expression).means[..., 1]
    opening = -moves[:, lower].mean(1).numpy()
    assert np.corrcoef(opening, jaw[held_out])[0, 1] > 0.9
    assert np.abs(moves[:, rest[:, 1] > 0.01].numpy()).mean() < 0.3 * opening.mean()


def test_absent_landmarks_teach_nothing():
    rest, sound, moved, lower, _ = jaw_clip()
    motion, view, phase = face_motion(), camera(), MotionPhase()
    batch = jaw_batch([3, 7], rest, sound, moved, lower, view)
    batch.weights[:, 5] = 0
    wild = batch._replace(points=batch.points.clone())
    wild.points[:, 5] += 40
    losses = [landmark_losses(motion, motion.look_up(rest), rest, b, view.intrinsics, phase) for b in (batch, wild)]
    assert losses[0] == losses[1]
    heavy = landmark_losses(
        motion, motion.look_up(rest), rest, batch, view.intrinsics, dataclasses.replace(phase, lips=8)
    )
    assert heavy > losses[0]


def test_attention_of_lips_and_size_of_motion_are_means():
    motion, (rest, sound, moved, lower, _) = face_motion(), jaw_clip()
    batch = jaw_batch([0], rest, sound, moved, lower, camera())
    points = motion.look_up(rest)
    attention = points.expression_attention[lower]
    lip_attention(points, batch).backward()
    attended = motion.expression_attention.weights[-1].grad.abs().sum(1) > 0
    names = CONFIG.told
    assert {name for name, moves in zip(names, attended, strict=True) if not moves} == {"AU06"}  # a smile is not heard
    others = attention[:, [number for number, name in enumerate(names) if name != "AU06"]]
    assert lip_attention(points, batch).item() == pytest.approx(others.mean().item())
    deformation = motion(points, batch.audio, batch.expression)
    expected = sum(part.abs().mean().item() for part in deformation if part is not None)
    assert motion_size(deformation).item() == pytest.approx(expected)


def test_colours_grow_by_degrees():
    gaussians = field()
    with torch.no_grad():
        gaussians.harmonics += 0.3
    flat = draw(gaussians, camera(), degree=0).image
    gaussians.harmonics.grad = None
    flat.sum().backward()
    assert gaussians.harmonics.grad is None or gaussians.harmonics.grad.abs().sum() == 0
    assert not torch.allclose(flat, draw(gaussians, camera(), degree=1).image)
    growing = Harmonics(every=0.02)
    assert [growing.degree(step / 50_000, 2) for step in (1, 999, 1000, 2000, 50_000)] == [0, 0, 1, 2, 2]
    assert Harmonics().degree(0.0, 2) == 2


def test_the_lips_box_is_compared_then_painted_over_for_the_patches():
    image, target, behind = torch.rand(64, 64, 3), torch.rand(64, 64, 3), torch.tensor([0.0, 1.0, 0.0])

    def squares(a, b):
        return (a - b).square().mean((1, 2, 3))

    box = (8, 8, 40, 40)

    def terms(image, **on):
        return talking_gaussian.perceptual_losses(image, target, behind, on, squares, 32, box)

    changed = image.clone()
    changed[8:40, 8:40] = torch.rand(32, 32, 3)
    both = {"lip_lpips": 0.01, "patch_lpips": 0.2}
    assert terms(image, **both)["patch_lpips"] == terms(changed, **both)["patch_lpips"]
    assert terms(image, **both)["lip_lpips"] != terms(changed, **both)["lip_lpips"]
    alone = terms(image, patch_lpips=0.2)
    assert list(alone) == ["patch_lpips"]
    assert alone["patch_lpips"] != terms(changed, patch_lpips=0.2)["patch_lpips"]
    assert terms(image) == {}
