"""The tri-plane grid encoder: layout, known values, and the CPU kernels against the float64 reference."""

import sys
from types import SimpleNamespace

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.encoders.hashgrid import PLANES, HashGrid, choose_backend, encode, reference, tcnn
from models.errors import MachineError

GRIDS = {
    "face": HashGrid(finest_resolution=38.4),
    "mouth, ever coarser": HashGrid(base_resolution=64, finest_resolution=57.6),
    "fine": HashGrid(),
    "hashed": HashGrid(levels=6, log2_table_size=8),
    "hashed, three features": HashGrid(levels=5, features=3, log2_table_size=9),
    "two features": HashGrid(levels=4, features=2, finest_resolution=50),
    "one level": HashGrid(levels=1, finest_resolution=16),
    "tcnn": HashGrid(levels=5, finest_resolution=64, convention="tcnn"),
    "tcnn, hashed": HashGrid(levels=5, features=2, log2_table_size=10, convention="tcnn"),
}


def make_inputs(grid, seed=0, count=700, outside=100, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(grid.table_shape, generator=generator)
    points = (torch.rand(count, 3, generator=generator) * 2 - 1) * grid.bound
    points[:outside] *= 1.5
    return points.to(dtype).requires_grad_(), table.to(dtype).requires_grad_()


def encode_with_gradients(grid, backend, dtype, seed=0):
    points, table = make_inputs(grid, seed, dtype=dtype)
    encoded = encode(points, table, grid, backend)
    weight = torch.randn(encoded.shape, generator=torch.Generator().manual_seed(seed + 1))
    (encoded * weight).sum().backward()
    return encoded.detach(), points.grad, table.grad


# ---- layout


def test_layout_is_that_of_talking_gaussian():
    """Rows per plane and resolutions of its released settings."""
    face, mouth = GRIDS["face"], GRIDS["mouth, ever coarser"]
    assert face.table_shape == (3, 9464, 1)
    assert mouth.table_shape == (3, 46600, 1)
    assert [level.stride - 1 for level in face.layout] == [16, 18, 19, 21, 22, 24, 26, 28, 31, 33, 36, 39]
    assert [level.stride - 1 for level in mouth.layout] == [64, 64, 63, 63, 62, 62, 61, 60, 60, 59, 59, 58]
    assert HashGrid().table_shape == (3, 168056, 1)
    assert HashGrid(base_resolution=64, finest_resolution=384).table_shape == (3, 509280, 1)
    assert face.output_size == 36


def test_levels_are_hashed_exactly_where_they_exceed_the_table():
    grid = HashGrid(levels=6, base_resolution=16, finest_resolution=512, log2_table_size=12)
    for level in grid.layout:
        assert level.hashed == ((level.scale + 2) ** 2 > 4096)
        assert level.rows <= 4096
        assert level.rows % 8 == 0
    assert {level.hashed for level in grid.layout} == {False, True}


def test_conventions_differ_in_the_rows_of_dense_levels():
    ours, theirs = HashGrid(levels=2), HashGrid(levels=2, convention="tcnn")
    assert [level.rows for level in ours.layout] == [296, 66056]  # 17^2 and 257^2, up to a multiple of 8
    assert [level.rows for level in theirs.layout] == [256, 65536]
    assert [level.scale for level in theirs.layout] == pytest.approx([level.scale for level in ours.layout])


# ---- values


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("features", [1, 2])
def test_a_linear_table_is_reproduced(backend, features):
    """Bilinear interpolation is exact for rows that depend linearly on the lattice point."""
    grid = HashGrid(levels=1, features=features, base_resolution=16, finest_resolution=16)
    (level,) = grid.layout
    table = torch.zeros(grid.table_shape)
    lattice = torch.arange(level.stride**2)
    x, y = (lattice % level.stride).float(), (lattice // level.stride).float()
    for plane in range(3):
        for feature in range(features):
            table[plane, : level.stride**2, feature] = (plane + 1) * x + 10 * (feature + 1) * y
    points, _ = make_inputs(grid, outside=0)
    position = (points.detach() / (2 * grid.bound) + 0.5) * 15 + 0.5
    expected = torch.stack([
        (plane + 1) * position[:, first] + 10 * (feature + 1) * position[:, second]
        for plane, (first, second) in enumerate(PLANES) for feature in range(features)
    ], 1)  # fmt: skip
    torch.testing.assert_close(encode(points, table, grid, backend), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", GRIDS)
def test_cpu_equals_reference(name):
    grid = GRIDS[name]
    encoded, point_gradient, table_gradient = encode_with_gradients(grid, "cpu", torch.float32)
    truth, true_point_gradient, true_table_gradient = encode_with_gradients(grid, "reference", torch.float64)
    assert encoded.shape == (700, grid.output_size)
    # In float32 a position in the finest cell is known to about 1e-7 of the cells across.
    tolerance = 1e-6 * max(level.scale for level in grid.layout)
    torch.testing.assert_close(encoded.double(), truth, atol=tolerance, rtol=0)
    assert ((table_gradient - true_table_gradient).norm() / true_table_gradient.norm()).item() < 1e-4
    assert torch.equal(table_gradient != 0, true_table_gradient != 0)
    assert ((point_gradient - true_point_gradient).norm() / true_point_gradient.norm()).item() < 1e-4


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_outside_is_zero_plane_by_plane(backend):
    grid = HashGrid(levels=3)
    _, table = make_inputs(grid)
    b = grid.bound
    points = torch.tensor([[2 * b, 0, 0], [0, -1.01 * b, 0], [0, 0, float("nan")], [float("inf"), 0, 0], [0, 0, 0]])
    points.requires_grad_()
    encoded = encode(points, table, grid, backend).view(5, 3, 3)
    # Planes xy, yz, xz: which of them have any value.
    assert encoded.any(2).tolist() == [
        [False, True, False], [False, False, True], [True, False, False], [False, True, False], [True, True, True],
    ]  # fmt: skip
    encoded.sum().backward()
    assert points.grad.isfinite().all()
    assert points.grad[0, 0] == 0
    assert points.grad[0, 1] != 0
    assert table.grad.isfinite().all()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", GRIDS)
def test_the_faces_of_the_cube_are_inside(backend, name):
    grid = GRIDS[name]
    _, table = make_inputs(grid)
    # The bound just as float32 has it may round to either side; a hair within it must count.
    b = grid.bound * (1 - 1e-6)
    corners = torch.tensor([[x, y, z] for x in (-b, b) for y in (-b, b) for z in (-b, b)])
    encoded = encode(corners, table, grid, backend)
    assert encoded.any(1).all()
    assert encoded.isfinite().all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    levels=st.integers(1, 5),
    features=st.integers(1, 4),
    base=st.integers(2, 40),
    finest=st.floats(2, 300),
    log2_table_size=st.integers(3, 14),
    convention=st.sampled_from(["torch_ngp", "tcnn"]),
)
def test_any_grid_encodes_as_the_reference(seed, levels, features, base, finest, log2_table_size, convention):
    grid = HashGrid(levels, features, base, finest, log2_table_size, convention=convention)
    points, table = make_inputs(grid, seed, 40, 10)
    encoded = encode(points, table, grid, "cpu")
    truth = encode(points.double(), table.double(), grid)
    torch.testing.assert_close(encoded.double(), truth, atol=1e-3, rtol=0)
    encoded.square().sum().backward()
    assert points.grad.isfinite().all()
    assert table.grad.isfinite().all()


def test_reference_passes_gradcheck():
    for grid in (HashGrid(levels=3, features=2, finest_resolution=20), HashGrid(levels=2, log2_table_size=5)):
        points, _ = make_inputs(grid, 1, 4, 1, torch.float64)
        table = torch.randn(grid.table_shape, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda p, t, g=grid: encode(p, t, g), (points, table), fast_mode=True)


def test_a_grid_can_be_trained_after_it_was_looked_up():
    reference._levels.cache_clear()
    grid = HashGrid(levels=3, features=2, finest_resolution=20)
    points, _ = make_inputs(grid, 1, 4, 1, torch.float64)
    table = torch.randn(grid.table_shape, dtype=torch.float64, requires_grad=True)
    with torch.inference_mode():
        encode(points, table, grid)
    encode(points, table, grid).sum().backward()
    assert points.grad.abs().sum() > 0
    assert table.grad.abs().sum() > 0


def test_bits_do_not_depend_on_the_number_of_threads():
    results = []
    before = numba.get_num_threads()
    try:
        for threads in (1, numba.config.NUMBA_NUM_THREADS):
            numba.set_num_threads(threads)
            results.append(encode_with_gradients(GRIDS["hashed, three features"], "cpu", torch.float32))
    finally:
        numba.set_num_threads(before)
    for value, other in zip(*results, strict=True):
        assert torch.equal(value, other)


@pytest.mark.parametrize("wanted", ["points", "table"])
def test_only_what_is_asked_for_gets_a_gradient(wanted):
    points, table = make_inputs(GRIDS["face"])
    (points if wanted == "table" else table).requires_grad_(False)
    encode(points, table, GRIDS["face"]).sum().backward()
    assert (points.grad is None) == (wanted == "table")
    assert (table.grad is None) == (wanted == "points")


def test_no_points_are_no_rows():
    grid = GRIDS["face"]
    encoded = encode(torch.zeros(0, 3, requires_grad=True), grid.new_table().requires_grad_(), grid)
    assert encoded.shape == (0, 36)
    encoded.sum().backward()


def test_new_tables_are_small_and_reproducible():
    grid = GRIDS["face"]
    table = grid.new_table(torch.Generator().manual_seed(1))
    assert table.shape == grid.table_shape
    assert 0.9e-4 < table.abs().max() <= 1e-4
    assert torch.equal(table, grid.new_table(torch.Generator().manual_seed(1)))


# ---- choice of backend, bad input


def test_auto_takes_what_fits():
    grid, theirs = HashGrid(), HashGrid(convention="tcnn")
    on_cuda = SimpleNamespace(dtype=torch.float32, device=torch.device("cuda"))
    assert choose_backend(torch.zeros(1, 3), grid) == "cpu"
    assert choose_backend(torch.zeros(1, 3, dtype=torch.float64), grid) == "reference"
    assert choose_backend(on_cuda, grid) == "reference"
    assert choose_backend(on_cuda, theirs, "tcnn") == "tcnn"
    with pytest.raises(ValueError, match="float32 tensors on cuda"):
        choose_backend(torch.zeros(1, 3), theirs, "tcnn")
    with pytest.raises(ValueError, match="unknown grid encoder"):
        choose_backend(torch.zeros(1, 3), grid, "jax")


def test_bad_input_is_named():
    grid = HashGrid(levels=2)
    with pytest.raises(ValueError, match="points has shape"):
        encode(torch.zeros(5, 2), grid.new_table(), grid)
    with pytest.raises(ValueError, match="table has shape"):
        encode(torch.zeros(5, 3), grid.new_table()[:, :-1], grid)
    with pytest.raises(ValueError, match="must agree"):
        encode(torch.zeros(5, 3, dtype=torch.float64), grid.new_table(), grid)
    for wrong in (
        {"levels": 0},
        {"bound": 0.0},
        {"log2_table_size": 40},
        {"convention": "ngp"},
        {"base_resolution": 1},
    ):
        with pytest.raises(ValueError, match=r"grid|log2_table_size|bound"):
            HashGrid(**wrong)


# ---- the tiny-cuda-nn adapter, with the reference standing in for its kernels


class FakeEncoding(torch.nn.Module):
    """One plane's encoding as tiny-cuda-nn offers it: flat weights, positions in 0..1."""

    def __init__(self, n_input_dims, encoding_config, dtype):
        super().__init__()
        assert (n_input_dims, dtype) == (2, torch.float32)
        growth, levels = encoding_config["per_level_scale"], encoding_config["n_levels"]
        base, self.features = encoding_config["base_resolution"], encoding_config["n_features_per_level"]
        finest = base * growth ** (levels - 1)
        size = encoding_config["log2_hashmap_size"]
        self.grid = HashGrid(levels, self.features, base, finest, size, convention="tcnn")
        self.params = torch.nn.Parameter(torch.zeros(self.grid.table_shape[1] * self.features))

    def forward(self, positions):
        table = self.params.view(-1, self.features)
        return reference.interpolate(positions[:, None], table[None], self.grid)[:, 0]


def test_tcnn_adapter_speaks_our_signature(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinycudann", SimpleNamespace(Encoding=FakeEncoding))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    tcnn._encoding.cache_clear()
    grid = GRIDS["tcnn, hashed"]
    results = []
    for implementation in (tcnn, reference):
        points, table = make_inputs(grid)
        encoded = implementation.encode(points, table, grid)
        encoded.square().sum().backward()
        results.append((encoded.detach(), points.grad, table.grad))
    tcnn._encoding.cache_clear()
    for value, truth in zip(*results, strict=True):
        torch.testing.assert_close(value, truth, atol=1e-4, rtol=1e-4)


def test_tcnn_refuses_weights_of_another_layout(monkeypatch):
    points, table = make_inputs(GRIDS["face"])
    with pytest.raises(ValueError, match=r"\(r \+ 1\)\^2 rows"):
        tcnn.encode(points, table, GRIDS["face"])
    with pytest.raises(ValueError, match="1, 2, 4 or 8 features"):
        tcnn._encoding(HashGrid(features=3, convention="tcnn"))
    # A build that lays tables out in yet another way must not go unnoticed.
    odd = SimpleNamespace(Encoding=lambda **_: SimpleNamespace(params=torch.zeros(7)))
    monkeypatch.setitem(sys.modules, "tinycudann", odd)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(MachineError, match="stores 7 weights"):
        tcnn._encoding(HashGrid(levels=7, convention="tcnn"))


def test_tcnn_says_what_is_missing(monkeypatch):
    grid = HashGrid(levels=9, convention="tcnn")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MachineError, match="CUDA device"):
        tcnn._encoding(grid)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    with pytest.raises(MachineError, match="no tiny-cuda-nn for this GPU"):
        tcnn._encoding(grid)
