"""A bench's result as tables and lines for a person."""

from __future__ import annotations

from typing import Any

Rows = list[tuple[object, ...]]

FIGURE_HEADS = ["figure", "x reference", "by medians", "by CPU time", "ms", "median", "CPU ms", "reference ms", "runs",
                "spread"]  # fmt: skip
BAR_HEADS = ["bar", "at", "measured", "median", "state"]
PROFILE_HEADS = ["part of an iteration", "forward ms", "backward ms", "share"]


def figure_rows(result: dict[str, Any]) -> Rows:
    """Return a row a figure, for `FIGURE_HEADS`."""
    rows: Rows = []
    for figure in result["figures"]:
        fast, reference = figure["fast"], figure["reference"]
        runs = f"{fast['samples']} x {fast['calls_per_sample']}"
        if reference:
            runs += f" : {reference['samples']} x {reference['calls_per_sample']}"
        spread = max(side["spread"] for side in (fast, reference) if side)
        rows.append((
            figure["name"],
            *(_digits(figure[key]) for key in ("ratio", "ratio_median", "ratio_cpu")),
            *(_digits(fast[key]) for key in ("wall_ms_min", "wall_ms_median", "cpu_ms_min")),
            _digits(reference and reference["wall_ms_min"]),
            runs,
            f"{spread:.0%}{' noisy' if figure['noisy'] else ''}",
        ))  # fmt: skip
    return rows


def bar_rows(result: dict[str, Any]) -> Rows:
    """Return a row a bar, for `BAR_HEADS`."""
    return [
        (bar["figure"], bar["bar"], _digits(bar["measured"]), _digits(bar["median"]), bar["state"])
        for bar in result["bars"]
    ]


def profile_rows(result: dict[str, Any]) -> Rows:
    """Return a row a part of the training iteration, for `PROFILE_HEADS`."""
    return [
        (row["part"], _digits(row["forward_ms"]), _digits(row["backward_ms"]), f"{row['share']:.0%}")
        for row in result["profile"]
    ]


def lines(result: dict[str, Any]) -> list[str]:
    """Return everything that is no table: rates, curves, notes, the machine and whether it was quiet."""
    machine, load = result["machine"], result["load"]
    told = []
    for figure in result["figures"]:
        if figure["name"].startswith(("iteration", "render")):
            unit = "iterations" if figure["name"] == "iteration" else "frames"
            least, median = _digits(figure["per_second"]), _digits(figure["per_second_median"])
            told.append(f"{figure['what']}: {least} {unit} a second, {median} by the median")
    for curve in result["curves"]:
        told.append(f"cost over {curve['x_label']}: {curve['note']}")
    cost = result["raster_cost"]
    if cost:
        told.append(
            f"the rasteriser, forward and backward: {cost['call_ms']:.3g} ms a call + {cost['gaussian_us']:.3g} us a "
            f"Gaussian + {cost['pair_ns']:.3g} ns a covered pixel (within {cost['largest_error']:.0%} of each point)"
        )
    told += result["notes"]
    where = machine["gpu"] or f"{machine['cpu']}, {machine['cores']} cores, {' '.join(machine['instruction_sets'])}"
    told.append(
        f"on {where}; kernels on {machine['threads']['kernels']} threads, the reference on as many of torch's; "
        f"load {load['load_start']} to {load['load_end']}, {load['seconds']:.0f} s"
    )
    noise = result["noise"]
    told.append("the machine was quiet" if noise["quiet"] else f"NOISY, do not quote these figures: {noise['why']}")
    return told


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"
