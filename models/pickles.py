"""Reads pickles of numbers without running what is in them.

A pickle is a program: it names functions and has them called. This reader knows only what rebuilds NumPy arrays, and
checks what they are rebuilt from, since NumPy itself would take bytes for the addresses of objects; the classes of
SciPy's sparse matrices and of chumpy, in which older head models are stored, become `Record`s, which do nothing but
hold what was put into them. Every other name is refused.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from models.errors import InputError

_NDARRAY = object()  # stands for the class: the real one lays arrays over any bytes
_SCALAR: Any = np.float64(0).__reduce__()[0]
_KINDS = "biufcSUO"


class Record:
    """Stands in for an object of a library: its class's name and its attributes."""

    kind = ""

    def __init__(self, *_arguments: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.state = state


class _Kind:
    """Stands in for `numpy.dtype`: what a spelling and a byte order say, and nothing else of its state."""

    def __init__(self, spelling: str, *_how: object) -> None:
        self.dtype = np.dtype(spelling if isinstance(spelling, str) else "V")
        if self.dtype.kind not in _KINDS:
            raise pickle.UnpicklingError(f"it would make an array of {spelling}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array that is filled only with what fits it."""

    def __setstate__(self, state: tuple[Any, ...], /) -> None:
        version, shape, kind, by_column, data = state
        dtype, count = _dtype_of(kind), math.prod(shape)
        if isinstance(data, str):  # of Python 2
            data = data.encode("latin1")
        wanted, size = (list, count) if dtype.hasobject else (bytes, count * dtype.itemsize)
        if not isinstance(data, wanted) or len(data) != size or min(shape, default=0) < 0:
            raise pickle.UnpicklingError(f"what an array {shape} of {dtype} is filled with does not fit it")
        super().__setstate__((version, shape, dtype, by_column, data))


def _dtype_of(kind: object) -> np.dtype:
    if not isinstance(kind, _Kind):
        raise pickle.UnpicklingError(f"it would make an array of {type(kind).__name__}")
    return kind.dtype


def _empty_array(kind: object, _shape: object, _type: object) -> _Array:
    if kind is not _NDARRAY:
        raise pickle.UnpicklingError(f"it would make an array of the class {kind}")
    return _Array(0, np.uint8)


def _scalar(kind: object, data: object = b"") -> Any:
    return _SCALAR(_dtype_of(kind), data)


def _encode(text: str, encoding: str = "") -> bytes:
    """Return the bytes that Python 3 writes as text into a pickle for Python 2."""
    if encoding.replace("-", "").lower() not in ("latin1", "iso88591"):
        raise pickle.UnpicklingError(f"it would encode text as {encoding}")
    return text.encode("latin1")


def _reconstruct(kind: type, _base: type, _state: object) -> Record:
    """Return an empty `Record`, where Python 2 makes an object of an old class."""
    if not (isinstance(kind, type) and issubclass(kind, Record)):
        raise pickle.UnpicklingError(f"it would make an object of {kind}")
    return kind()


_KNOWN: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Kind,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("copy_reg", "_reconstructor"): _reconstruct,
    ("copyreg", "_reconstructor"): _reconstruct,
    **{(module, kind.__name__): kind for module in ("__builtin__", "builtins") for kind in (object, set, frozenset)},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
}
_HELD = ("chumpy", "scipy.sparse")


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name in the pickle."""
        known = _KNOWN.get((module, name))
        if known is not None:
            return known
        if any(module == held or module.startswith(f"{held}.") for held in _HELD):
            return type(name, (Record,), {"kind": f"{module}.{name}"})
        raise pickle.UnpicklingError(f"it would call {module}.{name}")


def read_pickle(path: Path) -> Any:
    """Return what a pickle holds: numbers, text, containers, arrays and `Record`s.

    Raises:
        InputError: it is damaged, or it would call something.
    """
    with path.open("rb") as file:
        return _read(file, path.name)


def read_object_array(path: Path) -> Any:
    """Return the single object of a .npy file, as `numpy.save` stores a dictionary.

    Raises:
        InputError: it is no such file, is damaged, or would call something.
    """
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, kind = header(file)
        except ValueError as error:
            raise InputError(f"{path.name} is not a .npy file", str(error), "get it again") from error
        if shape != () or not kind.hasobject:
            raise InputError(f"{path.name} holds an array {shape} of {kind}, not one object")
        content = _read(file, path.name)
    return content.item() if isinstance(content, np.ndarray) and content.shape == () else content


def _read(file: BinaryIO, name: str) -> Any:
    try:
        return _Reader(file, encoding="latin1").load()
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle fails in as many ways as Python has errors
        raise InputError(
            f"{name} cannot be read: it is damaged, or would run code",
            str(error) or type(error).__name__,
            "get it again from its official source",
        ) from error


def as_array(value: Any) -> np.ndarray:
    """Return a stored array, chumpy variable or compressed sparse matrix as a plain dense array.

    Raises:
        InputError: it is something else, or its parts do not fit together.
    """
    if isinstance(value, Record):
        name, state = value.kind.rsplit(".", 1)[-1], value.state
        if isinstance(state.get("x"), np.ndarray | Record):  # chumpy's plain variable
            return as_array(state["x"])
        if name in ("csc_matrix", "csr_matrix", "csc_array", "csr_array"):
            return _dense(state, by_column=name.startswith("csc"))
        raise InputError(f"a {value.kind} with {', '.join(sorted(state)) or 'nothing'} in it is not an array")
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise InputError(f"an array of {array.dtype} was found where numbers were expected")
    return array


def _dense(state: dict[str, Any], by_column: bool) -> np.ndarray:
    """Fill a matrix from its compressed form; every index is checked, which SciPy's own code does not do."""
    try:
        rows, columns = (int(size) for size in state.get("_shape") or state["shape"])
        data, indices, starts = (np.asarray(state[key]) for key in ("data", "indices", "indptr"))
        lines, across = (columns, rows) if by_column else (rows, columns)
        line = np.repeat(np.arange(lines), np.diff(starts))
        if starts.shape != (lines + 1,) or not len(line) == len(data) == len(indices):
            raise ValueError("its parts differ in length")
        if len(indices) and not 0 <= indices.min() <= indices.max() < across:
            raise ValueError("an index lies outside")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("a sparse matrix in the file is damaged", str(error)) from error
    full = np.zeros((lines, across), data.dtype)
    np.add.at(full, (line, indices), data)
    return full.T if by_column else full
