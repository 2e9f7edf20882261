"""How alike two frames are, pixel by pixel and by structure."""

from __future__ import annotations

import numpy as np

from models.metrics.base import Metric

RADIUS, SIGMA = 5, 1.5  # of the window of SSIM, pixels
LARGEST_PSNR = 100.0  # dB, so that equal frames have a finite value


def psnr(predicted: np.ndarray, true: np.ndarray, region: np.ndarray | None) -> np.ndarray:
    """Return the peak signal-to-noise ratio of each frame's region, `[n]` dB; NaN where the region is empty."""
    result = np.full(len(true), np.nan)
    for k in range(len(true)):
        difference = predicted[k].astype(np.float32) - true[k]
        squared = (difference if region is None else difference[region[k]]) ** 2
        if squared.size:
            result[k] = min(LARGEST_PSNR, -10 * np.log10(max(float(squared.mean()) / 255**2, 1e-12)))
    return result


def ssim(predicted: np.ndarray, true: np.ndarray, region: np.ndarray | None) -> np.ndarray:
    """Return the structural similarity of each frame, averaged over its region and the channels, `[n]`."""
    result = np.full(len(true), np.nan)
    for k in range(len(true)):
        if region is None:
            result[k] = float(ssim_map(predicted[k], true[k]).mean())
        elif region[k].any():
            # The window reaches RADIUS pixels, so a little more than the region is enough.
            rows, columns = (_reach(region[k].any(axis)) for axis in (1, 0))
            similarity = ssim_map(predicted[k, rows, columns], true[k, rows, columns])
            result[k] = float(similarity[region[k, rows, columns]].mean())
    return result


def ssim_map(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the structural similarity `[H, W, C]` of two uint8 frames (Wang et al. 2004, eq. 13).

    The window and the border (zero beyond it) are those of `models.ssim`, which trains; this one needs no torch.
    """
    x, y = predicted.astype(np.float64) / 255, true.astype(np.float64) / 255
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x, variance_y = _window_mean(x * x) - mean_x**2, _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    return luminance * (2 * covariance + 0.03**2) / (variance_x + variance_y + 0.03**2)


def _window_mean(picture: np.ndarray) -> np.ndarray:
    import cv2

    weights = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    weights /= weights.sum()
    return cv2.sepFilter2D(picture, -1, weights, weights, borderType=cv2.BORDER_CONSTANT)


def _reach(line: np.ndarray) -> slice:
    """Return the stretch of a bool line that holds all its true entries and the window's reach beyond."""
    inside = np.flatnonzero(line)
    return slice(max(0, int(inside[0]) - RADIUS), int(inside[-1]) + RADIUS + 1)


METRICS = (
    Metric(
        "PSNR",
        "dB",
        "higher",
        "-10 log10 of the mean squared error over the region's pixels of one frame (RGB in 0..1, at most 100), then "
        "the mean over frames",
        "frames",
        psnr,
        range="up to 100",
        source="the usual definition; the mean is of decibels, not of errors",
    ),
    Metric(
        "SSIM",
        "1",
        "higher",
        "structural similarity with an 11x11 Gaussian window, sigma 1.5, data range 1, mean over the region's pixels, "
        "the channels and the frames",
        "frames",
        ssim,
        range="-1 to 1",
        source="Wang et al., Image quality assessment, 2004",
    ),
)
