"""From the Basel Face Model 2009 and the files that AD-NeRF's tracker adds to it, to one archive.

The tracker of AD-NeRF, which RAD-NeRF, ER-NeRF and TalkingGaussian took over, keeps 34,650 of the model's 53,490
vertices (`topology_info.npy`), adds 79 expressions (`exp_info.npy`) and names landmarks on them (`keys_info.npy`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.errors import InputError
from models.pickles import as_array, read_object_array

Array = np.ndarray
MODEL, EXPRESSIONS, TOPOLOGY, LANDMARKS = (
    "01_MorphableModel.mat",
    "exp_info.npy",
    "topology_info.npy",
    "keys_info.npy",
)
MODEL_KEYS = ("shapeMU", "shapePC", "shapeEV", "texMU", "texPC", "texEV")


def convert(files: Path, archive: Path) -> None:
    """Cut the model to the tracker's vertices and write it as plain arrays, in the model's own micrometres.

    Args:
        files: Folder with the four files.
        archive: What is written, for n vertices: `shapeMU` `[n, 3]`, `shapePC` `[n, 3, 199]` and `shapeEV` `[199]`
            (mean, directions of length 1 and standard deviations), the same as `texMU`... (RGB in 0..255) and `expMU`
            ... (79), all float32; int32: `tl` `[F, 3]` triangles, `vertex_index` `[n]` the vertices' numbers in the
            whole model, `landmarks68` `[68]`, `contour_left` and `contour_right` `[8, 20]` vertices over which the
            outline slides, `rigid` `[464]` vertices that no expression moves.

    Raises:
        InputError: A file is missing, damaged, of another model, or would run code.
    """
    model = _model(files / MODEL)
    expressions = _entries(files / EXPRESSIONS, ("mu_exp", "base_exp", "sig_exp"))
    topology = _entries(files / TOPOLOGY, ("tris", "sub_inds"))
    landmarks = _entries(files / LANDMARKS, ("keyinds", "left_contour", "right_contour", "rigid_ids"))
    kept = topology["sub_inds"].astype(np.int64).reshape(-1)
    n, whole = len(kept), model["shapeMU"].size // 3
    _inside(kept, whole, TOPOLOGY)
    cut: dict[str, Array] = {}
    for name in ("shape", "tex"):
        mean, basis, deviation = (model[f"{name}{part}"] for part in ("MU", "PC", "EV"))
        components = deviation.size
        if mean.size != 3 * whole or basis.size != 3 * whole * components:
            raise InputError(f"{MODEL}: {name}PC is {basis.shape} for {whole} vertices and {components} components")
        cut[f"{name}MU"] = mean.reshape(whole, 3)[kept]
        cut[f"{name}PC"] = basis.reshape(whole, 3, components)[kept]
        cut[f"{name}EV"] = deviation.reshape(-1)
    base, deviation = expressions["base_exp"], expressions["sig_exp"].reshape(-1)
    if base.shape != (deviation.size, 3 * n) or expressions["mu_exp"].size != 3 * n:
        raise InputError(f"{EXPRESSIONS}: base_exp is {base.shape}, not {(deviation.size, 3 * n)}")
    cut["expMU"] = expressions["mu_exp"].reshape(n, 3)
    cut["expPC"] = base.T.reshape(n, 3, deviation.size)
    cut["expEV"] = deviation
    numbers = {
        "tl": topology["tris"],
        "landmarks68": landmarks["keyinds"].reshape(-1),
        "contour_left": landmarks["left_contour"],
        "contour_right": landmarks["right_contour"],
        "rigid": landmarks["rigid_ids"].reshape(-1),
    }
    for name, values in numbers.items():
        _inside(values, n, name)
    arrays = {name: np.ascontiguousarray(values, np.float32) for name, values in cut.items()}
    arrays |= {name: values.astype(np.int32) for name, values in (numbers | {"vertex_index": kept}).items()}
    np.savez(archive, allow_pickle=False, **arrays)


def _model(path: Path) -> dict[str, Array]:
    from scipy.io import loadmat

    try:
        content: dict[str, Any] = loadmat(path, variable_names=list(MODEL_KEYS), mat_dtype=False)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file fails in as many ways as its reader has branches
        raise InputError(f"{path.name} cannot be read", str(error), "get it again from its official source") from error
    missing = [key for key in MODEL_KEYS if key not in content]
    if missing:
        raise InputError(f"{path.name} is not the Basel Face Model 2009", f"it lacks {', '.join(missing)}")
    return {key: as_array(content[key]) for key in MODEL_KEYS}


def _entries(path: Path, keys: tuple[str, ...]) -> dict[str, Array]:
    if not path.is_file():
        raise InputError(f"{path.name} is missing")
    content = read_object_array(path)
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing:
        raise InputError(f"{path.name} is not the tracker's file", f"it lacks {', '.join(missing)}", "get it again")
    return {key: as_array(content[key]) for key in keys}


def _inside(values: Array, count: int, name: str) -> None:
    if values.size and not 0 <= values.min() <= values.max() < count:
        raise InputError(f"{name} names a vertex that is not among {count}")
