"""What a rendering is measured by. Every file here but `base` exports `METRICS`; a new one needs no other edit."""

from __future__ import annotations

import importlib
import pkgutil

from models.errors import UsageError
from models.metrics.base import Metric


def all_metrics() -> dict[str, Metric]:
    """Return every metric of the package by name, in the order of files and of definition.

    Raises:
        UsageError: two metrics have the same name.
    """
    found: dict[str, Metric] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__) if info.name != "base"):
        for metric in importlib.import_module(f"{__name__}.{module}").METRICS:
            if metric.name in found:
                raise UsageError(f"two metrics are called {metric.name}", f"one of them in models/metrics/{module}.py")
            found[metric.name] = metric
    return found
