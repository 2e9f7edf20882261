"""How well the face moves: squared errors of facial action units, of its lower and its upper half."""

from __future__ import annotations

from typing import Literal

import numpy as np

from models.action_units import UNIT_NAMES
from models.metrics.base import Compute, Metric

LOWER = (10, 12, 14, 15, 17, 20, 23, 25, 26)
UPPER = (1, 2, 4, 5, 6, 7, 9, 45)


def error_of(numbers: tuple[int, ...], all_needed: bool) -> Compute:
    """Return what computes the sum over units of the squared error of each frame, `[n]`, of `[n, 17]` intensities.

    Args:
        numbers: of the units.
        all_needed: NaN where a unit is absent; otherwise the sum of those that both have in any frame.
    """
    columns = [UNIT_NAMES.index(f"AU{number:02d}") for number in numbers]

    def compute(predicted: np.ndarray, true: np.ndarray, region: np.ndarray | None) -> np.ndarray:
        squared = (predicted[:, columns].astype(np.float64) - true[:, columns]) ** 2
        given = np.ones(len(columns), bool) if all_needed else ~np.isnan(squared).all(0)
        return squared[:, given].sum(1) if given.any() else np.full(len(true), np.nan)

    return compute


def _metrics(by: Literal["openface", "units"], suffix: str, words: str, all_needed: bool) -> tuple[Metric, ...]:
    return tuple(
        Metric(
            f"{name}{suffix}",
            "1",
            "lower",
            f"sum over the units of the {half} face ({', '.join(map(str, numbers))}) of their mean squared error over "
            f"frames (intensities 0 to 5), {words}",
            by,
            error_of(numbers, all_needed),
            range="from 0",
            source="Li et al., TalkingGaussian, ECCV 2024",
        )
        for name, half, numbers in (("AUE-L", "lower", LOWER), ("AUE-U", "upper", UPPER))
    )


METRICS = (
    *_metrics("openface", "", "by OpenFace 2 on true and rendered frames", True),
    *_metrics(
        "units",
        "_own",
        "by the judge's landmarks alone and on the truth's own scale, over the units that these tell (never 14); not "
        "to be held against numbers by OpenFace",
        False,
    ),
)
