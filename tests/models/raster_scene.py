"""Scenes for the rasteriser's tests: random Gaussians, a camera, one Gaussian on its own."""

import torch

from models.gaussians.rasterize import rasterize

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
