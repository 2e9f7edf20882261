"""Metrics that need weights: which can be measured on this machine, and why the others cannot."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from models.errors import MissingAssetError
from models.metrics.base import Metric
from models.records import Weights
from tasks.assets import find_asset, known_asset
from tasks.places import Places

TAUGHT = ("sync_house",)  # stages that give the weights of metrics


def ready_metrics(
    metrics: Mapping[str, Metric], places: Places, stage: str, taught: Mapping[str, Weights] | None = None
) -> tuple[dict[str, Metric], dict[str, str]]:
    """Return the metrics that can be measured, their weights opened, and of the others why `stage` cannot.

    Args:
        metrics: by name.
        places: of the project.
        stage: that measures.
        taught: what the stages `TAUGHT` gave, by their names.

    Raises:
        InputError: weights that are here are damaged.
    """
    ready: dict[str, Metric] = {}
    absent: dict[str, str] = {}
    for name, metric in metrics.items():
        if metric.taught:
            weights = (taught or {}).get(metric.taught)
            if weights is not None and weights.tensors:
                words = f"{metric.definition}; its check: {check_words(weights)}"
                ready[name] = replace(metric.ready([weights]), definition=words)
            else:
                absent[name] = check_words(weights)
            continue
        files, missing = [], []
        for need in metric.needs:
            try:
                files.append(find_asset(places, need))
            except MissingAssetError:
                missing.append(need)
        if missing:
            get = f"gausstalk fetch {' '.join(missing)}"
            if not all(known_asset(places, need).free for need in missing):
                get = f"read the licence, then {get} --accept"
            again = f"dvc repro -f -s {stage}, then gausstalk run"
            absent[name] = f"its weights are not on this machine: {get}, then {again}"
        else:
            ready[name] = metric.ready(files)
    return ready, absent


def digests_of(taught: Mapping[str, Weights]) -> dict[str, str]:
    """Return a digest of each network: numbers of two networks cannot be held against each other."""
    digests = {}
    for name, weights in taught.items():
        digest = hashlib.sha256()
        for key, tensor in sorted(weights.tensors.items()):
            digest.update(key.encode() + np.ascontiguousarray(tensor).tobytes())
        digests[name] = digest.hexdigest()
    return digests


def check_words(weights: Weights | None, speaker: str = "") -> str:
    """Return how well the house's own network finds planted lags, or why there is none."""
    if weights is None:
        return "the stage sync_house has not been run"
    if not weights.tensors:
        return str(weights.quality.get("why", "nothing was learnt"))
    check: dict[str, Any] = weights.quality["check"]
    wanted = f"{100 * check['wanted']:g} % wanted"
    verdict = {
        True: "reached",
        False: "MISSED: do not trust it",
        None: "too short to judge",
    }[check["reached"]]
    words = f"{_found(check)} of unseen frames, {wanted}: {verdict}"
    own = check["speakers"].get(speaker)
    if own and len(check["speakers"]) > 1:
        words += f"; of {speaker} {_found(own)}"
    for name, found in check["left_out"].items():
        words += f"; of {name}, not learnt from, {_found(found)}"
    return words


def _found(found: Mapping[str, Any]) -> str:
    if found["share"] is None:
        return "nothing could be tried"
    return f"{100 * found['share']:.0f} % of planted lags found in excerpts of 2 s out of {found['unseen_s']:.1f} s"
