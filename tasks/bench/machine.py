"""On what a bench ran, and who else was using it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numba", "llvmlite", "numpy", "gsplat", "tinycudann")
FLAGS = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve")
OTHERS_TOLERATED = 0.25
"""Cores that other processes may use on average before a bench counts as disturbed."""


def describe(threads: int, device: str) -> dict[str, Any]:
    """Return the machine as JSON keeps it: processor, instruction sets, threads, versions and the device.

    Args:
        threads: that the kernels and the reference use.
        device: "cpu" or "cuda".
    """
    import numba
    import torch
    from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

    features = get_host_cpu_features()
    return {
        "cpu": _model_name() or platform.processor() or platform.machine(),
        "architecture": get_host_cpu_name(),
        "instruction_sets": [flag for flag in FLAGS if features.get(flag)],
        "cores": len(os.sched_getaffinity(0)),
        "threads": {
            "kernels": threads,
            "torch_beside_kernels": 1,
            "torch_reference": threads,
            "numba_layer": _threading_layer(numba),
        },
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
    }


def _model_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _threading_layer(numba: Any) -> str:
    try:
        return numba.threading_layer()
    except ValueError:  # no parallel kernel has run yet
        return "none yet"


class Load:
    """How busy the machine is while the bench runs, and how much of that is not the bench."""

    def __init__(self) -> None:
        self._start = os.getloadavg()[0]
        self._clock = self._counters()

    @staticmethod
    def _counters() -> tuple[float, float, float]:
        """Wall clock, processor time of the whole machine but idling, and of this process and its children, seconds."""
        import psutil

        machine = psutil.cpu_times()
        idle = machine.idle + getattr(machine, "iowait", 0.0)
        own = psutil.Process().cpu_times()
        mine = own.user + own.system + own.children_user + own.children_system
        # Guests' time is part of the user's already.
        guests = getattr(machine, "guest", 0.0) + getattr(machine, "guest_nice", 0.0)
        return time.monotonic(), sum(machine) - idle - guests, mine

    def as_record(self) -> dict[str, Any]:
        """Return load averages and the cores that others used on average since the start."""
        before, after = self._clock, self._counters()
        elapsed = max(after[0] - before[0], 1e-3)
        others = max(0.0, (after[1] - before[1]) - (after[2] - before[2])) / elapsed
        return {
            "load_start": round(self._start, 2),
            "load_end": round(os.getloadavg()[0], 2),
            "others_cores": round(others, 2),
            "seconds": round(elapsed, 1),
        }


def noise(load: dict[str, Any], noisy_figures: list[str]) -> dict[str, Any]:
    """Say whether the figures can be quoted.

    Args:
        load: of `Load.as_record`.
        noisy_figures: names of those whose samples are far apart.
    """
    reasons = []
    if load["others_cores"] > OTHERS_TOLERATED:
        reasons.append(f"other processes used {load['others_cores']:.1f} cores on average")
    if noisy_figures:
        reasons.append(f"samples of {', '.join(noisy_figures)} are far apart")
    return {"quiet": not reasons, "why": "; ".join(reasons)}
