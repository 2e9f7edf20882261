"""The official networks: their checkpoints load key by key, run alike in torch and onnxruntime, and are combined."""

import contextlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from official_checkpoints import bisenet as bisenet_shapes
from official_checkpoints import easyportrait as easyportrait_shapes

from models.checkpoints import load_strictly, read_state
from models.errors import InputError, MissingAssetError, UsageError
from models.parsing import bisenet, easyportrait
from models.parsing import labels as L
from models.parsing.networks import bisenet_parser, easyportrait_parser, overlay_teeth


def state(shapes, seed=0):
    """Parameters of which no layer's output dies or grows, so that a wrong layer shows in the scores."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes.items():
        kind = name.rsplit(".", 1)[1]
        if kind == "num_batches_tracked":
            found[name] = torch.tensor(80000)
        elif kind == "running_var" or (kind == "weight" and len(shape) == 1):
            found[name] = 0.5 + torch.rand(shape, generator=generator)
        else:
            scale = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) == 4 else 0.1
            found[name] = scale * torch.randn(shape, generator=generator)
    return found


def frames(count, height, width, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Both networks: the checkpoint as its authors' tools write it, and what becomes of it."""
    folder = tmp_path_factory.mktemp("networks")
    torch.save(state(bisenet_shapes()), folder / "79999_iter.pth")
    # mmcv notes how the training went, with the best score as a NumPy number.
    meta = {"epoch": 100, "CLASSES": ("background", "skin"), "hook_msgs": {"best_score": np.float64(0.83)}}
    torch.save({"meta": meta, "state_dict": state(easyportrait_shapes())}, folder / "fpn-fp-512.pth")
    bisenet.convert(folder / "79999_iter.pth", folder / "bisenet.onnx")
    easyportrait.convert(folder / "fpn-fp-512.pth", folder / "easyportrait.onnx")
    return folder


def test_the_official_files_have_as_many_bytes_as_these_shapes_need():
    # 53,289,463 bytes are published for the one and 108.91 MiB for the other; the container takes the rest.
    def size(shapes):
        return sum(4 * int(np.prod(shape)) if shape else 8 for shape in shapes.values())

    assert 0 < 53_289_463 - size(bisenet_shapes()) < 50_000
    assert size(easyportrait_shapes()) / 2**20 == pytest.approx(108.91, abs=0.01)


@pytest.mark.parametrize(
    ("module", "network", "checkpoint", "file"),
    [
        (bisenet, bisenet.BiSeNet, "79999_iter.pth", "bisenet.onnx"),
        (easyportrait, easyportrait.EasyPortraitFPN, "fpn-fp-512.pth", "easyportrait.onnx"),
    ],
)
def test_a_converted_checkpoint_scores_like_the_network_itself(files, module, network, checkpoint, file):
    import onnxruntime

    net = network().eval()
    net.load_state_dict(read_state(files / checkpoint), strict=True)
    mean, deviation = (torch.tensor(part).view(1, 3, 1, 1) for part in (module.MEAN, module.DEVIATION))
    session = onnxruntime.InferenceSession(str(files / file), providers=["CPUExecutionProvider"])
    for count, height, width in ((2, 64, 96), (1, 512, 512)):
        seen = torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(1)) * 255
        with torch.no_grad():
            expected = net((seen - mean) / deviation).numpy()
        scores, labels = session.run(["scores", "labels"], {"frames": seen.numpy()})
        assert expected.shape == (count, len(module.CLASSES), height, width)
        assert expected.std() > 0.1
        np.testing.assert_allclose(scores, expected, atol=1e-4 * np.abs(expected).max())
        np.testing.assert_array_equal(labels, scores.argmax(1))


@pytest.mark.parametrize("open_parser", [bisenet_parser, easyportrait_parser])
def test_a_batch_gives_what_single_frames_give_at_any_size(files, open_parser):
    file = "bisenet.onnx" if open_parser is bisenet_parser else "easyportrait.onnx"
    parser = open_parser(files / file)
    seen = frames(2, 70, 90)
    together = parser.label(seen)
    assert [labels.shape for labels in together] == [(70, 90), (70, 90)]
    np.testing.assert_array_equal(together[1], parser.label(seen[1:])[0])
    assert set(np.unique(together)) <= set(range(L.COUNT - 1))
    assert parser.label([]) == []


