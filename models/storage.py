"""How records lie on disk: arrays in one safetensors file, images in chunked zarr arrays.

A folder with a record is written somewhere private and moved into place as a whole: a reader never meets half of one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models.errors import InputError, UsageError

RECORD_FILE = "record.safetensors"
FRAMES_PER_SHARD = 64
CACHE_BYTES = 512 * 2**20
HEADER = {"schema": str, "version": int, "sha256": str, "meta": dict}
AGAIN = "delete it and run the stage that makes it again"


def digest_arrays(arrays: dict[str, np.ndarray]) -> str:
    """Return the sha256 of names, types, shapes and bytes of `arrays`, independent of their order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")  # `ascontiguousarray` would give a single number an axis
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)  # the bytes themselves: `tobytes` would copy them
    return digest.hexdigest()


def save_arrays(path: Path, arrays: dict[str, np.ndarray], schema: str, version: int, meta: dict[str, Any]) -> None:
    """Write `arrays` with a JSON header of what `HEADER` lists."""
    header = {"schema": schema, "version": version, "sha256": digest_arrays(arrays), "meta": meta}
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    path.touch()
    mode = path.stat().st_mode
    save_file(contiguous, str(path), metadata={"gausstalk": json.dumps(header, sort_keys=True, allow_nan=False)})
    path.chmod(mode)  # safetensors leaves a file that only its owner can read, whatever the umask says


