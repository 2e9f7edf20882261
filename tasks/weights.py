"""Metrics that need weights: which can be measured on this machine, and why the others cannot."""

from __future__ import annotations

from collections.abc import Mapping

from models.errors import MissingAssetError
from models.metrics.base import Metric
from tasks.assets import find_asset
from tasks.places import Places


def ready_metrics(
    metrics: Mapping[str, Metric], places: Places, stage: str
) -> tuple[dict[str, Metric], dict[str, str]]:
    """Return the metrics that can be measured, their weights opened, and of the others why `stage` cannot.

    Raises:
        InputError: weights that are here are damaged.
    """
    ready: dict[str, Metric] = {}
    absent: dict[str, str] = {}
    for name, metric in metrics.items():
        files, missing = [], []
        for need in metric.needs:
            try:
                files.append(find_asset(places, need))
            except MissingAssetError:
                missing.append(need)
        if missing:
            get = f"gausstalk fetch {' '.join(missing)}"
            absent[name] = f"its weights are not on this machine: {get}, then dvc repro -f -s {stage}"
        else:
            ready[name] = metric.ready(files)
    return ready, absent
