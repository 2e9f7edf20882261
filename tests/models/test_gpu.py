"""On a CUDA device: gsplat and tiny-cuda-nn against the float64 reference, recorded functions against called ones.

Run with `pytest -m gpu`.
"""

import pytest
import torch
from head_parts import CONFIG, face_motion, field
from raster_scene import HEIGHT, WIDTH, draw, draw_with_gradients, make_camera, make_scene, relative_error
from torch.utils._pytree import tree_leaves

from models import losses
from models.encoders.hashgrid import HashGrid, encode
from models.gaussians.rasterize import choose_backend, rasterize
from models.gaussians.spherical_harmonics import evaluate_sh
from models.methods.talking_gaussian import Branch, FaceMotion, MouthMotion
from models.replay import Replay

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


@pytest.mark.parametrize(("degree", "bands"), [(0, 1), (1, 4), (3, 16), (1, 16)])
def test_harmonics_of_gsplat_equal_reference(degree, bands):
    pytest.importorskip("gsplat")
    generator = torch.Generator().manual_seed(0)
    means, center = torch.randn(500, 3, generator=generator), torch.tensor([0.1, -0.2, 3.0])
    coefficients = torch.randn(500, bands, 3, generator=generator)
    weight = torch.rand(500, 3, generator=generator)
    results = []
    for device, dtype in (("cuda", torch.float32), ("cpu", torch.float64)):
        own = coefficients.to(device, dtype).requires_grad_()
        colors = evaluate_sh(means.to(device, dtype), center.to(device, dtype), own, degree)
        (colors * weight.to(device)).sum().backward()
        results.append([part.double().cpu() for part in (colors.detach(), own.grad)])
    for value, truth in zip(*results, strict=True):
        torch.testing.assert_close(value, truth, atol=1e-5, rtol=1e-4)


def compare_with_calls(record, module, inputs):
    """Outputs and gradients of a recorded function, three times over, against those of a called one."""
    for scale in (1.0, 0.5, 2.0):
        given = [part * scale if torch.is_tensor(part) and part.is_floating_point() else part for part in inputs]
        results = []
        for function in (record, record.function):
            parts = [part for part in tree_leaves(function(*given)) if torch.is_tensor(part)]
            sum(part.square().sum() for part in parts).backward()
            gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
            results.append([part.detach().clone() for part in (*parts, *gradients)])
            module.zero_grad(set_to_none=True)
        assert len(results[0]) == len(results[1])
        for value, truth in zip(*results, strict=True):
            torch.testing.assert_close(value, truth, atol=1e-4 * float(truth.abs().max()), rtol=1e-3)
    assert record.recordings


@pytest.mark.parametrize("kind", [FaceMotion, MouthMotion])
@pytest.mark.parametrize("count", [300, 5000])
def test_recorded_motion_equals_calls(kind, count, monkeypatch):
    monkeypatch.setenv("GAUSSTALK_REPLAY", "1")
    torch.manual_seed(0)
    motion = (face_motion() if kind is FaceMotion else MouthMotion(CONFIG)).cuda()
    branch = Branch(field(count).to("cuda"), motion)
    expression = torch.rand(1, CONFIG.expression_size).cuda() if kind is FaceMotion else None
    inputs = (branch.gaussians.means.detach(), torch.randn(1, 8, 6, 16).cuda(), expression)
    compare_with_calls(branch._move, motion, inputs)


def test_recorded_losses_equal_calls(monkeypatch):
    monkeypatch.setenv("GAUSSTALK_REPLAY", "1")
    image = torch.nn.Parameter(torch.rand(160, 192, 3).cuda())
    holder = torch.nn.ParameterList([image])
    target = torch.rand(160, 192, 3).cuda()
    record = Replay(lambda target, structure: losses._photometric.function(image, target, structure), holder)
    compare_with_calls(record, holder, (target, 0.2))


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
