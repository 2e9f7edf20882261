"""Runs the parts of the bench and puts together what is told and kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from models.errors import UsageError
from tasks.bench import bars, breakdown, curves, drawing, first_call, head, machine, parts
from tasks.bench.curves import Cost, Curve
from tasks.bench.parts import Rig
from tasks.bench.timing import Figure, Tick
from tasks.device import asked_device
from tasks.kernels import watch
from tasks.outputs import make_folder
from tasks.places import Places
from tasks.progress import Progress
from tasks.stage import threads

PARTS = ("raster", "grid", "bound", "ssim", "iteration", "render")
VERSION = 1


@dataclass(frozen=True)
class Sizes:
    """How much is measured. The bars are for these values."""

    raster: tuple[int, ...] = (10_000, 30_000)  # Gaussians
    picture: int = 256  # pixels a side, for everything but rendering
    grid: int = 10_000  # points
    bound: int = 14_000  # Gaussians on triangles
    head: tuple[int, int] = (10_000, 5_000)  # Gaussians of face and mouth
    render: int = 512
    curve_gaussians: tuple[int, ...] = (1_000, 3_000, 10_000, 30_000, 100_000)
    curve_pixels: tuple[int, ...] = (64, 128, 256, 512, 1024)  # a side
    curve_frames: tuple[int, ...] = (1, 3, 10, 30)
    repeats: int = 5
    slow_repeats: int = 3  # where one run of the reference takes more than a second
    profiled: int = 5  # iterations
    curve_seconds: float = 0.3  # for a point of the rasteriser's curves, at least


@dataclass
class Found:
    """What the jobs find."""

    figures: list[Figure] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    cost: Cost | None = None
    profile: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """One thing to measure, and about how many seconds it takes on two quiet cores."""

    name: str
    seconds: float
    run: Callable[[Tick], None]


def bench(
    places: Places,
    part: str = "all",
    *,
    wanted: str | None = None,
    speaker: str = "",
    extractor: str = "logmel",
    folder: Path | None = None,
    sizes: Sizes | None = None,
) -> dict[str, Any]:
    """Measure one part or all; write bench.json and, if there are curves, cost.png.

    Args:
        places: the project, for a trained head and the folder.
        part: of `PARTS`, or "all".
        wanted: device, see `tasks.device.asked_device`.
        speaker: whose trained head is rendered as well.
        extractor: which of that speaker's heads.
        folder: to write into; .work/bench of the project if not given.
        sizes: how much.

    Returns:
        What bench.json holds; docs/benchmarks.md explains it.

    Raises:
        UsageError: there is no such part, a head is named for a part that renders nothing, or the folder cannot be made
            or written into.
        MachineError: a device is wanted that is not there.
        InputError: the head has not been trained.
    """
    import numba
    import torch

    if part not in (*PARTS, "all"):
        raise UsageError(f"no part {part!r} of the bench", "", f"choose {', '.join(PARTS)} or all")
    if speaker and part not in ("render", "all"):
        raise UsageError(f"part {part} renders no head", f"but {speaker!r} is given as one", "gausstalk bench render")
    sizes, device = sizes or Sizes(), asked_device(wanted)
    folder = folder or places.root / ".work" / "bench"
    make_folder(folder)  # now, not when all is measured
    watch()
    torch.set_num_threads(1)
    count = min(threads(), numba.config.NUMBA_NUM_THREADS)
    numba.set_num_threads(count)

    load, found = machine.Load(), Found()
    jobs = _jobs(part, device, count, sizes, found)
    if speaker:
        speaking = head.trained_head(places, speaker, extractor, sizes.render, device)
        rig = Rig(device, count, sizes.slow_repeats)
        jobs.append(Job("trained head", 8, lambda tick: _keep(found, head.render(rig, speaking, tick), "_trained")))
    _run(jobs)
    return _write(folder, _result(part, device, count, sizes, load, found), found.curves)


def _run(jobs: list[Job]) -> None:
    total, told, done = sum(job.seconds for job in jobs), 0, 0.0
    progress = Progress("bench", 100, "%")
    for job in jobs:

        def tick(part: float, job: Job = job) -> None:
            nonlocal told, done
            done += part * job.seconds / total * 100
            progress.update(int(done) - told, job.name)
            told = int(done)

        job.run(tick)
    progress.update(100 - told, f"{len(jobs)} measurement{'s' if len(jobs) > 1 else ''}")
    progress.finish()


def _keep(found: Found, figure: Figure | None, suffix: str = "", absent: str = "") -> None:
    if figure is None:
        found.notes.append(absent)
    else:
        found.figures.append(Figure(figure.name + suffix, figure.what, figure.fast, figure.reference))


def _jobs(part: str, device: str, count: int, sizes: Sizes, found: Found) -> list[Job]:
    """Return what a part consists of; every job puts what it finds into `found`."""
    rig, slow = Rig(device, count, sizes.repeats), Rig(device, count, sizes.slow_repeats)
    jobs: list[Job] = []

    def add(of: str, name: str, seconds: float, run: Callable[[Tick], None]) -> None:
        if part in (of, "all"):
            jobs.append(Job(name, seconds, run))

    for number in sizes.raster:
        chosen = rig if number < 20_000 else slow
        for backward in (False, True):
            seconds = number / 1e4 * (5 if backward else 2)
            measure = partial(parts.raster, chosen, number, sizes.picture, backward)
            add("raster", f"rasteriser, {number} Gaussians", seconds, lambda tick, m=measure: _keep(found, m(tick)))
    add("raster", "curves", 8, lambda tick: _raster_curves(slow, sizes, found, tick))
    if device == "cpu":
        add("raster", "first call", 9, lambda tick: _keep(found, first_call.first_call(sizes.slow_repeats, tick)))
    no_tcnn = "no grid: tiny-cuda-nn is not installed, so on CUDA there is nothing but the reference"
    add("grid", "grid", 0.5, lambda tick: _keep(found, parts.grid(rig, sizes.grid, tick), "", no_tcnn))
    no_bound = "no bound Gaussians: on CUDA there is nothing but the reference"
    add("bound", "bound", 1, lambda tick: _keep(found, parts.bound(rig, sizes.bound, tick), "", no_bound))
    no_ssim = "no SSIM: on CUDA there is nothing but the reference"
    add("ssim", "SSIM", 0.5, lambda tick: _keep(found, parts.structure(rig, sizes.picture, tick), "", no_ssim))
    add("iteration", "iteration", 9, lambda tick: _keep(found, head.iteration(slow, sizes.head, sizes.picture, tick)))
    if device == "cpu":
        add("iteration", "profile", 2, lambda tick: _profile(slow, sizes, found, tick))
    if part in ("render", "all"):
        speaking = head.synthetic_head(sizes.head, sizes.render, device)
        add("render", "rendering", 8, lambda tick: _keep(found, head.render(slow, speaking, tick)))
        add("render", "frames", 5, lambda tick: _frame_curve(slow, speaking, sizes, found, tick))
    return jobs


def _raster_curves(rig: Rig, sizes: Sizes, found: Found, tick: Tick) -> None:
    at = sizes.raster[0], sizes.picture
    new, found.cost = curves.raster_curves(
        rig, sizes.curve_gaussians, sizes.curve_pixels, at, sizes.curve_seconds, tick
    )
    found.curves += new


def _frame_curve(rig: Rig, speaking: head.Speaking, sizes: Sizes, found: Found, tick: Tick) -> None:
    found.curves.append(curves.frame_curve(rig, speaking, sizes.curve_frames, tick))


def _profile(rig: Rig, sizes: Sizes, found: Found, tick: Tick) -> None:
    found.profile = breakdown.breakdown(rig, sizes.head, sizes.picture, sizes.profiled)
    tick(1)


def _result(part: str, device: str, count: int, sizes: Sizes, load: machine.Load, found: Found) -> dict[str, Any]:
    used = load.as_record()
    noise = machine.noise(used, [figure.name for figure in found.figures if figure.noisy])
    disturbed = used["others_cores"] > machine.OTHERS_TOLERATED
    notes = list(found.notes)
    if device == "cpu" and count != 2:
        notes.append(f"the bars are for 2 cores; this ran on {count}")
    if device == "cuda":
        notes.append("the bars are for the CPU; iteration and render use gsplat, and torch for all else")
    verdicts = bars.verdicts(found.figures, device, disturbed) if device == "cpu" and sizes == Sizes() else []
    return {
        "version": VERSION,
        "part": part,
        "device": device,
        "machine": machine.describe(count, device),
        "load": used,
        "noise": noise,
        "figures": [figure.as_record() for figure in found.figures],
        "bars": [verdict for verdict in verdicts if part == "all" or verdict["state"] != "not measured"],
        "profile": found.profile,
        "curves": [curve.as_record() for curve in found.curves],
        "raster_cost": None if found.cost is None else found.cost.as_record(),
        "notes": notes,
        "files": {},
    }


def _write(folder: Path, result: dict[str, Any], drawn: list[Curve]) -> dict[str, Any]:
    path = folder / "bench.json"
    result["files"] = {"json": str(path)}
    if drawn:
        result["files"]["curves"] = str(folder / "cost.png")
        where = result["machine"]
        title = f"cost on {where['gpu'] or where['cpu']}, {where['threads']['kernels']} threads"
        drawing.draw_curves(folder / "cost.png", drawn, title)
    draft = path.with_suffix(f".{os.getpid()}.partial")
    draft.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(draft, path)
    return result
