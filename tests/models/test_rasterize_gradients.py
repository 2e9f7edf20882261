"""The rasteriser's gradients: the CPU kernels against the float64 reference, and that against finite differences."""

import numba
import pytest
import torch
from raster_scene import HEIGHT, NAMES, WIDTH, draw, draw_with_gradients, make_camera, make_scene, relative_error

from models.gaussians.rasterize import cpu
from models.gaussians.rasterize.constants import ALPHA_MAX


@pytest.mark.parametrize(("seed", "channels"), [(0, 3), (1, 1), (2, 5), (3, 2), (4, 3)])
def test_cpu_equals_reference(seed, channels):
    raster, gradients = draw_with_gradients(seed, "cpu", torch.float32, channels)
    truth, true_gradients = draw_with_gradients(seed, "reference", torch.float64, channels)
    assert 0.3 < truth.alpha.mean() < 0.99
    assert raster.image.shape == (HEIGHT, WIDTH, channels)
    torch.testing.assert_close(raster.image.double(), truth.image, atol=1e-5, rtol=0)
    torch.testing.assert_close(raster.alpha.double(), truth.alpha, atol=1e-5, rtol=0)
    torch.testing.assert_close(raster.depth.double(), truth.depth, atol=1e-5, rtol=0)
    assert torch.equal(raster.radii, truth.radii)
    drawn = truth.radii > 0
    torch.testing.assert_close(raster.means2d[drawn].double(), truth.means2d[drawn], atol=1e-3, rtol=0)
    for name, gradient in gradients.items():
        assert relative_error(gradient, true_gradients[name]) < 1e-4, name
        # A gradient wrongly zero can hide in a norm.
        assert torch.equal(gradient.flatten(1).any(1) if gradient.ndim > 1 else gradient != 0,
                           true_gradients[name].flatten(1).any(1) if gradient.ndim > 1
                           else true_gradients[name] != 0), name  # fmt: skip


def test_cpu_equals_reference_outside_the_frustum_margin():
    """Wide Gaussians whose centres lie beyond the border, where the Jacobian's tangents are clamped."""
    rasters, scenes = [], []
    for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
        scene = make_scene(7, 30, dtype=dtype)
        with torch.no_grad():
            scene["means"][:, 0] += torch.where(torch.arange(30) % 2 == 0, 0.25, -0.25)
            scene["scales"].mul_(5)
        raster = draw(scene, backend, dtype)
        (raster.image * torch.linspace(0, 1, WIDTH, dtype=dtype)[:, None]).sum().backward()
        rasters.append(raster)
        scenes.append(scene)
    view, intrinsics = make_camera()
    points = scenes[0]["means"].detach() @ view[:3, :3].T + view[:3, 3]
    assert ((points[:, 0] / points[:, 2] * 110).abs() > 0.65 * WIDTH).sum() > 5
    torch.testing.assert_close(rasters[0].image.double(), rasters[1].image, atol=1e-5, rtol=0)
    for name in NAMES:
        assert relative_error(scenes[0][name].grad, scenes[1][name].grad) < 1e-4, name


def test_opaque_stacks_end_at_the_same_gaussian():
    """Alpha is capped and pixels stop: gradients of what is capped or hidden are zero in both."""
    results = []
    for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
        scene = make_scene(11, 60, dtype=dtype)
        with torch.no_grad():
            scene["opacities"].fill_(1.0)
            scene["scales"].mul_(4)
        raster = draw(scene, backend, dtype)
        raster.image.square().sum().backward()
        results.append((raster, scene))
    (raster, scene), (truth, true_scene) = results
    assert truth.alpha.max() > ALPHA_MAX
    torch.testing.assert_close(raster.image.double(), truth.image, atol=1e-5, rtol=0)
    for name in NAMES:
        assert relative_error(scene[name].grad, true_scene[name].grad) < 1e-3, name


def test_reference_passes_gradcheck():
    scene = make_scene(5, 4, dtype=torch.float64)
    with torch.no_grad():
        scene["scales"].add_(0.01)
        scene["opacities"].mul_(0.5).add_(0.3)
    camera = make_camera(torch.float64)

    def pictures(*tensors):
        raster = draw(dict(zip(NAMES, tensors, strict=True)), "reference", torch.float64, camera, size=(12, 9))
        return raster.image, raster.alpha, raster.depth

    # The scene is aimed at the corner drawn.
    camera[1][0, 2], camera[1][1, 2] = 6.0, 4.5
    assert torch.autograd.gradcheck(pictures, tuple(scene.values()), eps=1e-6, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize(("backend", "dtype"), [("reference", torch.float64), ("cpu", torch.float32)])
def test_means2d_gradient_is_that_of_moving_the_picture(backend, dtype):
    """Moving the principal point by a pixel moves all projected centres by one and nothing else."""
    scene = make_scene(9, 40, dtype=dtype)
    view, intrinsics = make_camera(torch.float64)
    weight = torch.rand(HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(raster):
        return (raster.image * weight.to(raster.image.dtype)).sum()

    raster = draw(scene, backend, dtype, (view.to(dtype), intrinsics.to(dtype)))
    loss(raster).backward()
    exact = {name: tensor.detach().double() for name, tensor in scene.items()}
    for axis in range(2):
        values = []
        for step in (1e-6, -1e-6):
            moved = intrinsics.clone()
            moved[axis, 2] += step
            values.append(loss(draw(exact, "reference", torch.float64, (view, moved))).item())
        slope = (values[0] - values[1]) / 2e-6
        assert raster.means2d.grad[:, axis].sum().item() == pytest.approx(slope, rel=1e-3)


def test_bits_do_not_depend_on_the_number_of_threads(monkeypatch):
    results = []
    before = numba.get_num_threads()
    try:
        for threads in (1, 2, 5):
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
            # The tiles are dealt to this many workers, however many threads there are to run them.
            monkeypatch.setattr(cpu, "get_num_threads", lambda threads=threads: threads)
            results.append(draw_with_gradients(8, "cpu", torch.float32, channels=4, count=400))
    finally:
        numba.set_num_threads(before)
    raster, gradients = results[0]
    for other, other_gradients in results[1:]:
        for part, expected in zip(other, raster, strict=True):
            assert torch.equal(part, expected)
        for name, gradient in gradients.items():
            assert torch.equal(other_gradients[name], gradient), name
