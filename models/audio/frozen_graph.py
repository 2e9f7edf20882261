"""Reads the constants of a frozen TensorFlow graph without TensorFlow.

A frozen graph is one protocol-buffer message, GraphDef, whose weights are nodes of the operation "Const". Only the few
fields that lead to them are read; their numbers below are those of TensorFlow's graph.proto, node_def.proto,
attr_value.proto, tensor.proto and tensor_shape.proto. The file is mapped into memory, not loaded: of half a gigabyte
only what is asked for is copied.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from models.errors import InputError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; the others are groups, long out of use
GRAPH_NODE = 1
NODE_NAME, NODE_OP, NODE_ATTRIBUTE = 1, 2, 5
MAP_KEY, MAP_VALUE = 1, 2
ATTRIBUTE_TENSOR = 8
TENSOR_TYPE, TENSOR_SHAPE, TENSOR_CONTENT, TENSOR_FLOATS = 1, 2, 4, 5
SHAPE_DIMENSION, DIMENSION_SIZE = 2, 1
FLOAT = 1  # DT_FLOAT
LONGEST_VARINT = 10  # bytes
LARGEST = 1 << 28  # numbers that one number in the file may stand for


class _DamagedError(ValueError):
    """The bytes are not a protocol-buffer message."""


def read_constants(path: Path, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """Return the float32 constants of a frozen graph whose names are wanted.

    Args:
        path: a GraphDef in binary form.
        wanted: tells from a node's name whether its constant shall be read.

    Raises:
        InputError: the file is empty, cut short or no such graph.
    """
    with path.open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # nothing can be mapped of an empty file
            raise InputError(f"{path}: the file is empty", "", "get it again") from error
    try:
        return dict(_constants(memoryview(mapped), wanted))  # the mapping goes when the last view of it does
    except (ValueError, OverflowError) as error:  # NumPy's too, of shapes that no array has
        raise InputError(f"{path}: not a whole frozen graph", str(error), "get it again") from error


def _constants(graph: memoryview, wanted: Callable[[str], bool]) -> Iterator[tuple[str, np.ndarray]]:
    for number, node in _fields(graph):
        if number != GRAPH_NODE or isinstance(node, int):
            continue
        name, operation, tensor = "", "", None
        for field, value in _fields(node):
            if isinstance(value, int):
                continue
            if field == NODE_NAME:
                name = _text(value)
            elif field == NODE_OP:
                operation = _text(value)
            elif field == NODE_ATTRIBUTE:
                entry = dict(_fields(value))
                key, attribute = entry.get(MAP_KEY), entry.get(MAP_VALUE)
                if isinstance(key, memoryview) and isinstance(attribute, memoryview) and key == b"value":
                    tensor = dict(_fields(attribute)).get(ATTRIBUTE_TENSOR)
        if operation == "Const" and isinstance(tensor, memoryview) and wanted(name):
            values = _array(tensor, name)
            if values is not None:
                yield name, values


def _array(tensor: memoryview, name: str) -> np.ndarray | None:
    """Return a copy of a TensorProto, or None if it does not hold float32."""
    kind, content = 0, None
    shape: list[int] = []
    floats: list[np.ndarray] = []
    for field, value in _fields(tensor):
        if field == TENSOR_TYPE and isinstance(value, int):
            kind = value
        elif field == TENSOR_SHAPE and isinstance(value, memoryview):
            shape = _shape(value, name)
        elif field == TENSOR_CONTENT and isinstance(value, memoryview):
            content = value
        elif field == TENSOR_FLOATS and isinstance(value, memoryview):
            floats.append(np.frombuffer(bytes(value), "<f4"))
    if kind != FLOAT:
        return None
    count = math.prod(shape)
    if content is not None and len(content):
        if len(content) != 4 * count:
            raise _DamagedError(f"{name} has {len(content)} bytes, its shape {shape} asks for {4 * count}")
        return np.frombuffer(content, "<f4").reshape(shape).astype(np.float32)
    values = np.concatenate(floats) if floats else np.zeros(0, np.float32)
    if len(values) == 1 and count <= LARGEST:  # equal numbers are written once
        return np.full(shape, values[0], np.float32)
    if len(values) != count:
        raise _DamagedError(f"{name} has {len(values)} numbers, its shape {shape} asks for {count}")
    return values.reshape(shape).astype(np.float32)


def _shape(message: memoryview, name: str) -> list[int]:
    shape = []
    for field, value in _fields(message):
        if field == SHAPE_DIMENSION and isinstance(value, memoryview):
            size = dict(_fields(value)).get(DIMENSION_SIZE, 0)
            if not isinstance(size, int):
                raise _DamagedError(f"the shape of {name} is damaged")
            shape.append(size)
    return shape


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if kind == BYTES:
            length, place = _varint(message, place)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise _DamagedError(f"a field of unknown kind {kind}")
        if place + length > len(message):
            raise _DamagedError(f"{place + length - len(message)} bytes are missing at the end of a field")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for position in range(LONGEST_VARINT):
        if place + position >= len(message):
            raise _DamagedError("it ends within a number")
        byte = message[place + position]
        value |= (byte & 127) << 7 * position
        if byte < 128:
            return value, place + position + 1
    raise _DamagedError("a number without an end")


def _text(value: memoryview) -> str:
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise _DamagedError("a name that is no text") from error
