"""Official checkpoints: read without running what is in them, then compared and loaded key by key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import InputError

# mmcv notes the best score of the training as a NumPy number; NumPy 2 has moved what makes one.
_SCALAR = np.float64(0).__reduce__()[0]
_NUMBERS = [
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
]


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the parameters of a checkpoint by name: a bare state dict, or one under "state_dict" (mmcv).

    Only tensors, plain containers and NumPy numbers are read; a file that would call anything else is refused.

    Raises:
        InputError: the file is damaged, is no checkpoint or would run code.
    """
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # what is no checkpoint fails in as many ways as Python has errors
        # Only the first sentence: others tell how to load a file that runs code.
        why = f"{type(error).__name__}: {str(error).split('. ')[0]}".removesuffix(": ")
        raise InputError(
            f"{path.name} cannot be read as a checkpoint", why, "get the file again from its official source"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path.name} has no parameters in it", "a mapping from names to tensors was expected")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def check_shapes(wanted: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor], source: str, network: str) -> None:
    """Compare the parameters of a checkpoint with those that a network has; names and shapes must be the same.

    Args:
        wanted: shapes by name.
        state: parameters by name.
        source: what the error calls them.
        network: what the error calls the network.

    Raises:
        InputError: a name is missing, unknown, or of another shape.
    """
    given = {name: tuple(value.shape) for name, value in state.items()}
    wrong = [f"lacks {name}" for name in wanted.keys() - given.keys()]
    wrong += [f"has {name}, unknown here" for name in given.keys() - wanted.keys()]
    wrong += [
        f"{name} is {given[name]}, not {wanted[name]}"
        for name in wanted.keys() & given.keys()
        if given[name] != wanted[name]
    ]
    if wrong:
        shown = "; ".join(sorted(wrong)[:3])
        raise InputError(
            f"{source} is not the checkpoint of {network}",
            f"{len(wrong)} differences: {shown}" + ("; ..." if len(wrong) > 3 else ""),
            "use the official file",
        )


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load parameters into a network; names and shapes must be exactly its own (`source` is what the error calls them).

    Raises:
        InputError: see `check_shapes`.
    """
    own = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    check_shapes(own, state, source, type(network).__name__)
    network.load_state_dict(dict(state), strict=True)
