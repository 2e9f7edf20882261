"""What wav2vec 2.0 and HuBERT have in common: loading them with transformers, and running them over any recording.

Both take 25 ms of sound every 20 ms through seven convolutions and then let every entry attend to every other one, so
that memory grows with the square of the length. A recording is therefore taken in blocks that are counted from its
start, each with some sound on either side. The blocks belong to what the features are: a recording of one block gives
what the model gives for the whole, and a longer one gives the same however much of it is asked for at once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import InputError, MissingAssetError

RATE_HZ = 50.0
HOP, SPAN = 320, 400  # samples
LEAD = (SPAN - HOP) // 2  # silence before the sound, so that entry k is centred on (k + 1/2) / 50 s
BLOCK, CONTEXT = 1000, 100  # entries: 20 s, and 2 s on either side
VARIANCE_FLOOR = 1e-7  # of samples in -1..1; the value that the models were trained with
UNUSED = {"masked_spec_embed"}  # stands for hidden sound in training; some files do without it


def load(path: Path, architecture: str, official: dict[str, Any], device: str = "cpu") -> nn.Module:
    """Return a model of transformers, ready to run.

    Args:
        path: its weights, named as the hub names them: model.safetensors or pytorch_model.bin. Where a config.json lies
            beside them, that describes the model.
        architecture: the name of its class.
        official: what the official config.json says beyond the defaults, for weights that lie alone.
        device: of torch.

    Raises:
        MissingAssetError: transformers is not installed.
        InputError: the weights are damaged, or not those of this architecture.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingAssetError(
            f"{path.parent.name} needs the package transformers",
            "it is installed only where a speech model is used",
            "pip install 'gausstalk[speech]', in this project: pip install -e '.[speech]' -c constraints.txt",
        ) from error

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # what is missing is an error below; what is not used is no matter
    kind = getattr(transformers, architecture)
    beside = path.with_name("config.json")
    try:
        config = kind.config_class.from_json_file(beside) if beside.is_file() else kind.config_class(**official)
        model, about = kind.from_pretrained(
            path.parent,
            config=config,
            local_files_only=True,
            use_safetensors=path.suffix == ".safetensors",
            weights_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # the readers of such files have a dozen kinds, some private
        # Only the first sentence: others tell how to load a pickle that runs code.
        why = f"{type(error).__name__}: {str(error).split('. ')[0]}"
        raise InputError(f"{path}: cannot be loaded as {architecture}", why, "get it again") from error
    # transformers draws weights at random where the file has none: features of nothing.
    missing = sorted(name for name in about["missing_keys"] if name.split(".")[-1] not in UNUSED)
    if missing:
        raise InputError(f"{path}: not a whole {architecture}", f"without {', '.join(missing[:5])}", "get it again")
    return model.eval().requires_grad_(False).to(device)


def normalise(sound: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation of int16 samples in -1..1, which the models want to be 0 and 1."""
    if not len(sound):
        return 0.0, VARIANCE_FLOOR**0.5
    mean = float(sound.mean(dtype=np.float64))
    squares = sum(float(np.square(sound[first : first + (1 << 20)], dtype=np.float64).sum())
                  for first in range(0, len(sound), 1 << 20))  # fmt: skip
    variance = max(squares / len(sound) - mean**2, 0.0)
    return mean / 32768, (variance / 32768**2 + VARIANCE_FLOOR) ** 0.5


def entries(
    run: Callable[[Tensor], Tensor], sound: np.ndarray, size: int, device: str = "cpu", wanted: slice = slice(None)
) -> np.ndarray:
    """Return what a model says of a recording, `[N, size]` float32; entry k is centred on (k + 1/2) / 50 s.

    Args:
        run: takes samples `[1, S]` of mean 0 and variance 1 to `[1, entries, size]`.
        sound: int16 `[S]` at 16 kHz.
        size: numbers in an entry.
        device: of torch.
        wanted: which entries; the others are not computed but for the rest of their blocks.

    Raises:
        InputError: the model gives entries of another size or rate.
    """
    count = max(1, -(-len(sound) // HOP))
    mean, deviation = normalise(sound)
    first, end, _ = wanted.indices(count)
    result = np.empty((max(0, end - first), size), np.float32)
    with torch.inference_mode():
        for start in range(first // BLOCK * BLOCK, end, BLOCK):
            stop = min(start + BLOCK, count)
            low, high = max(0, start - CONTEXT), min(count, stop + CONTEXT)
            piece = np.zeros((high - low - 1) * HOP + SPAN, np.float32)
            begin = low * HOP - LEAD
            inside = sound[max(0, begin) : begin + len(piece)]
            offset = max(0, -begin)
            piece[offset : offset + len(inside)] = (inside.astype(np.float32) / 32768 - mean) / deviation
            values = run(torch.from_numpy(piece)[None].to(device))[0]
            if values.shape != (high - low, size):
                raise InputError(
                    f"the model gives {tuple(values.shape)} numbers for {high - low} entries of {size}",
                    "its size or its rate is another one",
                    "use the weights that data/assets.toml names",
                )
            own = values[max(start, first) - low : min(stop, end) - low].cpu().numpy()
            result[max(start, first) - first : min(stop, end) - first] = own
    return result
