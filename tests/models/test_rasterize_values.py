"""What the rasteriser's pictures must show, and the CPU kernels' pictures against the float64 reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from raster_scene import HEIGHT, WIDTH, draw, make_camera, make_scene, one_gaussian

from models.gaussians.rasterize.constants import ALPHA_MIN, BLUR


@pytest.mark.parametrize(("backend", "dtype"), [("reference", torch.float64), ("cpu", torch.float32)])
def test_one_round_gaussian_is_the_formula(backend, dtype):
    focal, depth, sigma = 200.0, 0.5, 0.01
    view = torch.eye(4, dtype=dtype)
    view[2, 3] = depth - 0.1
    intrinsics = torch.tensor([[focal, 0, 20.0], [0, focal, 15.0], [0, 0, 1]], dtype=dtype)
    raster = draw(one_gaussian(dtype), backend, dtype, (view, intrinsics), torch.ones(3, dtype=dtype))
    center = torch.tensor([20 + focal * 0.02 / depth, 15 - focal * 0.01 / depth], dtype=torch.float64)
    torch.testing.assert_close(raster.means2d[0].double(), center, atol=1e-4, rtol=0)

    # EWA splatting by hand: off the axis a ball's image is slightly stretched, J J^T sigma^2.
    tangent = torch.tensor([0.04, -0.02], dtype=torch.float64)
    jacobian = focal / depth * torch.cat((torch.eye(2, dtype=torch.float64), -tangent[:, None]), 1)
    covariance = jacobian @ jacobian.T * sigma**2 + BLUR * torch.eye(2, dtype=torch.float64)
    ys, xs = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    offset = torch.stack((xs, ys), -1).double() - center
    alpha = 0.8 * torch.exp(-0.5 * (offset @ covariance.inverse() * offset).sum(-1))
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, torch.zeros_like(alpha))
    color = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    image = alpha[..., None] * color + (1 - alpha[..., None])
    torch.testing.assert_close(raster.alpha.double(), alpha, atol=2e-6, rtol=0)
    torch.testing.assert_close(raster.image.double(), image, atol=2e-6, rtol=0)
    torch.testing.assert_close(raster.depth.double(), alpha * depth, atol=2e-6, rtol=0)
    reach = (2 * torch.log(torch.tensor(0.8 * 255))).sqrt() * covariance.diagonal().max().sqrt()
    assert raster.radii.tolist() == [int(reach.ceil())]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_nearer_gaussian_hides_the_farther(backend):
    scene = one_gaussian(
        torch.float32,
        means=torch.tensor([[0, 0, 0.0], [0, 0, -0.2]]),
        quats=torch.tensor([[1.0, 0, 0, 0]] * 2),
        scales=torch.full((2, 3), 0.05),
        opacities=torch.tensor([1.0, 1.0]),
        features=torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]),
    )
    view, intrinsics = make_camera(yaw=0.0)
    pixel = draw(scene, backend, cameras=(view, intrinsics)).image[HEIGHT // 2, WIDTH // 2]
    assert pixel[1] > 0.98  # z grows away from the camera: the second is nearer
    assert pixel[0] < 0.02


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_nothing_to_draw_shows_the_background(backend):
    empty = {name: tensor[:0].detach().requires_grad_() for name, tensor in make_scene(0).items()}
    background = torch.tensor([0.2, 0.4, 0.6])
    raster = draw(empty, backend, background=background)
    assert torch.equal(raster.image, background.expand(HEIGHT, WIDTH, 3))
    assert not raster.alpha.any()
    raster.image.sum().backward()
    assert empty["means"].grad.shape == (0, 3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), width=st.integers(1, 30), height=st.integers(1, 40))
def test_any_scene_and_size_equals_the_reference(seed, width, height):
    pictures = []
    for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
        scene = make_scene(seed, 25, dtype=dtype)
        pictures.append(draw(scene, backend, dtype, size=(width, height)).image.detach().double())
    difference = (pictures[0] - pictures[1]).abs()
    # A pixel may sit on the edge of the alpha threshold, where rounding decides.
    assert (difference > 1e-5).float().mean() <= max(1 / (width * height), 0.002)
    assert difference.max() < 2 * ALPHA_MIN


def test_a_large_scene_differs_only_where_a_threshold_flips():
    """Among millions of pairs some alpha or transmittance sits on its limit, where rounding decides."""
    pictures = []
    for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
        scene = make_scene(21, 6000, dtype=dtype)
        with torch.no_grad():
            scene["scales"].mul_(0.4)
        view, intrinsics = make_camera(dtype)
        intrinsics[:2] *= 3
        size = (3 * WIDTH, 3 * HEIGHT)
        pictures.append(draw(scene, backend, dtype, (view, intrinsics), size=size).image.detach().double())
    difference = (pictures[0] - pictures[1]).abs()
    assert difference.max() <= ALPHA_MIN
    assert difference.mean() <= 1e-6
    assert (difference > 1e-5).float().mean() < 1e-3


@pytest.mark.parametrize(("backend", "dtype"), [("reference", torch.float64), ("cpu", torch.float32)])
def test_a_batch_of_cameras_is_a_loop(backend, dtype):
    cameras = [make_camera(dtype, yaw, distance) for yaw, distance in ((0.0, 0.6), (-0.4, 0.5), (0.5, 0.9))]
    views, intrinsics = (torch.stack(part) for part in zip(*cameras, strict=True))
    scene = make_scene(3, 60, dtype=dtype)
    batch = draw(scene, backend, dtype, (views, intrinsics))
    (batch.image.square().sum() + batch.alpha.sum()).backward()
    gradients = {name: tensor.grad.clone() for name, tensor in scene.items()}
    for tensor in scene.values():
        tensor.grad = None
    for index, camera in enumerate(cameras):
        single = draw(scene, backend, dtype, camera)
        for part, expected in zip(batch, single, strict=True):
            assert torch.equal(part[index], expected)
        (single.image.square().sum() + single.alpha.sum()).backward()
        torch.testing.assert_close(batch.means2d.grad[index], single.means2d.grad)
    for name, tensor in scene.items():
        torch.testing.assert_close(gradients[name], tensor.grad, msg=name)


def test_channels_do_not_know_of_each_other():
    scene = make_scene(6, channels=7)
    together = draw(scene, "cpu").image
    for channel in range(7):
        alone = draw(scene | {"features": scene["features"][:, channel : channel + 1]}, "cpu").image
        torch.testing.assert_close(together[..., channel : channel + 1], alone, atol=1e-6, rtol=0)
