"""Speech models in the official files' formats, a thousand times smaller, and sound to try them on."""

import struct
from pathlib import Path

import numpy as np

RATE = 16000
CELL, HIDDEN, THIRD = 5, 6, 8  # of the small DeepSpeech: LSTM, layers 1, 2 and 5, layer 3


def speech_like(seconds: float, seed: int = 0) -> np.ndarray:
    """Syllables of coloured noise with pauses, int16."""
    random = np.random.default_rng(seed)
    count = round(seconds * RATE)
    noise = np.convolve(random.normal(0, 1, count + 7), np.ones(8) / 8, "valid")
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * np.arange(count) / RATE), 0, 1)
    pauses = np.sin(2 * np.pi * 0.4 * np.arange(count) / RATE) > -0.6
    return (noise * syllables * pauses * 6000 + random.normal(0, 8, count)).astype(np.int16)


# ------------------------------------------------------------------------------------- a frozen graph of TensorFlow


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, content: bytes | str | int) -> bytes:
    """One field of a protocol-buffer message."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def node(name: str, operation: str, attributes: dict[str, bytes] | None = None, inputs: tuple[str, ...] = ()) -> bytes:
    """One NodeDef as a field of the graph."""
    body = field(1, name) + field(2, operation) + b"".join(field(3, source) for source in inputs)
    for key, value in (attributes or {}).items():
        body += field(5, field(1, key) + field(2, value))
    return field(1, body)


def constant(name: str, values: np.ndarray, kind: int = 1, packed: bool = False, once: bool = False) -> bytes:
    """A node "Const" of float32 (kind 1) or int32 (3), its numbers as bytes, as packed floats, or one for all."""
    shape = b"".join(field(2, field(1, size)) for size in values.shape)
    data = values.astype("<f4" if kind == 1 else "<i4")
    if once:
        numbers = varint(5 << 3 | 2) + varint(4) + struct.pack("<f", data.flat[0])
    else:
        numbers = field(5 if packed else 4, data.tobytes())
    tensor = field(1, kind) + field(2, shape) + numbers
    return node(name, "Const", {"dtype": field(6, kind), "value": field(8, tensor)})


def deepspeech_layers(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights under the names that the release's graph gives them."""
    random = np.random.default_rng(seed)
    shapes = {
        "h1": (494, HIDDEN), "b1": (HIDDEN,), "h2": (HIDDEN, HIDDEN), "b2": (HIDDEN,), "h3": (HIDDEN, THIRD),
        "b3": (THIRD,), "h5": (2 * CELL, HIDDEN), "b5": (HIDDEN,), "h6": (HIDDEN, 29), "b6": (29,),
    }  # fmt: skip
    for way in ("fw", "bw"):
        base = f"bidirectional_rnn/{way}/basic_lstm_cell"
        shapes |= {f"{base}/kernel": (THIRD + CELL, 4 * CELL), f"{base}/bias": (4 * CELL,)}
    layers = {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    layers["h1"] *= 0.2
    return layers


def deepspeech_graph(path: Path, layers: dict[str, np.ndarray]) -> Path:
    """Write a frozen graph with these weights among what else such a graph holds."""
    parts = [
        node("input_node", "Placeholder", {"dtype": field(6, 1)}),
        node("input_lengths", "Placeholder", {"dtype": field(6, 3)}),
        constant("Reshape/shape", np.array([-1, 494]), kind=3),
        constant("Minimum/y", np.array(20.0)),
        constant("bidirectional_rnn/fw/fw/while/basic_lstm_cell/concat/axis", np.array(1), kind=3),
    ]
    for number, (name, values) in enumerate(layers.items()):
        parts.append(constant(name, values, packed=number % 3 == 1))
        parts.append(node(f"{name}/read", "Identity", {"T": field(6, 1)}, (name,)))
    parts.append(node("logits", "Reshape", inputs=("add", "Reshape/shape")))
    path.write_bytes(b"".join(parts) + field(4, field(1, 24)))  # and the version of the format
    return path


# --------------------------------------------------------------------------------------------- models of transformers


def small_config(**more: object) -> dict[str, object]:
    """A wav2vec 2.0 with the true convolutions in time, two narrow layers and the large models' norms."""
    return {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "conv_dim": [8] * 7,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "feat_extract_norm": "layer",
        "conv_bias": True,
        "do_stable_layer_norm": True,
        **more,
    }
