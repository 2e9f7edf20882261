"""Small files in the formats of FLAME, the Basel Face Model and ICT-FaceKit, with random numbers in them."""

import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from models.heads import bfm_files, ict_files

V, S, J = 12, 8, 5


class Call:
    """Pickles as a call of `function`: how a file runs code when it is read."""

    def __init__(self, function: Callable, *arguments: Any, state: Any = None) -> None:
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self) -> tuple[Callable, tuple[Any, ...], Any]:
        return self.function, self.arguments, self.state


def flame_arrays() -> dict[str, np.ndarray]:
    """Return the entries of a FLAME model with 12 vertices and 8 shape directions."""
    rng = np.random.default_rng(0)
    regressor = rng.random((J, V)) * (rng.random((J, V)) < 0.5)
    return {
        "v_template": rng.normal(size=(V, 3)),
        "shapedirs": rng.normal(size=(V, 3, S)),
        "posedirs": rng.normal(size=(V, 3, 9 * (J - 1))),
        "J_regressor": regressor,
        "weights": rng.random((V, J)),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "f": rng.integers(0, V, (7, 3)).astype(np.uint32),
    }


def write_flame(path: Path, protocol: int = 2, **others: Any) -> Path:
    """Write `flame_arrays` as the 2020 release does: bases as chumpy variables, the regressor as a sparse matrix."""
    module = types.ModuleType("chumpy.ch")
    kind = type("Ch", (), {"__module__": "chumpy.ch", "__qualname__": "Ch"})
    module.Ch = kind  # type: ignore[attr-defined]
    content: dict[str, Any] = {**flame_arrays(), "bs_style": "lbs", "bs_type": "lrotmin", **others}
    for key in ("v_template", "shapedirs", "weights"):
        if isinstance(content[key], np.ndarray):
            variable = kind()
            variable.__dict__ = {"x": content[key], "_dirty_vars": set(), "_itr": None}
            content[key] = variable
    if isinstance(content["J_regressor"], np.ndarray):
        content["J_regressor"] = scipy.sparse.csc_matrix(content["J_regressor"])
    sys.modules |= {"chumpy": types.ModuleType("chumpy"), "chumpy.ch": module}
    try:
        path.write_bytes(pickle.dumps(content, protocol))
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]
    return path


def write_bfm(folder: Path) -> dict[str, np.ndarray]:
    """Write the four files with 9 vertices, of which 6 are kept, and return what is in them."""
    rng = np.random.default_rng(1)
    whole, kept = 9, np.array([7, 0, 3, 8, 5, 1])
    model = {name: rng.normal(size=(3 * whole, 1)) for name in ("shapeMU", "texMU")}
    model |= {name: rng.normal(size=(3 * whole, 4)) for name in ("shapePC", "texPC")}
    model |= {name: rng.random((4, 1)) for name in ("shapeEV", "texEV")}
    scipy.io.savemat(folder / bfm_files.MODEL, {key: value.astype(np.float32) for key, value in model.items()})
    expressions = {"mu_exp": rng.normal(size=18), "base_exp": rng.normal(size=(3, 18)), "sig_exp": rng.random(3)}
    topology = {"tris": rng.integers(0, 6, (4, 3)), "vert_tris": rng.integers(0, 4, (6, 8)), "sub_inds": kept}
    keys = {"keyinds": rng.integers(0, 6, 68), "left_contour": rng.integers(0, 6, (8, 20)),
            "right_contour": rng.integers(0, 6, (8, 20)), "rigid_ids": rng.integers(0, 6, 3)}  # fmt: skip
    for name, content in zip((bfm_files.EXPRESSIONS, bfm_files.TOPOLOGY, bfm_files.LANDMARKS),
                             (expressions, topology, keys), strict=True):  # fmt: skip
        np.save(folder / name, np.array(content), allow_pickle=True)
    return {**model, **expressions, **topology, **keys}


def write_ict(folder: Path) -> np.ndarray:
    """Write 154 meshes of 4 vertices, mesh k with its first vertex moved by k, and return the neutral vertices."""
    neutral = np.arange(12.0).reshape(4, 3)
    names = ["generic_neutral_mesh", *(f"identity{index:03d}" for index in range(100)), *ict_files.EXPRESSIONS]
    for number, name in enumerate(names):
        moved = neutral.copy()
        moved[0, 1] += number
        vertices = "".join(f"v {x} {y} {z}\n" for x, y, z in moved)
        (folder / f"{name}.obj").write_text(f"# a mesh\n{vertices}vt 0 1\nvt 1 0\nf 1/1 2/2 3/1 4/2\nf 1/1 3/2 4/1\n")
    return neutral
