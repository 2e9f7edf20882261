"""On a CUDA device: gsplat and tiny-cuda-nn against the float64 reference. Run with `pytest -m gpu`."""

import pytest
import torch
from raster_scene import HEIGHT, WIDTH, draw, draw_with_gradients, make_camera, make_scene, relative_error

from models.encoders.hashgrid import HashGrid, encode
from models.gaussians.rasterize import choose_backend, rasterize

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


def on_cuda(scene):
    return {name: tensor.detach().cuda().requires_grad_() for name, tensor in scene.items()}


@pytest.mark.parametrize("channels", [1, 3, 5, 40])
def test_gsplat_equals_reference(channels):
    pytest.importorskip("gsplat")
    truth, true_gradients = draw_with_gradients(2, "reference", torch.float64, channels)
    scene = on_cuda(make_scene(2, channels=channels))
    generator = torch.Generator().manual_seed(3)  # the weights that draw_with_gradients draws
    background = torch.rand(channels, generator=generator).cuda()
    view, intrinsics = (part.cuda() for part in make_camera())
    raster = rasterize(*scene.values(), view, intrinsics, WIDTH, HEIGHT, background, "gsplat")
    weights = [torch.randn(part.shape, generator=generator).cuda() for part in (raster.image, raster.alpha)]
    ((raster.image * weights[0]).sum() + (raster.alpha * weights[1]).sum()).backward()
    torch.testing.assert_close(raster.image.double().cpu(), truth.image, atol=1e-4, rtol=0)
    torch.testing.assert_close(raster.alpha.double().cpu(), truth.alpha, atol=1e-4, rtol=0)
    torch.testing.assert_close(raster.depth.double().cpu(), truth.depth, atol=1e-4, rtol=0)
    gradients = {name: tensor.grad for name, tensor in scene.items()} | {"means2d": raster.means2d.grad}
    for name, gradient in gradients.items():
        assert relative_error(gradient.double().cpu(), true_gradients[name]) < 1e-3, name


def test_gsplat_draws_a_batch_and_leaves_out_what_is_not_finite():
    pytest.importorskip("gsplat")
    cameras = [make_camera(yaw=yaw) for yaw in (0.0, 0.4)]
    scene = make_scene(3, 60)
    with torch.no_grad():
        scene["means"][0, 1], scene["scales"][1, 2] = float("nan"), float("inf")
        scene["opacities"][2], scene["means"][3, 2] = 0.0, -3.0
    ours = on_cuda(scene)
    views, intrinsics = (torch.stack(part).cuda() for part in zip(*cameras, strict=True))
    batch = rasterize(*ours.values(), views, intrinsics, WIDTH, HEIGHT, None, "gsplat")
    batch.image.square().sum().backward()
    for index, camera in enumerate(cameras):
        truth = draw(scene, "reference", cameras=camera)
        torch.testing.assert_close(batch.image[index].cpu(), truth.image, atol=1e-4, rtol=0)
    assert not batch.radii[:, :4].any()
    assert batch.means2d.grad.isfinite().all()
    for name, tensor in ours.items():
        assert tensor.grad.isfinite().all(), name
        assert not tensor.grad[:4].any(), name


def test_auto_takes_gsplat_on_cuda():
    assert choose_backend(torch.zeros(1, 3, device="cuda")) == "gsplat"


@pytest.mark.parametrize("features", [1, 2])
@pytest.mark.parametrize("log2_table_size", [10, 17])
def test_tcnn_equals_reference(features, log2_table_size):
    pytest.importorskip("tinycudann")
    grid = HashGrid(6, features, 16, 128, log2_table_size, convention="tcnn")
    generator = torch.Generator().manual_seed(0)
    start = (
        (torch.rand(1000, 3, generator=generator) * 2.4 - 1.2) * grid.bound,
        torch.randn(grid.table_shape, generator=generator),
    )
    results = []
    for backend, tensors in (
        ("tcnn", [part.cuda() for part in start]),
        ("reference", [part.double() for part in start]),
    ):
        points, table = (part.requires_grad_() for part in tensors)
        encoded = encode(points, table, grid, backend)
        (encoded * torch.linspace(-1, 1, encoded.shape[1]).to(encoded)).sum().backward()
        results.append([part.double().cpu() for part in (encoded.detach(), points.grad, table.grad)])
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-3, rtol=0)
    for value, truth in zip(results[0][1:], results[1][1:], strict=True):
        assert relative_error(value, truth) < 1e-3
