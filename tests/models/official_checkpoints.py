"""What is in the official checkpoints of the parsing networks: every parameter's name and shape, as rules.

Taken from the public definitions of the networks that wrote them, not from the definitions in models/parsing.
"""

Shapes = dict[str, tuple[int, ...]]


def convolution(name: str, outputs: int, inputs: int, kernel: int, bias: bool = False) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (outputs, inputs, kernel, kernel)}
    return shapes | ({f"{name}.bias": (outputs,)} if bias else {})


def normalisation(name: str, channels: int) -> Shapes:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def unit(name: str, outputs: int, inputs: int, kernel: int) -> Shapes:
    return convolution(f"{name}.conv", outputs, inputs, kernel) | normalisation(f"{name}.bn", outputs)


def bisenet() -> Shapes:
    """79999_iter.pth: 191 entries."""
    shapes = convolution("cp.resnet.conv1", 64, 3, 7) | normalisation("cp.resnet.bn1", 64)
    for layer, inputs, outputs in ((1, 64, 64), (2, 64, 128), (3, 128, 256), (4, 256, 512)):
        for block in (0, 1):
            name = f"cp.resnet.layer{layer}.{block}"
            shapes |= convolution(f"{name}.conv1", outputs, outputs if block else inputs, 3)
            shapes |= normalisation(f"{name}.bn1", outputs)
            shapes |= convolution(f"{name}.conv2", outputs, outputs, 3) | normalisation(f"{name}.bn2", outputs)
            if block == 0 and layer > 1:
                shapes |= convolution(f"{name}.downsample.0", outputs, inputs, 1)
                shapes |= normalisation(f"{name}.downsample.1", outputs)
    for name, inputs in (("cp.arm16", 256), ("cp.arm32", 512)):
        shapes |= unit(f"{name}.conv", 128, inputs, 3) | convolution(f"{name}.conv_atten", 128, 128, 1)
        shapes |= normalisation(f"{name}.bn_atten", 128)
    shapes |= unit("cp.conv_head32", 128, 128, 3) | unit("cp.conv_head16", 128, 128, 3)
    shapes |= unit("cp.conv_avg", 128, 512, 1) | unit("ffm.convblk", 256, 256, 1)
    shapes |= convolution("ffm.conv1", 64, 256, 1) | convolution("ffm.conv2", 256, 64, 1)
    for name, inputs, width in (("conv_out", 256, 256), ("conv_out16", 128, 64), ("conv_out32", 128, 64)):
        shapes |= unit(f"{name}.conv", width, inputs, 3) | convolution(f"{name}.conv_out", 19, width, 1)
    return shapes


def easyportrait() -> Shapes:
    """fpn-fp-512.pth: 390 entries under "state_dict"."""
    shapes: Shapes = {}
    for index, outputs, inputs in ((0, 32, 3), (3, 32, 32), (6, 64, 32)):
        shapes |= convolution(f"backbone.stem.{index}", outputs, inputs, 3)
        shapes |= normalisation(f"backbone.stem.{index + 1}", outputs)
    inputs = 64
    for layer, width, blocks in ((1, 64, 3), (2, 128, 4), (3, 256, 6), (4, 512, 3)):
        for block in range(blocks):
            name = f"backbone.layer{layer}.{block}"
            shapes |= convolution(f"{name}.conv1", width, inputs, 1) | normalisation(f"{name}.bn1", width)
            shapes |= convolution(f"{name}.conv2", width, width, 3) | normalisation(f"{name}.bn2", width)
            shapes |= convolution(f"{name}.conv3", 4 * width, width, 1) | normalisation(f"{name}.bn3", 4 * width)
            if block == 0:
                shapes |= convolution(f"{name}.downsample.0", 4 * width, inputs, 1)
                shapes |= normalisation(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width
    for level, channels in enumerate((256, 512, 1024, 2048)):
        shapes |= convolution(f"neck.lateral_convs.{level}.conv", 256, channels, 1, bias=True)
        shapes |= convolution(f"neck.fpn_convs.{level}.conv", 256, 256, 3, bias=True)
    # Between the convolutions of a level stand enlargements, which have no parameters but take a number.
    for level, places in enumerate(((0,), (0,), (0, 2), (0, 2, 4))):
        for place in places:
            shapes |= unit(f"decode_head.scale_heads.{level}.{place}", 128, 128 if place else 256, 3)
    return shapes | convolution("decode_head.conv_seg", 8, 128, 1, bias=True)
