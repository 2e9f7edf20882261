"""Records on disk: what goes in comes out, and anything else is refused by name."""

import dataclasses
import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from saved_clip import save_clip

from models.errors import InputError, UsageError
from models.records import ActionUnits, Clip, Landmarks, Weights
from models.storage import RECORD_FILE, FrameCache, FrameStore, load_arrays, save_arrays


def make_clip(folder: Path, frames: int = 5) -> Clip:
    rng = np.random.default_rng(0)
    return save_clip(
        folder,
        rng.integers(0, 255, (frames, 8, 6, 3), dtype=np.uint8),
        sound=rng.integers(-99, 99, 640 * frames).astype(np.int16),
        cuts=np.array([2], np.int32),
        split=np.array([0] * (frames - 2) + [1, 2], np.int8),
        sources=[{"file": "a.mp4", "frames": frames}],
    )


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    clip = make_clip(tmp_path)
    clip.save(tmp_path)
    again = Clip.load(tmp_path)
    for spec in dataclasses.fields(Clip):
        before, after = getattr(clip, spec.name), getattr(again, spec.name)
        if isinstance(before, FrameStore):
            assert all((a == b).all() for a, b in zip(before, after, strict=True))
        elif isinstance(before, np.ndarray):
            assert (before == after).all()
            assert before.dtype == after.dtype
        else:
            assert before == after
    assert again.indices(2).tolist() == [4]


def test_weights_keep_their_tensors_by_name(tmp_path: Path) -> None:
    weights = Weights("talking_gaussian", "face", {"steps": 3}, {}, {"loss": [1.0]})
    weights.tensors.update({"a/b": np.ones((2, 3), np.float32).T, "count": np.array(5), "none": np.zeros((0, 3))})
    weights.save(tmp_path)
    again = Weights.load(tmp_path)
    shapes = {name: tensor.shape for name, tensor in again.tensors.items()}
    assert shapes == {"a/b": (3, 2), "count": (), "none": (0, 3)}
    assert again.config == {"steps": 3}
    assert again.curves == {"loss": [1.0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"valid": np.ones(4, bool)}, "Landmarks.valid"),
        ({"points": np.zeros((3, 477, 2), np.float32)}, "Landmarks.points"),
        ({"points": np.zeros((3, 478, 2))}, "float64"),
        ({"present": [True]}, "not an array"),
    ],
)
def test_a_wrong_shape_is_refused_by_name(change: dict[str, object], message: str) -> None:
    good: dict[str, object] = {
        "source": "truth",
        "points": np.zeros((3, 478, 2), np.float32),
        "present": np.ones(478, bool),
        "valid": np.ones(3, bool),
        "blendshapes": np.zeros((3, 0), np.float32),
    }
    Landmarks(**good)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        Landmarks(**{**good, **change})  # type: ignore[arg-type]


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    units = ActionUnits(
        "test", np.ones((4, 2), np.float32), np.zeros((4, 4), np.float32), np.ones(4, bool), ["AU01", "AU45"]
    )
    units.save(tmp_path)
    path = tmp_path / RECORD_FILE
    good = path.read_bytes()
    for place in range(0, len(good), 7):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :])
        try:
            again = ActionUnits.load(tmp_path)
        except (InputError, UsageError, TypeError, KeyError, ValueError):
            continue
        # A flip in a free-text field of the header may go through; the numbers may not change.
        assert (again.intensity == units.intensity).all()
        assert (again.gaze == units.gaze).all()


@pytest.mark.parametrize("keep", [0, 1, 8, 100])
def test_a_truncated_record_is_an_input_error(tmp_path: Path, keep: int) -> None:
    units = ActionUnits(
        "test", np.ones((4, 2), np.float32), np.zeros((4, 4), np.float32), np.ones(4, bool), ["AU01", "AU45"]
    )
    units.save(tmp_path)
    path = tmp_path / RECORD_FILE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="not a readable record"):
        ActionUnits.load(tmp_path)


def test_a_header_that_is_no_json_is_an_input_error(tmp_path: Path) -> None:
    make_clip(tmp_path).save(tmp_path)
    path = tmp_path / RECORD_FILE
    content = path.read_bytes()
    at = content.index(b'\\"schema')
    path.write_bytes(content[:at] + b"xxxxxxxx" + content[at + 8 :])
    with pytest.raises(InputError, match="not a readable record"):
        Clip.load(tmp_path)


@pytest.mark.parametrize("header", ["{}", "[]", "3", '{"schema": "Clip", "version": 2}'])
def test_a_header_of_something_else_is_an_input_error(tmp_path: Path, header: str) -> None:
    save_file({"a": np.zeros(3)}, tmp_path / RECORD_FILE, metadata={"gausstalk": header})
    with pytest.raises(InputError, match="not a record of this project"):
        Clip.load(tmp_path)


def test_another_kind_of_record_is_refused(tmp_path: Path) -> None:
    make_clip(tmp_path).save(tmp_path)
    with pytest.raises(InputError, match="holds a Clip, not a Landmarks"):
        Landmarks.load(tmp_path)


def test_missing_action_units_are_named() -> None:
    units = ActionUnits(
        "blendshapes", np.ones((4, 1), np.float32), np.zeros((4, 4), np.float32), np.ones(4, bool), ["AU01"]
    )
    with pytest.raises(UsageError, match="AU45"):
        units.columns(("AU01", "AU45"))


