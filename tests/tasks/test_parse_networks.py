"""The papers' parsers as a stage: networks with random weights label a few frames."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from saved_clip import save_clip

from models.errors import MissingAssetError, UsageError
from models.parsing import bisenet, easyportrait
from models.parsing import labels as L
from models.parsing.networks import bisenet_parser, easyportrait_parser, overlay_teeth
from models.records import Clip, Landmarks, Masks
from tasks import device, parse
from tasks.places import Keys, Places
from tasks.stage import execute

ASSET = '[{name}]\nfile = "{name}.onnx"\nurl = ""\nsha256 = ""\nbytes = 1\nlicence = "none"\nwhat = "a network"\n'


KEYS = Keys(speaker="drawn")
COUNT, SIZE = 5, 64


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    places, rng = Places(root), np.random.default_rng(0)
    folder = root / "data" / "assets"
    folder.mkdir(parents=True)
    (root / "data" / "speakers").mkdir()
    places.speaker_record("drawn").write_text("name: Drawn\nbasis: synthetic\nsources: [video.mp4]\n")
    (root / "data" / "assets.toml").write_text(ASSET.format(name="bisenet") + ASSET.format(name="easyportrait"))
    torch.manual_seed(0)
    teeth_everywhere = easyportrait.EasyPortraitFPN()
    torch.nn.init.constant_(teeth_everywhere.decode_head.conv_seg.bias[7], 10)
    for module, network in ((bisenet, bisenet.BiSeNet()), (easyportrait, teeth_everywhere)):
        name = module.__name__.rsplit(".", 1)[1]
        torch.save(network.state_dict(), folder / "checkpoint.pth")
        module.convert(folder / "checkpoint.pth", folder / f"{name}.onnx")
    points = rng.uniform(20, 44, (478, 2)).astype(np.float32)
    points[[33, 263]] = (22, 26), (42, 26)
    frames = list(rng.integers(0, 256, (COUNT, SIZE, SIZE, 3), np.uint8))
    save_clip(places.record("ingest", KEYS), frames, speaker="drawn")
    Landmarks(
        source="truth",
        points=np.repeat(points[None], COUNT, 0),
        present=np.ones(478, bool),
        valid=np.ones(COUNT, bool),
        blendshapes=np.zeros((COUNT, 0), np.float32),
    ).save(places.record("landmarks", KEYS))
    return places


def run(places, **params) -> Masks:
    execute(parse.STAGE, parse.run, KEYS, places, parse.ParseParams(learning_frames=4, **params))
    return Masks.load(places.record("parse", KEYS))


def test_bisenet_gives_the_labels_and_colours_the_teeth(places):
    masks = run(places, parser="bisenet")
    frames = Clip.load(places.record("ingest", KEYS)).frames
    expected = bisenet_parser(places.root / "data/assets/bisenet.onnx").label([frames[0]])[0]
    assert masks.parser == "bisenet"
    assert len(masks.labels) == len(frames)
    found = np.where(masks.labels[0] == L.TEETH, L.MOUTH, masks.labels[0])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shared", [False, True])
def test_the_papers_combination_lays_teeth_over_bisenet(places, shared):
    masks = run(places, parser="bisenet", teeth="easyportrait", shared_teeth=shared)
    frame = Clip.load(places.record("ingest", KEYS)).frames[0]
    folder: Path = places.root / "data" / "assets"
    below = bisenet_parser(folder / "bisenet.onnx").label([frame])[0]
    teeth = easyportrait_parser(folder / "easyportrait.onnx").label([frame])[0] == L.TEETH
    assert masks.parser == "bisenet+easyportrait"
    np.testing.assert_array_equal(masks.labels[0], overlay_teeth(below, teeth, shared))
    assert (masks.labels[0] == (L.SHARED_TEETH if shared else L.TEETH)).any()


@pytest.mark.parametrize("wanted", ["cpu", "cuda"])
def test_the_networks_run_where_stages_compute(places, monkeypatch, wanted):
    opened = []

    def session(path, options, providers):
        opened.append(providers)
        return open_on_cpu(path, options, providers=["CPUExecutionProvider"])

    open_on_cpu = onnxruntime.InferenceSession
    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(device, "look_for_cuda", lambda: (True, None))
    monkeypatch.setenv("GAUSSTALK_DEVICE", wanted)
    run(places, parser="bisenet", teeth="easyportrait")
    assert opened == [there if wanted == "cuda" else there[1:]] * 2


def test_teeth_of_the_network_lie_over_the_default_parser_too(places):
    masks = run(places, parser="colour", teeth="easyportrait")
    assert masks.parser == "colour+easyportrait"


def test_shared_teeth_need_the_network(places):
    with pytest.raises(UsageError, match="shared_teeth"):
        run(places, parser="colour", shared_teeth=True)


def test_a_network_that_is_not_here_is_named(places, monkeypatch):
    monkeypatch.delenv("GAUSSTALK_ASSETS", raising=False)
    (places.root / "data/assets/bisenet.onnx").rename(places.root / "data/assets/away.onnx")
    try:
        with pytest.raises(MissingAssetError, match="bisenet"):
            run(places, parser="bisenet")
    finally:
        (places.root / "data/assets/away.onnx").rename(places.root / "data/assets/bisenet.onnx")
