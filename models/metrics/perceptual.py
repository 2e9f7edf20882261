"""How alike two frames look to a network that recognises things."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.metrics.base import Compute, Metric, not_ready


def opened(network: str, features: Path, heads: Path | None = None) -> Compute:
    """Return what computes the distance of each frame `[n]`; NaN where a region is empty or below the network's size.

    Args:
        network: "alex", "vgg" or "squeeze".
        features: file of its features.
        heads: file of LPIPS's weights of its channels.

    Raises:
        InputError: a file is damaged or another network's.
    """
    import torch

    from models.perceptual.lpips import load

    measure = load(network, features, heads)

    def compute(predicted: np.ndarray, true: np.ndarray, region: np.ndarray | None) -> np.ndarray:
        result = np.full(len(true), np.nan)
        for k in range(len(true)):
            box = box_of(None if region is None else region[k], true.shape[1:3])
            if min(edge.stop - edge.start for edge in box) < measure.network.smallest:
                continue
            a, b = (
                torch.from_numpy(frames[k][box]).permute(2, 0, 1).float() / 127.5 - 1 for frames in (predicted, true)
            )
            with torch.inference_mode():
                result[k] = float(measure(a, b))
        return result

    return compute


def box_of(region: np.ndarray | None, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return rows and columns of the smallest box about a region, all without one; empty about an empty one."""
    if region is None:
        return slice(0, shape[0]), slice(0, shape[1])
    if not region.any():
        return slice(0, 0), slice(0, 0)
    rows, columns = (np.flatnonzero(region.any(axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


_SOURCE = "Zhang et al., The unreasonable effectiveness of deep features as a perceptual metric, CVPR 2018"
_WHERE = "in the box about the region (not below {} pixels a side), then the mean over frames"


def _lpips(network: str, words: str, features: str, smallest: int) -> Metric:
    return Metric(
        f"lpips_{network}",
        "1",
        "lower",
        f"LPIPS 0.1 with {words}, on RGB in -1..1, {_WHERE.format(smallest)}",
        "frames",
        not_ready,
        range="from 0",
        source=_SOURCE,
        needs=(features, f"lpips_{network}"),
        opens=lambda features, heads: opened(network, features, heads),
    )


METRICS = (
    _lpips("alex", "AlexNet", "alexnet", 31),
    _lpips("vgg", "VGG-16", "vgg16", 16),
    _lpips("squeeze", "SqueezeNet 1.1", "squeezenet", 17),
    Metric(
        "perceptual_squeeze",
        "1",
        "lower",
        "the distance that LPIPS has before its channels are weighted, with SqueezeNet 1.1 as its authors trained it; "
        f"not LPIPS, whose weights belong to another training; {_WHERE.format(17)}",
        "frames",
        not_ready,
        range="from 0",
        source=_SOURCE,
        needs=("squeezenet_caffe",),
        opens=lambda features: opened("squeeze", features),
    ),
)
