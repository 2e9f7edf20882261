"""LPIPS as a loss of training: its weights, and the patches it is asked about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.errors import MissingAssetError
from models.methods.talking_gaussian_phases import Likeness
from models.schedule import Term
from tasks.assets import find_asset
from tasks.places import Places
from tasks.stage import Context

if TYPE_CHECKING:
    from models.losses import Distance

NETWORKS: dict[Likeness, tuple[str, tuple[str, ...]]] = {  # the network, and the assets of its features and heads
    "alex": ("alex", ("alexnet", "lpips_alex")),
    "vgg": ("vgg", ("vgg16", "lpips_vgg")),
    "squeeze": ("squeeze", ("squeezenet", "lpips_squeeze")),
    "squeeze_caffe": ("squeeze", ("squeezenet_caffe",)),
}
TERMS = ("lip_lpips", "patch_lpips", "face_lpips", "hole_lpips")


def perceptual_distance(context: Context[Any], phase: Any, device: str) -> Distance | None:
    """Return what a phase measures likeness with, None where none of its terms needs it.

    Raises:
        MissingAssetError: see `network_of`.
    """
    found = network_of(context.places, context.stage.name, phase)
    if found is None:
        return None
    from models.perceptual.lpips import load

    network, paths = found
    return load(network, *paths, device=device)


def network_of(places: Places, stage: str, phase: Any) -> tuple[str, list[Path]] | None:
    """Return the network that a stage's phase measures likeness with and the files of its weights.

    Raises:
        MissingAssetError: the weights are not here; it names them and the params that do without.
    """
    wanted = [name for name in TERMS if getattr(phase, name, Term(0.0)).weight]
    if not wanted or not phase.steps:
        return None
    network, assets = NETWORKS[phase.lpips]
    try:
        return network, [find_asset(places, name) for name in assets]
    except MissingAssetError as error:
        keys = ", ".join(f"{name}: 0" for name in wanted)
        off = f"or set {keys} under {stage}: phase: in params.yaml, to train without"
        raise MissingAssetError(error.what, error.why, f"gausstalk fetch {' '.join(assets)}\n       {off}") from error


def patch_side(phase: Any, scale: float, seed: int, step: int) -> int:
    """Return the side of the patches of a step, an even number of pixels; the same for the same seed and step.

    Args:
        phase: with `patch_px`, the smallest and the largest side at 256 pixels.
        scale: how much larger the frames are.
        seed: of the stage.
        step: of the phase.
    """
    low, high = (max(1, round(side * scale / 2)) for side in phase.patch_px)
    return 2 * int(np.random.default_rng((seed, step)).integers(low, high + 1))
