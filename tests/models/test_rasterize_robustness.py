"""What must never break the rasteriser: odd Gaussians, none in sight, edits at the wrong time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from raster_scene import HEIGHT, WIDTH, draw, make_camera, make_scene

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


def draw_awkward(seed, count, oddities, opaque, backend, size=(WIDTH, HEIGHT)):
    """Draw a scene with odd Gaussians among its first ones, and look at everything that comes out."""
    scene = make_scene(seed, count)
    with torch.no_grad():
        if opaque:
            scene["opacities"].fill_(1.0)
        for row, oddity in enumerate(oddities[:count]):
            for name, value in ODDITIES[oddity].items():
                scene[name][row] = torch.tensor(value)
    raster = draw(scene, backend, cameras=make_camera(yaw=0.0), size=size)
    (raster.image.square().sum() + raster.alpha.sum()).backward()
    for part in (raster.image, raster.alpha, raster.depth, raster.means2d, raster.means2d.grad):
        assert part.isfinite().all()
    assert (raster.alpha >= 0).all()
    assert (raster.alpha <= 1).all()
    hidden = raster.radii == 0
    for name, tensor in scene.items():
        assert tensor.grad.isfinite().all(), name
        assert not tensor.grad[hidden].any(), name


SCENES = {
    "seed": st.integers(0, 2**16),
    "oddities": st.lists(st.sampled_from(sorted(ODDITIES)), min_size=1, max_size=6),
    "opaque": st.booleans(),
}


@settings(max_examples=1000, deadline=None)
@given(**SCENES, count=st.integers(1, 12), width=st.integers(1, 40), height=st.integers(1, 40))
def test_awkward_gaussians_leave_the_kernels_finite(seed, oddities, opaque, count, width, height):
    draw_awkward(seed, count, oddities, opaque, "cpu", (width, height))


@settings(max_examples=40, deadline=None)
@given(**SCENES)
def test_awkward_gaussians_leave_the_reference_finite(seed, oddities, opaque):
    draw_awkward(seed, 12, oddities, opaque, "reference")


@pytest.mark.parametrize("oddity", sorted(ODDITIES))
def test_every_oddity_is_drawn_or_left_out_as_by_the_reference(oddity):
    pictures = []
    for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
        scene = make_scene(0, 12, dtype=dtype)
        with torch.no_grad():
            for name, value in ODDITIES[oddity].items():
                scene[name][0] = torch.tensor(value, dtype=dtype)
        raster = draw(scene, backend, dtype, cameras=make_camera(dtype, yaw=0.0))
        pictures.append((raster.image.detach().double(), raster.radii > 0))
    assert torch.equal(pictures[0][1], pictures[1][1])
    torch.testing.assert_close(pictures[0][0], pictures[1][0], atol=1e-4, rtol=0)


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
