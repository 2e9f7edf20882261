"""Colours as bins of CIE Lab, and how often each bin occurs in what."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

Array = np.ndarray

BINS = (32, 64, 64)  # lightness coarse, tint fine: tint tells skin, hair and cloth apart better
COUNT = int(np.prod(BINS))


def codes(frame: Array) -> Array:
    """Return the colour bin `[H, W]` int32 of every pixel of a frame `[H, W, 3]` uint8."""
    lab = cv2.cvtColor(frame, cv2.COLOR_RGB2Lab).astype(np.int32)
    return ((lab[..., 0] >> 3) * BINS[1] + (lab[..., 1] >> 2)) * BINS[2] + (lab[..., 2] >> 2)


def density(coded: Sequence[Array], masks: Sequence[Array]) -> Array:
    """Return the smoothed density `[COUNT]` float32 of the colours under some masks; zeros when they are empty.

    Args:
        coded: colour bins `[H, W]` of some frames.
        masks: bool `[H, W]` of the same frames.
    """
    counts = sum(np.bincount(c[m], minlength=COUNT) for c, m in zip(coded, masks, strict=True))
    smooth = gaussian_filter(np.asarray(counts, np.float32).reshape(BINS), 1.5).ravel()
    return smooth / max(float(smooth.sum()), 1e-6)


def mixed_log(known: Array, unseen: float) -> Array:
    """Return the log of a density of which the share `unseen` is spread evenly over all colours."""
    return np.log((1 - unseen) * known + unseen / COUNT).astype(np.float32)
