"""Official files of head models become archives of plain arrays, and nothing in them is run."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from official_heads import Call, V, flame_arrays, write_bfm, write_flame, write_ict

from models.errors import InputError
from models.heads import bfm_files, flame_files, ict_files
from models.pickles import read_object_array, read_pickle


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_flame_is_read_whether_its_numbers_are_chumpys_or_not(tmp_path: Path, protocol: int) -> None:
    truth = flame_arrays()
    flame_files.convert(write_flame(tmp_path / "generic_model.pkl", protocol), tmp_path / "flame.npz")
    result = load(tmp_path / "flame.npz")
    assert set(result) == set(truth)
    for key in set(truth) - {"kintree_table"}:
        np.testing.assert_allclose(result[key], truth[key], atol=1e-6)
    np.testing.assert_array_equal(result["kintree_table"], [[-1, 0, 1, 1, 1], [0, 1, 2, 3, 4]])


def test_a_flame_model_with_a_part_of_another_size_is_refused(tmp_path: Path) -> None:
    path = write_flame(tmp_path / "m.pkl", weights=np.zeros((V, 4)))
    with pytest.raises(InputError) as error:
        flame_files.convert(path, tmp_path / "flame.npz")
    assert "weights is (12, 4), not (12, 5)" in error.value.why
    path = write_flame(tmp_path / "m.pkl", f=np.full((2, 3), V))
    with pytest.raises(InputError, match="vertex that is not there"):
        flame_files.convert(path, tmp_path / "flame.npz")


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (open, ["{canary}", "w"]),
        (os.system, ["touch {canary}"]),
        (eval, ["open('{canary}', 'w')"]),
        (getattr, ["", "x"]),
    ],
)
def test_a_pickle_that_calls_anything_is_refused(tmp_path: Path, function: Callable, arguments: list[str]) -> None:
    canary = tmp_path / "canary"
    call = Call(function, *(text.format(canary=canary) for text in arguments))
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps({"v_template": call}))
    with pytest.raises(InputError) as error:
        read_pickle(path)
    assert "it would call" in error.value.why
    np.save(tmp_path / "m.npy", np.array({"tris": call}), allow_pickle=True)
    with pytest.raises(InputError, match="would run code"):
        read_object_array(tmp_path / "m.npy")
    assert not canary.exists()
    if function is not getattr:
        pickle.loads(path.read_bytes())
        assert canary.exists()  # an ordinary reader does run it


ADDRESS = b"A" * 8
CLEARED = (3, "|", None, None, None, -1, -1, 0)  # the state of a type whose flags deny that it holds objects


def array_of(*state: Any) -> Call:
    return Call(np.zeros(0).__reduce__()[0], np.ndarray, (0,), b"b", state=(1, *state))


@pytest.mark.parametrize(
    "crafted",
    [
        Call(np.ndarray, (1,), np.dtype("O"), ADDRESS),
        Call(np.zeros(0).__reduce__()[0], Call(np.dtype, "O"), (1,), b"b"),
        array_of((1,), Call(np.dtype, "O8", False, True, state=CLEARED), False, ADDRESS),
        array_of((2,), np.dtype("O"), False, [1]),
        array_of((1,), Call(np.dtype, [("a", "O")]), False, ADDRESS),
        array_of((1,), Call(np.dtype, "O,O"), False, ADDRESS),
        array_of((3,), np.dtype("f8"), False, ADDRESS),
        array_of((-1, -1), np.dtype("f8"), False, ADDRESS),
        Call(np.float64(0).__reduce__()[0], Call(np.dtype, "f8", False, True), b"AAAA"),
    ],
)
def test_bytes_are_never_taken_for_addresses_of_objects(tmp_path: Path, crafted: Call) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps({"v_template": crafted}, 2))
    with pytest.raises(InputError, match="damaged, or would run code"):
        read_pickle(path)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_numbers_and_text_of_any_kind_come_back(tmp_path: Path, protocol: int) -> None:
    values = [np.arange(6.0).reshape(2, 3).T, np.arange(4, dtype=">i2"), np.array(["a", "bcd"]), np.array([b"x"]),
              np.array([True]), np.array(1j), np.float32(0.5), np.int64(-3),
              np.array([[1, "b"], [None, 2.5]], object)]  # fmt: skip
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps({"all": values, "again": values[0]}, protocol))
    content = read_pickle(path)
    for before, after in zip(values, content["all"], strict=True):
        assert after.dtype == before.dtype.newbyteorder("=")
        np.testing.assert_array_equal(after, before)
    assert content["again"] is content["all"][0]


def test_sparse_matrices_with_wrong_indices_are_refused(tmp_path: Path) -> None:
    matrix = scipy.sparse.csc_matrix(np.eye(3))
    matrix.indices = np.array([0, 1, 30], np.int32)
    path = write_flame(tmp_path / "m.pkl", J_regressor=matrix)
    with pytest.raises(InputError) as error:
        flame_files.convert(path, tmp_path / "flame.npz")
    assert "an index lies outside" in error.value.why


def test_damaged_files_are_inputs_that_cannot_be_used(tmp_path: Path) -> None:
    whole = write_flame(tmp_path / "m.pkl").read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "m.pkl").write_bytes(whole[:size])
        with pytest.raises(InputError):
            flame_files.convert(tmp_path / "m.pkl", tmp_path / "flame.npz")
    (tmp_path / "m.npy").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="not a .npy file"):
        read_object_array(tmp_path / "m.npy")
    assert not (tmp_path / "flame.npz").exists()


def test_the_basel_model_is_cut_to_the_trackers_vertices(tmp_path: Path) -> None:
    truth = write_bfm(tmp_path)
    bfm_files.convert(tmp_path, tmp_path / "bfm.npz")
    result = load(tmp_path / "bfm.npz")
    kept = truth["sub_inds"]
    np.testing.assert_array_equal(result["vertex_index"], kept)
    coefficients = np.array([0.3, -1.2, 0.5, 2.0])
    whole = truth["shapeMU"][:, 0] + truth["shapePC"] @ (truth["shapeEV"][:, 0] * coefficients)
    shape = result["shapeMU"] + result["shapePC"] @ (result["shapeEV"] * coefficients)
    np.testing.assert_allclose(shape, whole.reshape(-1, 3)[kept], atol=1e-5)
    mouth = np.array([1.0, -2.0, 0.5])
    moved = truth["mu_exp"] + (truth["sig_exp"] * mouth) @ truth["base_exp"]
    np.testing.assert_allclose(
        result["expMU"] + result["expPC"] @ (result["expEV"] * mouth), moved.reshape(-1, 3), atol=1e-5
    )
    np.testing.assert_array_equal(result["tl"], truth["tris"])
    np.testing.assert_array_equal(result["landmarks68"], truth["keyinds"])
    assert result["contour_left"].shape == result["contour_right"].shape == (8, 20)


def test_a_basel_model_without_one_of_its_files_names_it(tmp_path: Path) -> None:
    write_bfm(tmp_path)
    (tmp_path / bfm_files.TOPOLOGY).unlink()
    with pytest.raises(InputError, match="topology_info.npy is missing"):
        bfm_files.convert(tmp_path, tmp_path / "bfm.npz")
    write_bfm(tmp_path)
    (tmp_path / bfm_files.MODEL).write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(InputError, match="01_MorphableModel.mat"):
        bfm_files.convert(tmp_path, tmp_path / "bfm.npz")


def test_meshes_become_the_neutral_one_and_offsets_from_it(tmp_path: Path) -> None:
    neutral = write_ict(tmp_path)
    ict_files.convert(tmp_path, tmp_path / "ict.npz")
    result = load(tmp_path / "ict.npz")
    np.testing.assert_array_equal(result["neutral"], neutral)
    assert result["identity"].shape == (100, 4, 3)
    np.testing.assert_array_equal(result["identity"][:, 0, 1], np.arange(1, 101))
    np.testing.assert_array_equal(result["expression"][:, 0, 1], np.arange(101, 154))
    assert np.abs(result["expression"][:, 1:]).max() == 0
    np.testing.assert_array_equal(result["quads"], [[0, 1, 2, 3], [0, 2, 3, -1]])
    np.testing.assert_array_equal(result["quads_uv"], [[0, 1, 0, 1], [0, 1, 0, -1]])
    assert str(result["expression_names"][26]) == "jawOpen"


def test_a_missing_or_cut_mesh_is_named(tmp_path: Path) -> None:
    write_ict(tmp_path)
    path = tmp_path / "jawOpen.obj"
    whole = path.read_text()
    path.write_text(whole[: whole.index("v 9.0")])
    with pytest.raises(InputError, match="jawOpen.obj has 3 vertices"):
        ict_files.convert(tmp_path, tmp_path / "ict.npz")
    path.unlink()
    with pytest.raises(InputError, match="jawOpen.obj is missing"):
        ict_files.convert(tmp_path, tmp_path / "ict.npz")