def test_every_official_class_has_a_label():
    assert len(bisenet.CLASSES) == 19
    assert len(easyportrait.CLASSES) == 8
    by_name = dict(bisenet.CLASSES) | dict(easyportrait.CLASSES)
    assert by_name["teeth"] == L.TEETH
    assert by_name["mouth"] == L.MOUTH
    assert by_name["left ear"] == by_name["nose"] == L.SKIN
    assert by_name["necklace"] in L.TORSO
    assert by_name["hat"] in L.HEAD


def test_a_converted_file_of_another_network_is_refused(files):
    with pytest.raises(UsageError, match="is not the network"):
        bisenet_parser(files / "easyportrait.onnx")


class _Canary:
    """Calls a function when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_that_calls_anything_is_refused_and_calls_nothing(tmp_path):
    sung = tmp_path / "sung"
    torch.save({"state_dict": {}, "meta": _Canary(sung)}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="cannot be read"):
        bisenet.convert(tmp_path / "evil.pth", tmp_path / "evil.onnx")
    assert not sung.exists()
    assert not (tmp_path / "evil.onnx").exists()


def test_without_the_package_onnx_the_message_says_how_to_get_it(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingAssetError, match="onnx") as raised:
        bisenet.convert(files / "79999_iter.pth", tmp_path / "bisenet.onnx")
    assert "[convert]" in raised.value.fix
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_refused(files, tmp_path):
    cut = tmp_path / "cut.pth"
    cut.write_bytes((files / "79999_iter.pth").read_bytes()[:100_000])
    with pytest.raises(InputError, match="cut.pth"):
        read_state(cut)
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    with pytest.raises(InputError, match="page.pth") as raised:
        read_state(tmp_path / "page.pth")
    assert "weights_only" not in str(raised.value)  # nobody is told to run what is in it


def test_no_damage_to_a_checkpoint_ends_in_a_traceback(tmp_path):
    path, random = tmp_path / "weights.pth", np.random.default_rng(1)
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    good = path.read_bytes()
    for place in random.integers(0, len(good), 300):
        path.write_bytes(good[:place] + random.bytes(2) + good[place + 2 :])
        with contextlib.suppress(InputError):
            read_state(path)


@pytest.mark.parametrize("change", ["lacks", "unknown", "shape"])
def test_a_checkpoint_that_differs_in_one_parameter_is_refused_by_name(change):
    given = {name: torch.zeros(shape) for name, shape in bisenet_shapes().items()}
    name = "ffm.conv1.weight"
    if change == "lacks":
        del given[name]
    elif change == "unknown":
        name = "sp.conv1.conv.weight"
        given[name] = torch.zeros(1)
    else:
        given[name] = torch.zeros(64, 256, 3, 3)
    with pytest.raises(InputError) as error:
        load_strictly(bisenet.BiSeNet(), given, "79999_iter.pth")
    assert name in str(error.value)


def a_mouth():
    """A face with a mouth of two rows between its lips, and teeth found in the upper row, on a lip and on the neck."""
    labels = np.full((40, 40), L.SKIN, np.uint8)
    labels[32:] = L.NECK
    labels[18:22, 10:30] = L.LIPS
    labels[19:21, 12:28] = L.MOUTH
    teeth = np.zeros((40, 40), bool)
    teeth[18:20, 14:26] = True
    teeth[36, 3:6] = True
    return labels, teeth


def test_teeth_belong_to_the_mouth_alone_and_false_ones_are_left_out():
    labels, teeth = a_mouth()
    found = overlay_teeth(labels, teeth)
    assert (found[18:20, 14:26] == L.TEETH).all()
    assert not L.head(found)[18:20, 14:26].any()
    assert (found == L.TEETH).sum() == 24
    np.testing.assert_array_equal(found[~teeth], labels[~teeth])
    assert (found[36] == labels[36]).all()


def test_shared_teeth_are_the_masks_of_the_original():
    labels, teeth = a_mouth()
    teeth[36, 3:6] = False
    found = overlay_teeth(labels, teeth, shared=True)
    face, mouth = L.select(labels, L.FACE), labels == L.MOUTH
    np.testing.assert_array_equal(L.head(found), face ^ teeth)
    np.testing.assert_array_equal(L.inside_mouth(found), mouth | teeth)
    # Where both claim a pixel, its colour is the mouth's.
    np.testing.assert_array_equal(L.select(found, L.HEAD_ALONE), L.head(found) & ~L.inside_mouth(found))
