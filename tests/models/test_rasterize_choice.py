"""Which rasteriser is chosen, what it refuses, and the adapter to gsplat."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from raster_scene import HEIGHT, WIDTH, draw, make_camera, make_scene

from models.errors import MachineError
from models.gaussians.rasterize import choose_backend, gsplat, reference


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


def fake_rasterization(means, quats, scales, opacities, colors, viewmats, Ks, width, height, **options):
    assert options["packed"] is False
    assert all(part.isfinite().all() for part in (means, quats, scales, opacities))
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


def install(monkeypatch, version, kernels):
    """Put a stand-in for gsplat in place, and a CUDA device."""
    package = SimpleNamespace(__version__=version, rasterization=fake_rasterization)
    monkeypatch.setitem(sys.modules, "gsplat", package)
    monkeypatch.setitem(sys.modules, "gsplat.cuda", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", SimpleNamespace(_C=object() if kernels else None))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.mark.parametrize("batched", [False, True])
def test_gsplat_adapter_speaks_our_signature(monkeypatch, batched):
    install(monkeypatch, "1.5.3", kernels=True)
    view, intrinsics = make_camera()
    if batched:
        view, intrinsics = torch.stack((view, view)), torch.stack((intrinsics, intrinsics))
    rasters = []
    for rasterizer in (gsplat, reference):
        scene = make_scene(2, 30, channels=4)
        with torch.no_grad():
            scene["means"][3, 1], scene["scales"][5, 0] = float("nan"), float("inf")
        raster = rasterizer.rasterize(*scene.values(), view, intrinsics, WIDTH, HEIGHT, torch.full((4,), 0.3))
        (raster.image.square().sum() + raster.alpha.sum()).backward()
        rasters.append(raster)
    for name in ("image", "alpha", "depth", "radii"):
        assert torch.equal(getattr(rasters[0], name), getattr(rasters[1], name)), name
    assert rasters[0].means2d.grad.any()
    assert torch.equal(rasters[0].means2d.grad.isfinite(), torch.ones_like(rasters[0].means2d, dtype=torch.bool))
    torch.testing.assert_close(rasters[0].means2d.grad, rasters[1].means2d.grad)


def test_gsplat_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MachineError, match="CUDA device"):
        gsplat.package()
    install(monkeypatch, "0.1.11", kernels=True)
    with pytest.raises(MachineError, match=r"gsplat 0\.1\.11"):
        gsplat.package()
    install(monkeypatch, "1.5.3", kernels=False)
    with pytest.raises(MachineError, match="without its CUDA kernels"):
        gsplat.package()
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(MachineError, match="gsplat is not installed"):
        gsplat.package()


def test_importing_the_package_does_not_import_numba():
    packages = "models.gaussians.rasterize, models.gaussians.spherical_harmonics, models.ssim, models.encoders.hashgrid"
    code = f"import sys, {packages}; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
