"""What a viewer reads from a .ply of ours is what the project draws."""

import numpy as np
import pytest
import torch

from models.gaussians.camera import Camera
from models.gaussians.field import GaussianField, inverse_softplus
from models.gaussians.ply import ply_bytes
from models.gaussians.rasterize import rasterize
from models.gaussians.spherical_harmonics import evaluate_sh
from models.methods.talking_gaussian import draw

HALF_TURN = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))


def make_field(degree: int, seed: int = 0, count: int = 80) -> GaussianField:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return GaussianField(
        means=normal(count, 3) * 0.04,
        quats=normal(count, 4),
        raw_scales=inverse_softplus(0.004 * torch.exp(0.7 * normal(count, 3))),
        raw_opacities=normal(count),
        colors=normal(count, 1, 3),
        harmonics=0.4 * normal(count, (degree + 1) ** 2 - 1, 3),
    )


def make_camera(tilt: float = 0.3) -> Camera:
    cos, sin = np.cos(tilt), np.sin(tilt)
    view = torch.tensor([[cos, 0, sin, 0.01], [0, -1, 0, 0], [sin, 0, -cos, 0.6], [0, 0, 0, 1]], dtype=torch.float32)
    return Camera(view, torch.tensor([[120.0, 0, 24], [0, 120.0, 20], [0, 0, 1]]), 48, 40)


def read(data: bytes) -> tuple[list[str], dict[str, np.ndarray]]:
    """Read a binary .ply of floats, knowing no more than the format."""
    header, body = data.split(b"end_header\n", 1)
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(next(line for line in lines if line.startswith("element vertex ")).split()[2])
    names = [line.split()[2] for line in lines if line.startswith("property float ")]
    table = np.frombuffer(body, "<f4").reshape(count, len(names))
    return lines, {name: table[:, place] for place, name in enumerate(names)}


def draw_as_a_viewer(values: dict[str, np.ndarray], camera: Camera) -> torch.Tensor:
    """Draw as the paper's renderer reads such a file; the camera is given in the file's axes."""

    def columns(*names: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([values[name] for name in names], 1))

    rest = columns(*(f"f_rest_{k}" for k in range(45))).view(-1, 3, 15).transpose(1, 2)
    harmonics = torch.cat([columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None], rest], 1).contiguous()
    means = columns("x", "y", "z")
    return rasterize(
        means,
        columns("rot_0", "rot_1", "rot_2", "rot_3"),
        columns("scale_0", "scale_1", "scale_2").exp(),
        torch.from_numpy(values["opacity"].copy()).sigmoid(),
        evaluate_sh(means, camera.center, harmonics),
        *camera,
    ).image


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_viewer_draws_what_we_draw(degree: int) -> None:
    field, camera = make_field(degree), make_camera()
    _, values = read(ply_bytes([field]))
    seen = Camera(camera.world_to_camera @ HALF_TURN, *camera[1:])
    with torch.no_grad():
        ours, theirs = draw(field, camera).image, draw_as_a_viewer(values, seen)
    assert ours.std() > 0.05
    torch.testing.assert_close(theirs, ours, atol=2e-5, rtol=0)
    assert all(np.isfinite(column).all() for column in values.values())
    np.testing.assert_allclose(np.sum([values[f"rot_{k}"] ** 2 for k in range(4)], 0), 1, atol=1e-5)


def test_the_face_looks_at_who_looks_along_z_with_y_down() -> None:
    field = make_field(1, count=5)
    with torch.no_grad():
        field.means[0] = torch.tensor([0.01, 0.02, 0.09])  # left of the nose, above it, in front
    _, values = read(ply_bytes([field]))
    assert [values[axis][0] for axis in "xyz"] == pytest.approx([0.01, -0.02, -0.09])


def test_fields_follow_one_another_and_comments_stay_in_the_header() -> None:
    fields = make_field(1, 0, 7), make_field(2, 1, 5)
    lines, values = read(ply_bytes(fields, ["by Zoë", "two\nelement vertex 9"]))
    assert len(values["x"]) == 12
    assert "comment by Zo\\xeb" in lines
    assert "comment two element vertex 9" in lines
    _, alone = read(ply_bytes(fields[1:]))
    for name, column in alone.items():
        np.testing.assert_array_equal(values[name][7:], column)


def test_a_tiny_gaussian_has_a_finite_logarithm_and_a_broken_one_is_refused() -> None:
    field = make_field(1)
    with torch.no_grad():
        field.raw_scales[0] = -200.0
    assert read(ply_bytes([field]))[1]["scale_1"][0] == -200
    with torch.no_grad():
        field.means[3, 1] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        ply_bytes([field])
