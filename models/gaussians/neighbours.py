"""How much Gaussians differ from those around them."""

from __future__ import annotations

import torch
from scipy.spatial import cKDTree
from torch import Tensor


def neighbour_difference(means: Tensor, values: Tensor, count: int = 20) -> Tensor:
    """Return the mean squared difference of values to those of the nearest neighbours.

    Args:
        means: `[N, 3]` centres, at least two; constants here.
        values: `[N, F]`.
        count: of neighbours, all others where there are fewer (EmbedTalk, Saggar et al., 2026, takes 20).
    """
    places = means.detach().cpu().numpy()
    nearest = cKDTree(places).query(places, min(count + 1, len(places)))[1][:, 1:]  # the first is the point itself
    around = values[torch.from_numpy(nearest).to(values.device)]
    return (values[:, None] - around).square().mean()
