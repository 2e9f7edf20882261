"""What a fresh process pays for its first picture: kernels loaded from the cache (or compiled, once).

Run as a program, it is that process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from models.errors import MachineError
from tasks.bench.timing import Figure, Tick, Timing

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 300


def first_call(repeats: int, tick: Tick = lambda _: None) -> Figure:
    """Time it in processes of their own, the kernels being in the cache.

    Args:
        repeats: processes that count.
        tick: told after each which part of the whole it was.

    Raises:
        MachineError: such a process fails, or its kernels are not kept.
    """
    timing = Timing("cpu")
    if _fresh()["compiled"] and _fresh()["compiled"]:
        raise MachineError("kernels are compiled anew by every process", "nothing that is kept is found again",
                           "gausstalk doctor says where they are kept")  # fmt: skip
    tick(1 / (repeats + 1))
    for _ in range(repeats):
        told = _fresh()
        timing.wall_ms.append(told["wall_s"] * 1e3)
        timing.cpu_ms.append(told["cpu_s"] * 1e3)
        tick(1 / (repeats + 1))
    what = "first use of all kernels in a fresh process: loaded from the cache, run once each"
    return Figure("first_call", what, timing)


def _fresh() -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "tasks.bench.first_call"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False)  # noqa: S603 - fixed words
    if done.returncode:
        raise MachineError("a fresh process cannot use the kernels", done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout)


def use_all_kernels() -> dict[str, Any]:
    """Use every kernel of training once, forward and backward; return seconds and how many were compiled.

    Importing Numba and the kernels counts, importing torch does not.
    """
    import torch

    from models.encoders.hashgrid import HashGrid, encode
    from models.gaussians.rasterize import rasterize
    from models.gaussians.spherical_harmonics import evaluate_sh
    from models.ssim import ssim
    from tasks.bench import scenes

    means, quats, scales, opacities, _ = scenes.shell(200)
    camera = scenes.camera(64)
    grid = HashGrid(finest_resolution=38.4)
    table = grid.new_table().requires_grad_()
    coefficients = torch.rand(200, 4, 3).requires_grad_()
    field, vertices, triangles = scenes.sheet(200)
    cpu, wall = time.process_time(), time.perf_counter()
    from tasks.kernels import watch

    compilations = watch()
    moved = means + 1e-3 * encode(means, table, grid, "cpu")[:, :3]
    colors = evaluate_sh(moved, camera.center, coefficients, backend="cpu")
    image = rasterize(moved, quats, scales, opacities, colors, *camera, backend="cpu").image
    (1 - ssim(image, torch.zeros_like(image), "cpu")).backward()
    field.place(vertices, triangles, backend="cpu").means.sum().backward()
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "compiled": compilations.count,
        "compiling_s": compilations.seconds,
    }


if __name__ == "__main__":
    from tasks.stage import limit_threads

    limit_threads()
    sys.stdout.write(json.dumps(use_all_kernels()))
