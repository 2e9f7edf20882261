"""Character scores of DeepSpeech 0.1.0, the features of AD-NeRF and its descendants.

The network (A. Hannun et al., arXiv 1412.5567, in Mozilla's form of 2017): 26 cepstra at 50 entries a second with nine
neighbours on either side, three layers with clipped rectifiers, one LSTM each way in time, one more layer, 29 scores:
the letters, space, apostrophe and the blank of CTC, before softmax. Its weights are the constants of the frozen graph,
which are read without TensorFlow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.audio.align import windows
from models.audio.frozen_graph import read_constants
from models.cepstra import EMPHASIS, SPAN, of_spans
from models.errors import InputError

REVISION = "1"
RATE_HZ, SIZE, WINDOW = 50.0, 29, 16
ASSETS = ("deepspeech",)

HOP = 320  # samples: every second of the front end's entries of 10 ms
LEAD = (SPAN - HOP) // 2  # silence before the sound, so that entry k is centred on (k + 1/2) / 50 s
CEPSTRA, NEIGHBOURS = 26, 9
CLIP, FORGET_BIAS = 20.0, 1.0
BLOCK = 3000  # entries, one minute
LAYERS = ("h1", "b1", "h2", "b2", "h3", "b3", "h5", "b5", "h6", "b6")  # layer 4 is the LSTMs
State = tuple[Tensor, Tensor]  # of an LSTM: what it says and what it remembers
LSTM = re.compile(r"(?:^|/)(fw|bw)/(?:.*/)?(kernel|bias|weights|biases)$")  # TensorFlow before 1.2 said weights, biases


def extract(
    sound: np.ndarray, frame_count: int, window: int, weights: Sequence[Path] = (), device: str = "cpu"
) -> np.ndarray:
    """Return `[frame_count, 29, window]` float32; see `models.audio.Extractor`."""
    network = Network.load(weights[0], device)
    return windows(network.scores(cepstra(sound)), 0.5 / RATE_HZ, RATE_HZ, frame_count, window)


# ----------------------------------------------------------------------------------------------------- front end


def cepstra(sound: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """Return `[N, 26]` float64 mel cepstra at 50 entries a second; entry k is centred on (k + 1/2) / 50 s.

    The front end that DeepSpeech was trained with: pre-emphasis, then `models.cepstra`. Samples are taken as integers,
    so loudness shifts the first coefficient only.
    """
    spans = max(0, -(-(LEAD + len(sound) - SPAN) // (HOP // 2))) + 1  # one each 10 ms, of which every second is kept
    count = (spans + 1) // 2
    result = np.empty((count, CEPSTRA))
    for begin in range(0, count, block):
        number = min(block, count - begin)
        first = begin * HOP - LEAD
        piece = np.zeros((number - 1) * HOP + SPAN + 1)  # one sample more at the front, for the pre-emphasis
        low, high = max(0, first - 1), min(len(sound), first + len(piece) - 1)
        if high > low:
            piece[low - first + 1 : high - first + 1] = sound[low:high]
        emphasised = piece[1:] - EMPHASIS * piece[:-1]
        # The front end fills the last span up with zeros after pre-emphasis: no echo of the last sample there.
        emphasised[max(0, len(sound) - first) :] = 0
        spans_now = np.lib.stride_tricks.sliding_window_view(emphasised, SPAN)[::HOP]
        result[begin : begin + number] = of_spans(spans_now)
    return result


def whitening(rows: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation of all inputs of the network, neighbours counted as often as they occur.

    Args:
        rows: `[N, 26]` cepstra. Beyond the ends of the recording neighbours are zero.
    """
    places = np.arange(len(rows))
    uses = np.minimum(places, NEIGHBOURS) + np.minimum(len(rows) - 1 - places, NEIGHBOURS) + 1
    count = len(rows) * (2 * NEIGHBOURS + 1) * CEPSTRA
    mean = float(uses @ rows.sum(1)) / count
    variance = float(uses @ (rows**2).sum(1)) / count - mean**2
    return mean, max(variance, 1e-12) ** 0.5


# ------------------------------------------------------------------------------------------------------- network


