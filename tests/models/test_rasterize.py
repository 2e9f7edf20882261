"""The rasteriser: known pictures, the CPU kernels against the float64 reference, and what must never break."""

import subprocess
import sys
from types import SimpleNamespace

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.gaussians.rasterize import choose_backend, cpu, rasterize, reference
from models.gaussians.rasterize.constants import ALPHA_MAX, ALPHA_MIN, BLUR

WIDTH, HEIGHT = 44, 37  # neither is a multiple of a tile
NAMES = ("means", "quats", "scales", "opacities", "features")


def make_scene(seed, count=150, channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    scene = {
        "means": (uniform(count, 3) - 0.5) * torch.tensor([0.24, 0.24, 0.2], dtype=torch.float64),
        "quats": uniform(count, 4) * 2 - 1,
        "scales": 0.003 * torch.exp(3 * uniform(count, 3) - 0.7),
        "opacities": uniform(count),
        "features": uniform(count, channels),
    }
    # Both types start from the same float32 numbers.
    return {name: tensor.float().to(dtype).requires_grad_() for name, tensor in scene.items()}


def make_camera(dtype=torch.float32, yaw=0.2, distance=0.6):
    angle = torch.tensor(yaw)
    cos, sin = angle.cos(), angle.sin()
    view = torch.eye(4)
    view[0, 0], view[0, 2], view[2, 0], view[2, 2] = cos, sin, -sin, cos
    view[1, 3], view[2, 3] = 0.01, distance
    intrinsics = torch.tensor([[110.0, 0, WIDTH / 2 + 1.3], [0, 105.0, HEIGHT / 2 - 0.8], [0, 0, 1]])
    return view.to(dtype), intrinsics.to(dtype)


def draw(scene, backend, dtype=torch.float32, cameras=None, background=None, size=(WIDTH, HEIGHT)):
    view, intrinsics = cameras or make_camera(dtype)
    return rasterize(*scene.values(), view, intrinsics, *size, background, backend)


def draw_with_gradients(seed, backend, dtype, channels=3, count=150):
    scene = make_scene(seed, count, channels, dtype)
    generator = torch.Generator().manual_seed(seed + 1)
    background = torch.rand(channels, generator=generator).to(dtype)
    raster = draw(scene, backend, dtype, background=background)
    image_weight = torch.randn(raster.image.shape, generator=generator).to(dtype)
    alpha_weight = torch.randn(raster.alpha.shape, generator=generator).to(dtype)
    ((raster.image * image_weight).sum() + (raster.alpha * alpha_weight).sum()).backward()
    gradients = {name: tensor.grad for name, tensor in scene.items()} | {"means2d": raster.means2d.grad}
    return raster, gradients


def relative_error(value, truth):
    return ((value - truth).norm() / truth.norm()).item()


def one_gaussian(dtype, **changes):
    scene = {
        "means": torch.tensor([[0.02, -0.01, 0.1]]),
        "quats": torch.tensor([[2.0, 0, 0, 0]]),
        "scales": torch.tensor([[0.01, 0.01, 0.01]]),
        "opacities": torch.tensor([0.8]),
        "features": torch.tensor([[0.9, 0.5, 0.1]]),
    } | changes
    return {name: tensor.to(dtype) for name, tensor in scene.items()}


# ---- what a picture must show


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


# ---- the CPU kernels against the specification


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


# ---- batches, channels, threads


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


# ---- awkward input

ODDITIES = {
    "behind": {"means": [0.0, 0.0, -3.0]},
    "at the camera": {"means": [0.0, 0.0, -0.6]},
    "off screen": {"means": [5.0, -4.0, 0.0]},
    "far": {"means": [0.0, 0.0, 1e6]},
    "transparent": {"opacities": 0.0},
    "no scale": {"scales": [0.0, 0.0, 0.0]},
    "needle": {"scales": [0.5, 1e-7, 1e-7]},
    "huge": {"scales": [1e12, 1e12, 1.0]},
    "no rotation": {"quats": [0.0, 0.0, 0.0, 0.0]},
    "tiny quaternion": {"quats": [1e-15, 0.0, 1e-15, 0.0]},
    "not a number": {"means": [float("nan"), 0.0, 0.0]},
    "infinite": {"means": [0.0, float("inf"), 0.0]},
    "infinite opacity": {"opacities": float("inf")},
    "infinite scale": {"scales": [float("inf"), 0.01, 0.01]},
    "opacity not a number": {"opacities": float("nan")},
}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    oddities=st.lists(st.sampled_from(sorted(ODDITIES)), min_size=1, max_size=6),
    opaque=st.booleans(),
)
def test_awkward_gaussians_leave_everything_finite(seed, oddities, opaque):
    for backend in ("cpu", "reference"):
        scene = make_scene(seed, 12)
        with torch.no_grad():
            if opaque:
                scene["opacities"].fill_(1.0)
            for row, oddity in enumerate(oddities):
                for name, value in ODDITIES[oddity].items():
                    scene[name][row] = torch.tensor(value)
        raster = draw(scene, backend, cameras=make_camera(yaw=0.0))
        (raster.image.sum() + raster.alpha.sum()).backward()
        for part in (raster.image, raster.alpha, raster.depth, raster.means2d, raster.means2d.grad):
            assert part.isfinite().all(), backend
        for name, tensor in scene.items():
            assert tensor.grad.isfinite().all(), (backend, name)
        assert (raster.alpha >= 0).all()
        assert (raster.alpha <= 1).all()
        hidden = raster.radii == 0
        assert not any(tensor.grad[hidden].any() for tensor in scene.values())


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


