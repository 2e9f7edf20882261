"""What training sees of a clip: the right windows of sound, and no more memory for a longer clip."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.parsing import labels
from models.records import Layers
from models.storage import FrameCache, FrameStore
from tasks.material import Box, Footage, windows_of

SIZE = 64


def test_windows_are_the_neighbours_held_beyond_the_ends():
    values = np.arange(1, 13, dtype=np.float32).reshape(12, 1, 1).repeat(2, 1)
    padded = np.concatenate([values[:1].repeat(4, 0), values, values[-1:].repeat(3, 0)])
    for index in range(12):
        np.testing.assert_array_equal(windows_of(torch.from_numpy(values), index).numpy(), padded[index : index + 8])
    assert windows_of(torch.from_numpy(values[:2]), 1).flatten(1)[:, 0].tolist() == [1, 1, 1, 1, 2, 2, 2, 2]


def footage_of(folder, count):
    """Frames, labels and torso of a clip, whose every frame tells its number."""

    def store(name, shape):
        return FrameStore.create(folder / name, (np.full(shape, t % 12, np.uint8) for t in range(count)), shape)

    plates = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    return Footage(
        clip=SimpleNamespace(frames=store("frames.zarr", (SIZE, SIZE, 3))),
        points=np.zeros((0, 478, 2), np.float32),
        valid=np.ones(count, bool),
        poses=np.zeros((0, 4, 4), np.float32),
        track=None,
        masks=SimpleNamespace(labels=store("labels.zarr", (SIZE, SIZE))),
        layers=Layers(store("torso.zarr", (SIZE, SIZE, 4)), plates, np.zeros(count, np.int32)),
    )


@pytest.mark.parametrize("count", [150, 600])
def test_memory_does_not_grow_with_the_clip(tmp_path, monkeypatch, count):
    cache = FrameCache(1_000_000)
    monkeypatch.setattr("models.storage.CACHE", cache)
    footage, box = footage_of(tmp_path, count), Box(8, 16, 40, 56)
    footage.frame(0, box), footage.mask(0, box, labels.HEAD), footage.behind(0, box)  # what libraries need once
    tracemalloc.start()
    try:
        for index in map(int, np.random.default_rng(0).permutation(count)):
            frame, behind = footage.frame(index, box), footage.behind(index, box)
            assert frame.shape == behind.shape == (40, 32, 3)
            assert round(frame.mean().item() * 255) == index % 12
            assert footage.mask(index, box, (index % 12,)).all()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The clip's images are 5 and 20 MB.
    assert 0.9 * cache.limit < cache.bytes <= cache.limit
    assert peak < cache.limit + 500_000


def test_what_is_scattered_as_released_is_as_wide_as_it_is_apart(tmp_path, monkeypatch):
    footage = footage_of(tmp_path, 1)
    monkeypatch.setattr(Footage, "head_center", torch.tensor([0.0, 0.1, 0.6]))
    for first in (footage.first_face, footage.first_mouth):
        field = first(2000, 3, 2, 0.1, "cube")
        centered = field.means - footage.head_center
        assert (centered.abs().max().item(), len(field)) == (pytest.approx(0.1, abs=1e-3), 2000)
        nearest = torch.cdist(field.means, field.means).topk(4, largest=False).values[:, 1:].mean(1)
        torch.testing.assert_close(field.scales, nearest[:, None].expand(-1, 3), rtol=2e-3, atol=1e-5)
