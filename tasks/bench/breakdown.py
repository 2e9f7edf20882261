"""Where a training iteration spends its time, by torch's profiler.

Forward work belongs to the innermost section that is open. Backward work belongs to the section in which its node of
the graph was made: forward operations and backward nodes share sequence numbers.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.autograd import profiler

from tasks.bench.backends import FAST, using
from tasks.bench.head import Training
from tasks.bench.parts import Rig
from tasks.bench.timing import rounded

NAMES = {
    "rasterize": "rasteriser",
    "encode": "grids",
    "evaluate_sh": "spherical harmonics",
    "networks": "networks (MLPs, audio)",
    "ssim": "SSIM",
    "loss": "L1 and other losses",
    "drawing": "activations, composing",
    "optimiser": "optimisers",
    "backward": "rest of the backward",
}
_MARK = "part: "
_NODE = "autograd::engine::evaluate_function: "


def _section(name: str) -> profiler.record_function:
    return profiler.record_function(_MARK + name)


def _marked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        with _section(name):
            return function(*arguments, **named)

    return call


def breakdown(rig: Rig, counts: tuple[int, int], size: int, iterations: int = 5) -> list[dict[str, Any]]:
    """Profile the training iteration on the fast backends of the CPU.

    Args:
        rig: says on how many threads.
        counts: Gaussians of face and mouth.
        size: of the picture.
        iterations: that are averaged, after two that are not.

    Returns:
        Per part its name, forward and backward ms and share of the iteration, largest first, and "rest" at the end.
        Profiling itself adds some per cent, most of it to what consists of many small operations.
    """
    training = Training(counts, size, rig.device)
    side, recorder = rig.side("cpu", training.step), profiler.profile()
    with side.setting(), using(FAST[rig.device], _marked):
        for _ in range(2):
            training.step()
        with _quiet(), recorder:
            for _ in range(iterations):
                with _section("iteration"):
                    training.step(_section)
    forward, backward = _attribute(recorder.function_events or ())
    total = forward.pop("iteration") / iterations
    rows = [_row(name, forward[key] / iterations, backward[key] / iterations, total) for key, name in NAMES.items()]
    rows.sort(key=lambda row: -row["share"])
    spent = sum(row["forward_ms"] + row["backward_ms"] for row in rows)
    return [*rows, _row("rest", max(0.0, total - spent), 0.0, total)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what libraries write to stderr past Python: the profiler tells that it starts and stops."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _row(name: str, forward: float, backward: float, total: float) -> dict[str, Any]:
    share = (forward + backward) / total
    return {
        "part": name,
        "forward_ms": rounded(forward),
        "backward_ms": rounded(backward),
        "share": round(share, 4),
    }


def _attribute(events: Any) -> tuple[defaultdict[str, float], defaultdict[str, float]]:
    """Return forward and backward ms by section; "iteration" among the former is the whole."""
    forward: defaultdict[str, float] = defaultdict(float)
    backward: defaultdict[str, float] = defaultdict(float)
    made_in: dict[int, tuple[float, str]] = {}  # sequence number -> start of the latest operation, its section
    nodes = []
    for event in events:
        milliseconds = event.time_range.elapsed_us() / 1e3
        if event.name.startswith(_MARK):
            name = event.name.removeprefix(_MARK)
            forward[name] += milliseconds
            outer = _section_around(event)
            if outer not in (None, "iteration"):
                forward[outer] -= milliseconds
        elif event.name.startswith(_NODE):
            nodes.append((event.sequence_nr, milliseconds))
        elif event.sequence_nr >= 0:
            section = _section_around(event)
            if section not in (None, "backward", "optimiser"):
                # An operation that makes no node bears the number that the next node will have: the latest made it.
                start = event.time_range.start
                made_in[event.sequence_nr] = max(made_in.get(event.sequence_nr, (start, section)), (start, section))
    for number, milliseconds in nodes:
        backward[made_in[number][1] if number in made_in else "backward"] += milliseconds
        forward["backward"] -= milliseconds
    backward["backward"] += max(0.0, forward.pop("backward", 0.0))  # the engine between nodes
    return forward, backward


def _section_around(event: Any) -> str | None:
    outer = event.cpu_parent
    while outer is not None and not outer.name.startswith(_MARK):
        outer = outer.cpu_parent
    return None if outer is None else outer.name.removeprefix(_MARK)
