"""LPIPS against a plain reading of its formula, its files against the official names, and what a loss needs of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from models.errors import InputError, UsageError
from models.perceptual import caffe_squeezenet
from models.perceptual.lpips import SCALE, SHIFT, PerceptualDistance, load
from models.perceptual.networks import NETWORKS, convert, load_features, official_shapes, write

# The convolutions of the official checkpoints, from their public definitions: name, outputs, inputs, kernel's side.
ALEX = [(0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3)]
VGG = [(0, 64, 3), (2, 64, 64), (5, 128, 64), (7, 128, 128), (10, 256, 128), (12, 256, 256), (14, 256, 256),
       (17, 512, 256), (19, 512, 512), (21, 512, 512), (24, 512, 512), (26, 512, 512), (28, 512, 512)]  # fmt: skip
FIRES = [(3, 64, 16, 64), (4, 128, 16, 64), (6, 128, 32, 128), (7, 256, 32, 128), (9, 256, 48, 192), (10, 384, 48, 192),
         (11, 384, 64, 256), (12, 512, 64, 256)]  # fmt: skip
BYTES = {"alex": 244408911, "vgg": 553433881, "squeeze": 4958839}
HEADS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512),
         "squeeze": (64, 128, 256, 384, 384, 512, 512)}  # fmt: skip


def checkpoint_shapes(name):
    weights = {
        "alex": {f"features.{k}": (o, i, s, s) for k, o, i, s in ALEX}
        | {"classifier.1": (4096, 9216), "classifier.4": (4096, 4096), "classifier.6": (1000, 4096)},
        "vgg": {f"features.{k}": (o, i, 3, 3) for k, o, i in VGG}
        | {"classifier.0": (4096, 25088), "classifier.3": (4096, 4096), "classifier.6": (1000, 4096)},
        "squeeze": {"features.0": (64, 3, 3, 3), "classifier.1": (1000, 512, 1, 1)},
    }[name]
    if name == "squeeze":
        for k, inputs, few, many in FIRES:
            weights[f"features.{k}.squeeze"] = (few, inputs, 1, 1)
            weights[f"features.{k}.expand1x1"] = (many, few, 1, 1)
            weights[f"features.{k}.expand3x3"] = (many, few, 3, 3)
    return {f"{key}.weight": shape for key, shape in weights.items()} | {
        f"{key}.bias": shape[:1] for key, shape in weights.items()
    }


def state(name, seed=0):
    """Random parameters that let a picture through to the end; those of the classifier take no memory."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for key, shape in checkpoint_shapes(name).items():
        if key.startswith("classifier"):
            found[key] = torch.zeros(1).expand(shape)
        elif len(shape) > 1:
            found[key] = torch.randn(shape, generator=generator) * (2 / np.prod(shape[1:])) ** 0.5
        else:
            found[key] = 0.1 * torch.randn(shape, generator=generator)
    return found


def heads(name, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(count, generator=generator) for count in HEADS[name]]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Features and heads of the three networks as they lie on a disk."""
    folder = tmp_path_factory.mktemp("lpips")
    for name in NETWORKS:
        write(name, state(name), folder / f"{name}.safetensors", "torchvision", name)
        official = {f"lin{k}.model.1.weight": w.reshape(1, -1, 1, 1) for k, w in enumerate(heads(name))}
        torch.save(official, folder / f"{name}.pth")
    return folder


def distance(files, name):
    return load(name, files / f"{name}.safetensors", files / f"{name}.pth")


def pictures(side=64, seed=0):
    """Two smooth pictures `[3, side, side]` in -1..1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, 3, 7, 7, generator=generator) * 2 - 1
    return F.interpolate(coarse, size=(side, side), mode="bicubic").clamp(-1, 1)