@dataclass(frozen=True)
class Network:
    """DeepSpeech's layers, ready to run."""

    layers: dict[str, Tensor]
    forward_lstm: nn.LSTM
    backward_lstm: nn.LSTM

    @staticmethod
    def load(path: Path, device: str = "cpu") -> Network:
        """Read the layers of a frozen graph.

        Raises:
            InputError: the file is damaged, or is not a DeepSpeech of version 0.1.
        """
        constants = read_constants(path, lambda name: name.split("/")[-1] in LAYERS or bool(LSTM.search(name)))
        layers = {name.split("/")[-1]: values for name, values in constants.items() if not LSTM.search(name)}
        cells: dict[tuple[str, str], np.ndarray] = {}
        for name, values in constants.items():
            if match := LSTM.search(name):
                part = "kernel" if match.group(2) in ("kernel", "weights") else "bias"
                cells[match.group(1), part] = values
        _check(path, layers, cells)
        tensors = {name: torch.from_numpy(values).to(device) for name, values in layers.items()}
        forward, backward = (_lstm(cells[way, "kernel"], cells[way, "bias"]).to(device) for way in ("fw", "bw"))
        return Network(tensors, forward, backward)

    def scores(self, rows: np.ndarray, block: int = BLOCK) -> np.ndarray:
        """Return `[N, 29]` float32 scores of `[N, 26]` cepstra; the block they are computed in changes nothing.

        The LSTM that runs backwards needs the end first. It runs over the recording once to leave its state at the end
        of every block, and once more, block by block, beside the other one: twice the work for one of the two, but no
        more memory than a block takes.
        """
        starts = list(range(0, len(rows), block))
        padded = np.concatenate([np.zeros((NEIGHBOURS, CEPSTRA)), rows, np.zeros((NEIGHBOURS, CEPSTRA))])
        mean, deviation = whitening(rows)

        def inner(start: int) -> torch.Tensor:
            piece = padded[start : min(start + block, len(rows)) + 2 * NEIGHBOURS]
            seen = np.lib.stride_tricks.sliding_window_view(piece, 2 * NEIGHBOURS + 1, axis=0).transpose(0, 2, 1)
            seen = ((seen - mean) / deviation).reshape(len(seen), -1).astype(np.float32)
            values = torch.from_numpy(seen).to(self.layers["h1"].device)
            for layer in "123":
                values = self._layer(values, layer)
            return values

        with torch.inference_mode():
            state: State | None = None
            states: dict[int, State | None] = {}
            for start in starts[:0:-1]:
                states[start] = state
                state = self.backward_lstm(inner(start).flip(0), state)[1]
            states[0] = state
            return np.concatenate(list(self._outer(starts, inner, states)))

    def _outer(
        self, starts: list[int], inner: Callable[[int], Tensor], states: dict[int, State | None]
    ) -> Iterator[np.ndarray]:
        state: State | None = None
        for start in starts:
            values = inner(start)
            ahead, state = self.forward_lstm(values, state)
            behind = self.backward_lstm(values.flip(0), states[start])[0].flip(0)
            last = self._layer(torch.cat([ahead, behind], 1), "5")
            yield (last @ self.layers["h6"] + self.layers["b6"]).cpu().numpy()

    def _layer(self, values: Tensor, number: str) -> Tensor:
        return (values @ self.layers[f"h{number}"] + self.layers[f"b{number}"]).clamp(0, CLIP)


def _check(path: Path, layers: dict[str, np.ndarray], cells: dict[tuple[str, str], np.ndarray]) -> None:
    """Refuse a graph whose layers are missing or do not fit together.

    Raises:
        InputError: so it is.
    """
    found = {**layers, **{f"{way}/{part}": values for (way, part), values in cells.items()}}
    wanted = [*LAYERS, *(f"{way}/{part}" for way in ("fw", "bw") for part in ("kernel", "bias"))]
    missing = [name for name in wanted if name not in found]
    fix = "the right one is deepspeech-0_1_0-b90017e8.pb"
    if missing:
        raise InputError(f"{path}: not the graph of DeepSpeech 0.1.0", f"it has no {', '.join(missing)}", fix)
    first, second, third = (layers[name].shape[-1] for name in ("h1", "h2", "h3"))
    cell, fifth = cells["fw", "bias"].shape[0] // 4, layers["h5"].shape[-1]
    shapes = {
        "h1": (CEPSTRA * (2 * NEIGHBOURS + 1), first), "h2": (first, second), "h3": (second, third),
        "h5": (2 * cell, fifth), "h6": (fifth, SIZE),
        "b1": (first,), "b2": (second,), "b3": (third,), "b5": (fifth,), "b6": (SIZE,),
        **{f"{way}/kernel": (third + cell, 4 * cell) for way in ("fw", "bw")},
        **{f"{way}/bias": (4 * cell,) for way in ("fw", "bw")},
    }  # fmt: skip
    for name, shape in shapes.items():
        if found[name].shape != shape:
            raise InputError(
                f"{path}: {name} is {found[name].shape}, not {shape}", "another version of DeepSpeech", fix
            )


def _lstm(kernel: np.ndarray, bias: np.ndarray) -> nn.LSTM:
    """Return torch's LSTM with the weights of a TensorFlow BasicLSTMCell.

    There the gates are input, candidate, forget, output and a constant is added to the forget gate; torch has input,
    forget, candidate, output.
    """
    cell = len(bias) // 4
    order = np.concatenate([np.arange(cell) + gate * cell for gate in (0, 2, 1, 3)])
    columns, offsets = kernel[:, order], bias[order].copy()
    offsets[cell : 2 * cell] += FORGET_BIAS
    inputs = len(kernel) - cell
    lstm = torch.nn.LSTM(inputs, cell)
    lstm.load_state_dict(
        {
            "weight_ih_l0": torch.from_numpy(np.ascontiguousarray(columns[:inputs].T)),
            "weight_hh_l0": torch.from_numpy(np.ascontiguousarray(columns[inputs:].T)),
            "bias_ih_l0": torch.from_numpy(offsets),
            "bias_hh_l0": torch.zeros(4 * cell),
        }
    )
    return lstm
