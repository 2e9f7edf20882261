"""A network with the inputs and outputs of SFace and random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write(path: Path, side: int = 112, count: int = 128) -> Path:
    random = np.random.default_rng(0)
    weights = {
        "w": random.standard_normal((8, 3, 8, 8)) / 255,
        "v": random.standard_normal((8 * (side // 8) ** 2, count)) / 20,
    }
    nodes = [
        helper.make_node("Conv", ["data", "w"], ["a"], strides=[8, 8], kernel_shape=[8, 8]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "v"], ["fc1"]),
    ]
    graph = helper.make_graph(
        nodes,
        "recogniser",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [1, count])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path