def plain_lpips(name, image, target):
    """LPIPS as the paper writes it, in float64, layer by layer on the parameters of `state`."""
    p = {key: value.double() for key, value in state(name).items() if key.startswith("features")}

    def convolve(x, key, **how):
        return F.conv2d(x, p[f"features.{key}.weight"], p[f"features.{key}.bias"], **how)

    def fire(x, k):
        x = F.relu(convolve(x, f"{k}.squeeze"))
        return F.relu(torch.cat([convolve(x, f"{k}.expand1x1"), convolve(x, f"{k}.expand3x3", padding=1)], 1))

    def taps(x):
        if name == "alex":
            x = F.relu(convolve(x, 0, stride=4, padding=2))
            yield x
            x = F.relu(convolve(F.max_pool2d(x, 3, 2), 3, padding=2))
            yield x
            x = F.max_pool2d(x, 3, 2)
            for k in (6, 8, 10):
                x = F.relu(convolve(x, k, padding=1))
                yield x
        elif name == "vgg":
            for number, stage in enumerate(((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))):
                x = F.max_pool2d(x, 2) if number else x
                for k in stage:
                    x = F.relu(convolve(x, k, padding=1))
                yield x
        else:
            x = F.relu(convolve(x, 0, stride=2))
            yield x
            for pair in ((3, 4), (6, 7), (9,)):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
                for k in pair:
                    x = fire(x, k)
                yield x
            for k in (10, 11, 12):
                x = fire(x, k)
                yield x

    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64)[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64)[:, None, None]
    total = 0.0
    both = [list(taps((side.double()[None] - shift) / scale)) for side in (image, target)]
    for own, other, weights in zip(*both, heads(name), strict=True):
        units = [f[0].numpy() / (np.sqrt((f[0].numpy() ** 2).sum(0)) + 1e-10) for f in (own, other)]
        total += (weights.double().numpy()[:, None, None] * (units[0] - units[1]) ** 2).sum(0).mean()
    return total


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_formula_of_the_paper(files, name):
    image, target = pictures(67)
    expected = plain_lpips(name, image, target)
    assert expected > 0.01
    assert float(distance(files, name)(image, target)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_official_checkpoint_is_known_key_by_key(name):
    shapes = checkpoint_shapes(name)
    assert official_shapes(name) == shapes
    # The published files have as many bytes as these numbers take, and a container round them.
    assert 0 < BYTES[name] - 4 * sum(int(np.prod(shape)) for shape in shapes.values()) < 60_000


def test_a_checkpoint_becomes_its_features(tmp_path):
    parameters = {key: value.contiguous() for key, value in state("squeeze").items()}
    torch.save(parameters, tmp_path / "squeezenet.pth")
    convert(tmp_path / "squeezenet.pth", tmp_path / "out.safetensors")
    kept = load_file(tmp_path / "out.safetensors")
    assert {f"features.{key}" for key in kept} == {key for key in parameters if key.startswith("features")}
    torch.testing.assert_close(kept["12.squeeze.weight"], parameters["features.12.squeeze.weight"])
    layers, origin = load_features("squeeze", tmp_path / "out.safetensors")
    assert origin == "torchvision"
    assert not any(parameter.requires_grad for parameter in layers.parameters())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("features.4.squeeze.bias"), "lacks features.4.squeeze.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "has extra"),
        (lambda s: s.update({"classifier.1.bias": torch.zeros(10)}), "classifier.1.bias is"),
    ],
)
def test_another_checkpoint_is_refused(tmp_path, change, told):
    parameters = {key: value.contiguous() for key, value in state("squeeze").items()}
    change(parameters)
    torch.save(parameters, tmp_path / "x.pth")
    with pytest.raises(InputError, match="not the checkpoint of squeeze") as refused:
        convert(tmp_path / "x.pth", tmp_path / "x.safetensors")
    assert told in str(refused.value)
    assert not (tmp_path / "x.safetensors").exists()


def test_files_of_another_network_are_refused(files, tmp_path):
    with pytest.raises(InputError, match="not the network alex"):
        load("alex", files / "vgg.safetensors", files / "alex.pth")
    with pytest.raises(InputError, match="LPIPS alex"):
        load("alex", files / "alex.safetensors", files / "squeeze.pth")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        load("alex", tmp_path / "broken.safetensors")
    with pytest.raises(UsageError, match="resnet"):
        load("resnet", files / "alex.safetensors")