def test_frame_store_reads_any_order_and_spans_shards(tmp_path: Path) -> None:
    frames = [np.full((4, 5), index % 251, np.uint8) for index in range(150)]
    store = FrameStore.create(tmp_path / "x.zarr", iter(frames), (4, 5))
    assert len(store) == 150
    assert [int(store[index][0, 0]) for index in (149, 0, 64, 63, -1)] == [149, 0, 64, 63, 149]
    assert [int(frame[1, 1]) for frame in store] == [index % 251 for index in range(150)]
    with pytest.raises(IndexError):
        store[150]
    with pytest.raises(ValueError, match="read-only"):
        store[3][0, 0] = 1
    files = [path for path in (tmp_path / "x.zarr").rglob("*") if path.is_file()]
    assert len(files) < 8


def damage_shard(folder: Path, how: str) -> None:
    (shard,) = folder.glob("frames.zarr/c/1/*/*/*")
    content = bytearray(shard.read_bytes())
    if how == "missing":
        shard.unlink()
    elif how == "cut short":
        shard.write_bytes(content[: len(content) // 2])
    else:  # the end holds the index of the frames, the beginning the first of them
        place = -20 if how == "index" else 2
        content[place] ^= 0xFF
        shard.write_bytes(content)


@pytest.mark.parametrize("how", ["missing", "cut short"])
def test_frames_whose_file_is_not_whole_are_not_taken_for_black_ones(tmp_path: Path, how: str) -> None:
    make_clip(tmp_path, 130).save(tmp_path)
    damage_shard(tmp_path, how)
    with pytest.raises(InputError, match="1 of its 4 files") as raised:
        Clip.load(tmp_path)
    assert "c/1/0/0/0" in raised.value.why
    assert raised.value.fix


def test_black_frames_have_no_file_and_older_records_name_none(tmp_path: Path) -> None:
    save_clip(tmp_path, np.zeros((130, 8, 6, 3), np.uint8)).save(tmp_path)
    assert not (tmp_path / "frames.zarr/c").exists()
    clip = Clip.load(tmp_path)
    assert clip.frames[129].max() == 0
    arrays, meta = load_arrays(tmp_path / RECORD_FILE, "Clip", Clip.VERSION)
    del meta["files"]
    save_arrays(tmp_path / RECORD_FILE, arrays, "Clip", Clip.VERSION, meta)
    assert len(Clip.load(tmp_path)) == 130


@pytest.mark.parametrize("how", ["index", "frame", "cut short"])
def test_damaged_frames_are_an_input_error(tmp_path: Path, how: str) -> None:
    store = make_clip(tmp_path, 130).frames
    damage_shard(tmp_path, how)
    with pytest.raises(InputError, match="damaged"):
        store[64]
    with pytest.raises(InputError, match="damaged"):
        list(store)


@pytest.mark.parametrize("description", ["", "{}", "[]", '{"zarr_format": 3, "node_type": "group"}'])
def test_a_folder_that_is_no_frame_store_is_an_input_error(tmp_path: Path, description: str) -> None:
    make_clip(tmp_path)
    (tmp_path / "frames.zarr/zarr.json").write_text(description)
    with pytest.raises(InputError, match="no readable frame store"):
        FrameStore(tmp_path / "frames.zarr")


def test_frame_store_refuses_nothing_and_odd_frames(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no frames"):
        FrameStore.create(tmp_path / "a.zarr", iter([]), (4, 5))
    with pytest.raises(UsageError, match="shape"):
        FrameStore.create(tmp_path / "b.zarr", iter([np.zeros((4, 4), np.uint8)]), (4, 5))
    with pytest.raises(InputError, match="no readable frame store"):
        FrameStore(tmp_path / "c.zarr")


def test_frames_of_all_stores_share_one_bounded_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FrameCache(500_000)
    monkeypatch.setattr("models.storage.CACHE", cache)
    shape, random = (80, 80, 2), np.random.default_rng(0)
    stores = [
        FrameStore.create(tmp_path / name, (np.full(shape, index % 251, np.uint8) for index in range(200)), shape)
        for name in ("a.zarr", "b.zarr")
    ]
    stores[0][0]  # what zarr needs once is not counted
    tracemalloc.start()
    try:
        for index in map(int, random.integers(0, 200, 800)):
            for store in stores:
                assert (store[index] == index % 251).all()
                assert cache.bytes <= cache.limit
        gc.collect()  # zarr leaves cycles
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 5 MB were there to be held.
    assert 0.9 * cache.limit < held < cache.limit + 200_000
    assert peak < cache.limit + 500_000
    before = cache.bytes
    del store, stores[0]
    gc.collect()
    assert 0 < cache.bytes < before


def test_the_cache_drops_what_was_unused_for_longest() -> None:
    cache, frame = FrameCache(250), np.zeros(100, np.uint8)
    cache.put((0, 0), frame)
    cache.put((0, 1), frame)
    assert cache.get((0, 0)) is frame
    cache.put((1, 0), frame)
    assert cache.get((0, 1)) is None
    assert cache.get((0, 0)) is not None
    cache.drop(0)
    cache.put((1, 0), frame)  # once more: it is held once
    assert cache.bytes == 100
    cache.put((1, 1), np.zeros(1000, np.uint8))  # larger than the limit: it is held, and nothing else
    assert cache.bytes == 1000
    assert cache.get((1, 0)) is None