def read_header(path: Path) -> dict[str, Any]:
    """Return the JSON header of a file that `save_arrays` wrote.

    Raises:
        InputError: the file is missing, truncated or not one of ours.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable record", str(error), AGAIN) from error
    if "gausstalk" not in metadata:
        raise InputError(f"{path}: not a record of this project", "the header has no 'gausstalk' entry")
    try:
        header: dict[str, Any] = json.loads(metadata["gausstalk"])
    except ValueError as error:
        raise InputError(f"{path}: not a readable record", f"its header is damaged: {error}", AGAIN) from error
    if not isinstance(header, dict) or any(not isinstance(header.get(key), kind) for key, kind in HEADER.items()):
        raise InputError(f"{path}: not a record of this project", f"its header does not tell {', '.join(HEADER)}")
    return header


def load_arrays(path: Path, schema: str, version: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read arrays and meta back, checking schema, version and sha256.

    Raises:
        InputError: not readable, of another schema, newer than this code, or its bytes changed.
    """
    header = read_header(path)
    if header["schema"] != schema:
        raise InputError(f"{path}: holds a {header['schema']}, not a {schema}")
    if header["version"] != version:
        raise InputError(
            f"{path}: version {header['version']} of {schema}, this code reads {version}",
            "the record was written by another version of gausstalk",
            "run the stage that makes it again",
        )
    with safe_open(str(path), framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
    if digest_arrays(arrays) != header["sha256"]:
        raise InputError(f"{path}: its bytes do not match its digest", "the file is damaged", "run its stage again")
    return arrays, header["meta"]


class FrameCache:
    """Decoded frames of all stores of a process, those unused for longest dropped first.

    One for all, so that memory grows neither with the clip nor with the number of records that a stage reads.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Bytes; a single frame is held even if it is larger."""
        self.bytes = 0
        self._frames: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def get(self, key: tuple[int, int]) -> np.ndarray | None:
        """Return the frame `key` (store, index), if it is held."""
        frame = self._frames.get(key)
        if frame is not None:
            self._frames.move_to_end(key)
        return frame

    def put(self, key: tuple[int, int], frame: np.ndarray) -> None:
        """Hold `frame`, and drop others until the limit is kept."""
        replaced = self._frames.pop(key, None)
        self._frames[key] = frame
        self.bytes += frame.nbytes - (0 if replaced is None else replaced.nbytes)
        while self.bytes > self.limit and len(self._frames) > 1:
            self.bytes -= self._frames.popitem(last=False)[1].nbytes

    def drop(self, store: int) -> None:
        """Forget all frames of a store."""
        for key in [key for key in self._frames if key[0] == store]:
            self.bytes -= self._frames.pop(key).nbytes


CACHE = FrameCache(CACHE_BYTES)
_store_numbers = itertools.count()


class FrameStore:
    """A lossless array of images `[T, ...]` on disk, one chunk a frame, many frames a file.

    Reading keeps decoded frames in a bounded cache.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            array = zarr.open_array(str(self.path), mode="r")
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: no readable frame store", str(error), AGAIN) from error
        self._array = array
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype = np.dtype(array.dtype)
        self._number = next(_store_numbers)
        weakref.finalize(self, CACHE.drop, self._number)

    @staticmethod
    def create(path: Path, frames: Iterable[np.ndarray], shape: tuple[int, ...], dtype: str = "uint8") -> FrameStore:
        """Write `frames` (each of `shape`), streaming; at most one shard is held in memory.

        Raises:
            UsageError: there are no frames, or one has another shape.
        """
        array: zarr.Array[Any] | None = None
        count = 0
        for block in _blocks(path, frames, shape, dtype):
            if array is None:
                array = zarr.create_array(
                    store=str(path),
                    shape=(0, *shape),
                    chunks=(1, *shape),
                    shards=(FRAMES_PER_SHARD, *shape),
                    dtype=dtype,
                    compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
                )
            array.resize((count + len(block), *shape))
            array[count : count + len(block)] = block
            count += len(block)
        if array is None:
            raise UsageError(f"{path}: no frames to store")
        return FrameStore(path)

    def digest(self) -> str:
        """Return the sha256 of the stored files."""
        digest = hashlib.sha256()
        for name in self.sizes():
            digest.update(name.encode())
            digest.update((self.path / name).read_bytes())
        return digest.hexdigest()

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each stored file."""
        files = (file for file in sorted(self.path.rglob("*")) if file.is_file())
        return {file.relative_to(self.path).as_posix(): file.stat().st_size for file in files}

    def check(self, sizes: dict[str, int]) -> None:
        """Compare the stored files with the sizes that they had: where one is missing, zarr reads black frames.

        Raises:
            InputError: a file is missing or of another size.
        """
        found = self.sizes()
        wrong = [name for name, size in sizes.items() if found.get(name) != size]
        if wrong:
            name, *_ = wrong
            why = f"{name} has {found[name]} bytes, not {sizes[name]}" if name in found else f"{name} is missing"
            raise InputError(f"{self.path}: {len(wrong)} of its {len(sizes)} files are not whole", why, AGAIN)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        """Return frame `index`. The array is shared with the cache: do not write to it.

        Raises:
            InputError: the file that holds it is damaged.
        """
        index = int(index)
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        frame = CACHE.get((self._number, index))
        if frame is None:
            frame = self._read(index)
            frame.flags.writeable = False
            CACHE.put((self._number, index), frame)
        return frame

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield all frames in order, reading a shard at a time and bypassing the cache."""
        for start in range(0, len(self), FRAMES_PER_SHARD):
            yield from self._read(slice(start, start + FRAMES_PER_SHARD))

    def _read(self, where: int | slice) -> np.ndarray:
        try:
            return np.asarray(self._array[where])
        except (ValueError, RuntimeError, SystemError) as error:  # what checksums and codecs raise
            raise InputError(f"{self.path}: its frames are damaged", str(error), AGAIN) from error

    def take(self, indices: Iterable[int]) -> np.ndarray:
        """Return the frames `indices` as one array `[n, ...]`."""
        return np.stack([self[index] for index in indices])


def _blocks(path: Path, frames: Iterable[np.ndarray], shape: tuple[int, ...], dtype: str) -> Iterator[np.ndarray]:
    """Gather frames into arrays of at most one shard."""
    held: list[np.ndarray] = []
    for frame in frames:
        if tuple(frame.shape) != tuple(shape):
            raise UsageError(f"{path}: a frame of shape {tuple(frame.shape)} among frames of {tuple(shape)}")
        held.append(np.asarray(frame, dtype=dtype))
        if len(held) == FRAMES_PER_SHARD:
            yield np.stack(held)
            held.clear()
    if held:
        yield np.stack(held)
