"""Read the arrays of a head model's archive, which comes from outside and is trusted with nothing."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from models.errors import InputError

Array = np.ndarray
Shape = tuple[str | int, ...]


def read_arrays(path: Path, what: str, shapes: dict[str, Shape], optional: dict[str, Shape] | None = None) -> dict:
    """Read named arrays from an npz file.

    Args:
        path: The file.
        what: What it should be, for the message.
        shapes: Name -> shape of the arrays it must have; a letter stands for the same length wherever it occurs.
        optional: Those that it may have.

    Returns:
        Name -> array.

    Raises:
        InputError: It is no such file, lacks an array, or one has another shape, holds something else than numbers
            or text (nothing is ever unpickled) or a number that is not finite.
    """
    why = f"it is not {what}, or damaged"
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: a single array", why)
            missing = [name for name in shapes if name not in archive.files]
            if missing:
                raise InputError(f"{path} is not {what}: it lacks {', '.join(missing)}")
            wanted = shapes | {name: shape for name, shape in (optional or {}).items() if name in archive.files}
            data = {name: archive[name] for name in wanted}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read", f"{why} ({error})") from error
    lengths: dict[str, int] = {}
    for name, shape in wanted.items():
        array = data[name]
        good = array.ndim == len(shape) and array.dtype.kind in "fiuU"
        for length, symbol in zip(array.shape, shape, strict=False):
            good = good and length == (lengths.setdefault(symbol, length) if isinstance(symbol, str) else symbol)
        if not good:
            raise InputError(f"{path}: {name} is {array.dtype} {array.shape}, expected {shape} ({lengths})", why)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{path}: {name} has numbers that are not finite", why)
    return data


def check_indices(path: Path, name: str, indices: Array, count: int) -> None:
    """Refuse vertex ids outside `0..count - 1`.

    Raises:
        InputError: there are some.
    """
    if indices.size and (indices.min() < 0 or indices.max() >= count):
        raise InputError(f"{path}: {name} names vertices outside 0..{count - 1}", "the file is damaged")
