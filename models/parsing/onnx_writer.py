"""Writes a convolutional network as an ONNX file, so that it runs without its Python definition, on CPU or CUDA.

torch's own exporter needs the packages onnx and onnxscript. The networks here have a dozen kinds of layers, and an ONNX
file is a plain protocol buffer: the network's graph (torch.fx) is written layer by layer. Field numbers and operators
are those of the ONNX specification, IR version 8, operator set 17.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from models.errors import UsageError

IR_VERSION = 8
OPERATOR_SET = 17
FLOAT, UINT8, INT64 = 1, 2, 7  # TensorProto.DataType
_ATTRIBUTE_TYPES = {"f": 1, "i": 2, "s": 3, "ints": 7}  # AttributeProto.AttributeType
_FUNCTIONS: dict[Any, str] = {operator.add: "Add", operator.sub: "Sub", operator.mul: "Mul", operator.truediv: "Div"}


# --------------------------------------------------------------------------------------------------- protocol buffers


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are written as two's complement of 64 bits
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _attribute(name: str, value: int | float | str | Iterable[int]) -> bytes:
    """Return an AttributeProto."""
    out = _bytes(1, name)
    if isinstance(value, float):
        kind, out = "f", out + _varint(2 << 3 | 5) + np.float32(value).tobytes()
    elif isinstance(value, int):
        kind, out = "i", out + _number(3, value)
    elif isinstance(value, str):
        kind, out = "s", out + _bytes(4, value)
    else:
        kind, out = "ints", out + b"".join(_number(8, int(item)) for item in value)
    return out + _number(20, _ATTRIBUTE_TYPES[kind])


def _tensor(name: str, value: np.ndarray) -> bytes:
    """Return a TensorProto of float32."""
    dims = b"".join(_number(1, size) for size in value.shape)
    return dims + _number(2, FLOAT) + _bytes(8, name) + _bytes(9, np.ascontiguousarray(value, "<f4").tobytes())


def _value(name: str, kind: int, shape: Iterable[int | str]) -> bytes:
    """Return a ValueInfoProto; named sizes are free."""
    sizes = (_bytes(2, size) if isinstance(size, str) else _number(1, size) for size in shape)
    dims = b"".join(_bytes(1, size) for size in sizes)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, dims)))


# ------------------------------------------------------------------------------------------------------------- layers


class _Graph:
    """Collects the nodes and weights of one network."""

    def __init__(self) -> None:
        self.nodes: list[bytes] = []
        self.weights: dict[str, bytes] = {}  # by name: a layer that is used twice has its weights once

    def node(self, kind: str, inputs: Iterable[str], output: str, **attributes: Any) -> str:
        body = b"".join(_bytes(1, name) for name in inputs) + _bytes(2, output) + _bytes(3, output) + _bytes(4, kind)
        self.nodes.append(body + b"".join(_bytes(5, _attribute(k, v)) for k, v in attributes.items()))
        return output

    def weight(self, name: str, value: torch.Tensor | np.ndarray) -> str:
        data = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        self.weights[name] = _tensor(name, data)
        return name


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _convolution(graph: _Graph, layer: nn.Conv2d, name: str, source: str, output: str) -> None:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise UsageError(f"{name}: only zero padding of a given width can be written to ONNX")
    inputs = [source, graph.weight(f"{name}.weight", layer.weight)]
    if layer.bias is not None:
        inputs.append(graph.weight(f"{name}.bias", layer.bias))
    graph.node(
        "Conv", inputs, output, kernel_shape=_pair(layer.kernel_size), strides=_pair(layer.stride),
        pads=2 * _pair(layer.padding), dilations=_pair(layer.dilation), group=layer.groups,
    )  # fmt: skip


def _normalisation(graph: _Graph, layer: nn.BatchNorm2d, name: str, source: str, output: str) -> None:
    parts = ("weight", "bias", "running_mean", "running_var")
    inputs = [source, *(graph.weight(f"{name}.{part}", getattr(layer, part)) for part in parts)]
    graph.node("BatchNormalization", inputs, output, epsilon=float(layer.eps))


def _pooling(graph: _Graph, layer: nn.MaxPool2d, name: str, source: str, output: str) -> None:
    if layer.ceil_mode or layer.dilation != 1:
        raise UsageError(f"{name}: this pooling cannot be written to ONNX")
    sizes = {"kernel_shape": layer.kernel_size, "strides": layer.stride}
    graph.node("MaxPool", [source], output, pads=2 * _pair(layer.padding), **{k: _pair(v) for k, v in sizes.items()})


def _mean(graph: _Graph, layer: nn.AdaptiveAvgPool2d, name: str, source: str, output: str) -> None:
    if layer.output_size not in (1, (1, 1)):
        raise UsageError(f"{name}: only the mean over the whole picture can be written to ONNX")
    graph.node("GlobalAveragePool", [source], output)


def _enlarging(graph: _Graph, layer: nn.Upsample, name: str, source: str, output: str) -> None:
    if layer.scale_factor is None or layer.mode not in ("nearest", "bilinear"):
        raise UsageError(f"{name}: only nearest and bilinear enlarging by a factor can be written to ONNX")
    factor = float(layer.scale_factor)  # type: ignore[arg-type]  # a number in all networks here
    scales = graph.weight(f"{name}.scales", np.array([1, 1, factor, factor], np.float32))
    if layer.mode == "nearest":
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        corners = "align_corners" if layer.align_corners else "half_pixel"
        how = {"mode": "linear", "coordinate_transformation_mode": corners}
    graph.node("Resize", [source, "", scales], output, **how)


_LAYERS: dict[type[nn.Module], Callable[[_Graph, Any, str, str, str], Any]] = {
    nn.Conv2d: _convolution,
    nn.BatchNorm2d: _normalisation,
    nn.MaxPool2d: _pooling,
    nn.AdaptiveAvgPool2d: _mean,
    nn.Upsample: _enlarging,
    nn.ReLU: lambda graph, layer, name, source, output: graph.node("Relu", [source], output),
    nn.Sigmoid: lambda graph, layer, name, source, output: graph.node("Sigmoid", [source], output),
}


def _write_graph(network: nn.Module, graph: _Graph) -> None:
    """Add every operation of a network from "frames" to "scores"."""
    traced = fx.symbolic_trace(network)
    modules = dict(traced.named_modules())
    names: dict[fx.Node, str] = {}
    for node in traced.graph.nodes:
        names[node] = node.name
        inputs = [names[each] for each in node.all_input_nodes]
        if node.op == "placeholder":
            names[node] = "frames"
        elif node.op == "get_attr":
            names[node] = graph.weight(str(node.target), operator.attrgetter(str(node.target))(traced))
        elif node.op == "call_module" and type(modules[str(node.target)]) in _LAYERS:
            layer = modules[str(node.target)]
            _LAYERS[type(layer)](graph, layer, str(node.target), inputs[0], node.name)
        elif node.op == "call_function" and node.target in _FUNCTIONS:
            # all_input_nodes names an operand once even where it occurs twice.
            graph.node(_FUNCTIONS[node.target], [names[each] for each in node.args], node.name)
        elif node.op == "call_function" and node.target is torch.cat:
            graph.node("Concat", [names[each] for each in node.args[0]], node.name, axis=int(node.kwargs["dim"]))
        elif node.op == "output":
            graph.node("Identity", inputs, "scores")
        else:
            raise UsageError(f"{node.op} {node.target} cannot be written to ONNX")


def write_onnx(network: nn.Module, path: Path, classes: int, metadata: Mapping[str, str]) -> None:
    """Write a segmentation network as an ONNX file that appears whole or not at all.

    The file's input "frames" is float32 `[N, 3, H, W]`; its outputs are "scores", float32 `[N, classes, H, W]`, and
    "labels", uint8 `[N, H, W]`, where the score is largest. N, H and W are free as far as the network allows.

    Args:
        network: maps frames to scores; traceable by torch.fx.
        path: of the file.
        classes: how many.
        metadata: texts that are stored in the file.

    Raises:
        UsageError: the network has an operation that is not known here.
    """
    graph = _Graph()
    _write_graph(network.eval(), graph)
    graph.node("ArgMax", ["scores"], "largest", axis=1, keepdims=0)
    graph.node("Cast", ["largest"], "labels", to=UINT8)
    body = b"".join(_bytes(1, node) for node in graph.nodes) + _bytes(2, type(network).__name__)
    body += b"".join(_bytes(5, weight) for weight in graph.weights.values())
    body += _bytes(11, _value("frames", FLOAT, ("N", 3, "H", "W")))
    body += _bytes(12, _value("scores", FLOAT, ("N", classes, "H", "W")))
    body += _bytes(12, _value("labels", UINT8, ("N", "H", "W")))
    model = _number(1, IR_VERSION) + _bytes(2, "gausstalk") + _bytes(7, body) + _bytes(8, _number(2, OPERATOR_SET))
    model += b"".join(_bytes(14, _bytes(1, key) + _bytes(2, text)) for key, text in metadata.items())
    part = path.with_name(path.name + ".part")
    part.write_bytes(model)
    os.replace(part, path)