def test_weights_of_channels_go_with_one_training_only(files, tmp_path):
    write("squeeze", state("squeeze"), tmp_path / "other.safetensors", "somebody", "other")
    with pytest.raises(UsageError, match="whose channels are others"):
        load("squeeze", tmp_path / "other.safetensors", files / "squeeze.pth")
    image, target = pictures()
    plain = load("squeeze", tmp_path / "other.safetensors")
    ones = PerceptualDistance("squeeze", plain.layers, [torch.ones(count) for count in HEADS["squeeze"]])
    torch.testing.assert_close(plain(image, target), ones(image, target))


@pytest.mark.parametrize("name", NETWORKS)
def test_equal_pictures_have_no_distance_and_noise_adds_to_it(files, name):
    measure, (image, _) = distance(files, name), pictures()
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
    found = [float(measure((image + amount * noise).clamp(-1, 1), image)) for amount in (0, 0.02, 0.1, 0.4)]
    assert found[0] == 0
    assert found == sorted(found)
    assert found[1] > 0
    other = float(measure(image, image + 0.1 * noise))
    assert other == pytest.approx(float(measure(image + 0.1 * noise, image)))


@pytest.mark.parametrize("name", NETWORKS)
def test_too_small_a_picture_is_an_error_that_says_the_size(files, name):
    measure, side = distance(files, name), NETWORKS[name].smallest
    a, b = pictures(side)
    assert torch.isfinite(measure(a, b))
    a, b = pictures(side - 1)
    with pytest.raises(UsageError, match=f"{side - 1} x {side - 1}") as told:
        measure(a, b)
    assert f"{side} x {side}" in str(told.value)
    with pytest.raises(RuntimeError):  # the layers themselves would not do it either
        measure.layers(torch.zeros(1, 3, side - 1, side - 1))


def test_pictures_that_do_not_fit_are_refused(files):
    measure = distance(files, "squeeze")
    with pytest.raises(UsageError, match="against"):
        measure(torch.zeros(3, 32, 32), torch.zeros(3, 32, 40))
    with pytest.raises(UsageError, match=r"\[B, 3, H, W\]"):
        measure(torch.zeros(1, 32, 32), torch.zeros(1, 32, 32))


def test_a_batch_is_its_pictures_and_a_target_is_looked_at_once(files):
    measure = distance(files, "squeeze")
    pairs = [pictures(40, seed) for seed in (0, 1, 2)]
    images, targets = (torch.stack([pair[k] for pair in pairs]) for k in (0, 1))
    found = measure(images, targets)
    torch.testing.assert_close(found, torch.stack([measure(a, b) for a, b in pairs]))
    torch.testing.assert_close(measure.between(measure.features(images), measure.features(targets)), found)


@pytest.mark.parametrize("name", NETWORKS)
def test_its_slope_is_that_of_differences(files, name):
    # Rectifiers have corners; away from them the slope along a direction is what small steps give.
    measure = distance(files, name).double()
    image, target = pictures(33).double()
    image.requires_grad_()
    measure(image, target).backward()
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    step = 1e-6
    with torch.no_grad():
        ahead, behind = (float(measure(image + sign * step * direction, target)) for sign in (1, -1))
    assert float((image.grad * direction).sum()) == pytest.approx((ahead - behind) / (2 * step), rel=1e-3)


def test_features_of_nought_have_a_finite_slope():
    layers = NETWORKS["squeeze"].make()
    for parameter in layers.parameters():
        parameter.data.zero_()
    image = torch.rand(3, 32, 32, requires_grad=True)
    PerceptualDistance("squeeze", layers)(image, torch.rand(3, 32, 32)).backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()


def test_following_the_slope_makes_the_picture_alike(files):
    measure, (image, target) = distance(files, "squeeze"), pictures(40)
    moving = image.clone().requires_grad_()
    optimiser = torch.optim.Adam([moving], 0.02)
    for _ in range(30):
        optimiser.zero_grad()
        loss = measure(moving, target)
        loss.backward()
        optimiser.step()
    assert float(measure(moving.detach(), target)) < 0.6 * float(measure(image, target))


# --- What is really on a machine -----------------------------------------------------------------------------------


