"""From the official pickles of FLAME (Li et al., SIGGRAPH Asia 2017) to the one archive that the project reads.

All releases (2020, 2023, 2023 Open) hold the same entries; the older ones as chumpy variables.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.errors import InputError
from models.pickles import as_array, read_pickle

Array = np.ndarray
KEYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")


def convert(official: Path, archive: Path) -> None:
    """Write template, bases, joints and skinning weights as plain arrays; nothing is cut or scaled.

    Args:
        official: `generic_model.pkl`, `flame2023.pkl` or `flame2023_Open.pkl`.
        archive: What is written, for V vertices, S shape directions and J joints: `v_template` `[V, 3]` metres,
            `shapedirs` `[V, 3, S]`, `posedirs` `[V, 3, 9 (J - 1)]`, `J_regressor` `[J, V]`, `weights` `[V, J]`, all
            float32; `kintree_table` `[2, J]` int64, the parent of each joint (-1: none) and its number; `f` `[F, 3]`
            int32.

    Raises:
        InputError: It is damaged, not a FLAME model, or would run code.
    """
    content = read_pickle(official)
    missing = [key for key in KEYS if not isinstance(content, dict) or key not in content]
    if missing:
        raise InputError(f"{official.name} is not a FLAME model", f"it lacks {', '.join(missing)}", "get it again")
    arrays = {key: as_array(content[key]) for key in KEYS}
    vertices, joints = len(arrays["v_template"]), arrays["kintree_table"].shape[-1]
    directions = arrays["shapedirs"].shape[-1]
    shapes = {
        "v_template": (vertices, 3),
        "shapedirs": (vertices, 3, directions),
        "posedirs": (vertices, 3, 9 * (joints - 1)),
        "J_regressor": (joints, vertices),
        "weights": (vertices, joints),
        "kintree_table": (2, joints),
        "f": (len(arrays["f"]), 3),
    }
    wrong = [
        f"{key} is {arrays[key].shape}, not {shape}" for key, shape in shapes.items() if arrays[key].shape != shape
    ]
    if wrong:
        raise InputError(f"{official.name} is not a whole FLAME model", "; ".join(wrong), "get it again")
    faces, tree = arrays.pop("f").astype(np.int64), arrays.pop("kintree_table").astype(np.int64)
    if faces.size and not 0 <= faces.min() <= faces.max() < vertices:
        raise InputError(f"{official.name}: a triangle names a vertex that is not there")
    tree[tree >= joints] = -1  # the root's parent is stored as the largest number that 32 bits hold
    numbers = {key: array.astype(np.float32) for key, array in arrays.items()}
    numbers |= {"f": faces.astype(np.int32), "kintree_table": tree}
    np.savez(archive, allow_pickle=False, **numbers)
