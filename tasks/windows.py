"""What was measured of every window, kept so that intervals can be drawn from it later."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from models.storage import load_arrays, save_arrays
from tasks.scores import Scores

FILE = "windows.safetensors"
REGION = "face"
SCHEMA, VERSION = "Windows", 1


def write_windows(folder: Path, scores: Scores, metrics: Iterable[str], variants: Iterable[str]) -> None:
    """Keep the columns of metrics of the face; metrics that are read off the same columns share them."""
    names: dict[int, str] = {}
    arrays: dict[str, np.ndarray] = {}
    shared: dict[str, str] = {}
    for metric in metrics:
        for variant in variants:
            columns = scores.columns.get((metric, REGION, variant))
            if columns is not None:
                name = names.setdefault(id(columns), f"{metric}/{variant}")
                arrays[name] = columns.astype(np.float32)
                shared[f"{metric}/{variant}"] = name
    save_arrays(folder / FILE, arrays, SCHEMA, VERSION, {"shared": shared})


def read_windows(folder: Path) -> dict[tuple[str, str], np.ndarray]:
    """Return columns `[n, k]` float64 by metric and variant; nothing where nothing was kept.

    Raises:
        InputError: the file is damaged.
    """
    if not (folder / FILE).is_file():
        return {}
    arrays, meta = load_arrays(folder / FILE, SCHEMA, VERSION)
    found = {}
    for key, name in meta["shared"].items():
        metric, variant = key.split("/")
        found[metric, variant] = arrays[name].astype(np.float64)
    return found