@pytest.mark.assets
@pytest.mark.parametrize("name", NETWORKS)
def test_the_official_heads_load(assets: Path, files, name):
    path = assets / "weights" / f"lpips_v0.1_{name}.pth"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    measure = load(name, files / f"{name}.safetensors", path)
    weights = [measure.get_buffer(f"weights{k}") for k in range(len(HEADS[name]))]
    assert all((w >= 0).all() and w.max() > 0 for w in weights)


@pytest.fixture(scope="module")
def openvino(assets: Path, tmp_path_factory):
    """The folder of SqueezeNet's description and numbers, as a conversion gets them."""
    folder = tmp_path_factory.mktemp("openvino")
    for path in (assets / "weights").glob("squeezenet1.1_fp16_openvino.*"):
        (folder / path.name).symlink_to(path)
    if len(list(folder.iterdir())) != 2:
        pytest.skip("no SqueezeNet of OpenVINO")
    return folder


@pytest.mark.assets
def test_the_squeezenet_of_its_authors_knows_a_cat_and_a_coffee(openvino, tmp_path):
    import cv2
    from skimage import data

    caffe_squeezenet.convert(openvino, tmp_path / "s.safetensors")
    layers, _ = load_features("squeeze", tmp_path / "s.safetensors")
    described, numbers = (next(openvino.glob(f"*.{ending}")) for ending in ("xml", "bin"))
    last = dict(caffe_squeezenet.read_layers(described, numbers))["conv10"]
    for picture, classes in ((data.chelsea(), {281, 282, 285}), (data.coffee(), {967})):  # cats; espresso
        side = min(picture.shape[:2])
        square = picture[:side, (picture.shape[1] - side) // 2 :][:, :side]
        small = cv2.resize(square, (227, 227), interpolation=cv2.INTER_AREA)
        x = torch.from_numpy(small).permute(2, 0, 1)[None] / 127.5 - 1
        x = (x - torch.tensor(SHIFT)[:, None, None]) / torch.tensor(SCALE)[:, None, None]
        scores = F.relu(F.conv2d(layers(x), last["weight"], last["bias"])).mean((2, 3)).softmax(1)[0]
        assert int(scores.argmax()) in classes
        assert float(scores[list(classes)].sum()) > 0.8


@pytest.mark.assets
def test_taking_in_the_colours_changes_nothing(openvino):
    described, numbers = (next(openvino.glob(f"*.{ending}")) for ending in ("xml", "bin"))
    first = dict(caffe_squeezenet.read_layers(described, numbers))["conv1"]
    state = {f"features.0.{name}": value.clone() for name, value in first.items()}
    caffe_squeezenet.take_in_colours(state)
    rgb = torch.randint(0, 256, (1, 3, 20, 20), generator=torch.Generator().manual_seed(0)).float()
    bgr = rgb.flip(1) - torch.tensor([104.0, 117.0, 123.0])[:, None, None]
    ours = (rgb / 127.5 - 1 - torch.tensor(SHIFT)[:, None, None]) / torch.tensor(SCALE)[:, None, None]
    torch.testing.assert_close(
        F.conv2d(ours, state["features.0.weight"], state["features.0.bias"]),
        F.conv2d(bgr, first["weight"], first["bias"]),
        atol=1e-3,
        rtol=1e-4,
    )


@pytest.mark.assets
def test_a_damaged_description_is_refused(openvino, tmp_path):
    described, numbers = (next(openvino.glob(f"*.{ending}")) for ending in ("xml", "bin"))
    (tmp_path / "a.xml").write_bytes(described.read_bytes())
    (tmp_path / "a.bin").write_bytes(numbers.read_bytes()[:100_000])
    with pytest.raises(InputError, match="cannot be read"):
        caffe_squeezenet.convert(tmp_path, tmp_path / "s.safetensors")
    (tmp_path / "a.xml").write_text("<net><layers>")
    with pytest.raises(InputError, match="cannot be read"):
        caffe_squeezenet.convert(tmp_path, tmp_path / "s.safetensors")
    with pytest.raises(InputError):
        caffe_squeezenet.convert(tmp_path / "nowhere", tmp_path / "s.safetensors")