def test_the_scene_must_not_change_before_the_backward():
    scene = make_scene(0, 20)
    raster = draw(scene, "cpu")
    with torch.no_grad():
        scene["means"].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        raster.image.sum().backward()


def test_without_gradients_nothing_is_recorded():
    with torch.no_grad():
        raster = draw(make_scene(0, 20), "cpu")
    assert not raster.image.requires_grad
    assert not raster.means2d.requires_grad


# ---- choice of backend, bad input


def test_auto_takes_the_kernels_for_float32_on_the_cpu():
    assert choose_backend(torch.zeros(1, 3)) == "cpu"
    assert choose_backend(torch.zeros(1, 3, dtype=torch.float64)) == "reference"
    assert choose_backend(torch.zeros(1, 3), "reference") == "reference"
    assert choose_backend(SimpleNamespace(dtype=torch.float32, device=torch.device("cuda"))) == "gsplat"


def test_backends_refuse_what_they_cannot_take():
    with pytest.raises(ValueError, match="float32"):
        choose_backend(torch.zeros(1, 3, dtype=torch.float64), "cpu")
    with pytest.raises(ValueError, match="on cuda"):
        choose_backend(torch.zeros(1, 3), "gsplat")
    with pytest.raises(ValueError, match="unknown"):
        choose_backend(torch.zeros(1, 3), "opengl")


@pytest.mark.parametrize(
    ("name", "shape"), [("quats", (20, 3)), ("opacities", (20, 1)), ("features", (19, 3)), ("scales", (3,))]
)
def test_a_wrong_shape_is_named(name, shape):
    scene = make_scene(0, 20) | {name: torch.zeros(shape)}
    with pytest.raises(ValueError, match=name):
        draw(scene, "auto")


def test_a_wrong_camera_or_background_is_named():
    scene = make_scene(0, 20)
    view, intrinsics = make_camera()
    with pytest.raises(ValueError, match="intrinsics"):
        draw(scene, "auto", cameras=(view[None], intrinsics))
    with pytest.raises(ValueError, match="background"):
        draw(scene, "auto", background=torch.zeros(4))
    with pytest.raises(ValueError, match="0 x 5"):
        draw(scene, "auto", size=(0, 5))


# ---- the gsplat adapter, with the reference standing in for gsplat's kernels


def fake_rasterization(means, quats, scales, opacities, colors, viewmats, Ks, width, height, **options):
    assert options["packed"] is False
    assert options["render_mode"] == "RGB+D"
    means2d = torch.zeros(len(viewmats), len(means), 2, requires_grad=True) + 0
    rasters = [
        reference._rasterize_one(
            means, quats, scales, opacities, colors, view, camera, width, height, options["backgrounds"][0], centers
        )
        for view, camera, centers in zip(viewmats, Ks, means2d, strict=True)
    ]
    image, alpha, depth, radii, _ = (torch.stack(parts) for parts in zip(*rasters, strict=True))
    meta = {"means2d": means2d, "radii": radii[..., None].expand(-1, -1, 2)}
    return torch.cat((image, depth[..., None]), -1), alpha[..., None], meta


@pytest.mark.parametrize("batched", [False, True])
def test_gsplat_adapter_speaks_our_signature(monkeypatch, batched):
    from models.gaussians.rasterize import gsplat as adapter

    monkeypatch.setitem(sys.modules, "gsplat", SimpleNamespace(__version__="1.5.3", rasterization=fake_rasterization))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    view, intrinsics = make_camera()
    if batched:
        view, intrinsics = torch.stack((view, view)), torch.stack((intrinsics, intrinsics))
    rasters = []
    for rasterizer in (adapter, reference):
        scene = make_scene(2, 30, channels=4)
        raster = rasterizer.rasterize(*scene.values(), view, intrinsics, WIDTH, HEIGHT, torch.full((4,), 0.3))
        (raster.image.square().sum() + raster.alpha.sum()).backward()
        rasters.append(raster)
    for name in ("image", "alpha", "depth", "radii"):
        assert torch.equal(getattr(rasters[0], name), getattr(rasters[1], name)), name
    assert rasters[0].means2d.grad.any()
    torch.testing.assert_close(rasters[0].means2d.grad, rasters[1].means2d.grad)


def test_gsplat_says_what_is_missing(monkeypatch):
    from models.gaussians.rasterize import gsplat as adapter

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="CUDA device"):
        adapter._gsplat()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(RuntimeError, match="needs the package gsplat"):
        adapter._gsplat()
    monkeypatch.setitem(sys.modules, "gsplat", SimpleNamespace(__version__="0.1.11"))
    with pytest.raises(RuntimeError, match=r"gsplat 0\.1\.11"):
        adapter._gsplat()


def test_importing_the_package_does_not_import_numba():
    packages = "models.gaussians.rasterize, models.gaussians.spherical_harmonics, models.ssim, models.encoders.hashgrid"
    code = f"import sys, {packages}; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
