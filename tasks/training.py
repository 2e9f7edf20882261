"""One training loop for all phases: progress, curves, checkpoints, and going on where a killed run stopped.

A resumed run gives the same bytes as one that was never interrupted (on the same number of threads): a checkpoint
holds parameters, optimisers, density statistics, frame order and random states, and nothing else decides.
"""

from __future__ import annotations

import logging
import math
import os
import resource
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from models.errors import InputError
from models.gaussians.adam import FieldAdam
from models.gaussians.density import DensityControl
from models.gaussians.field import GaussianField
from models.gaussians.plan import Density
from models.gaussians.rasterize import Raster
from models.methods.talking_gaussian import FaceMotion, MouthMotion
from models.methods.talking_gaussian_phases import Rates
from models.schedule import factor_at
from models.storage import load_arrays, save_arrays
from tasks.device import stage_device
from tasks.kernels import watch
from tasks.progress import Progress
from tasks.stage import Context
from tasks.tracking import live_curves

log = logging.getLogger("gausstalk")
CHECKPOINT_EVERY_S = 30.0
CURVE_POINTS = 100


class Stateful(Protocol):
    """Something that a checkpoint holds."""

    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102

    def load_state_dict(self, state: dict[str, Any]) -> None: ...  # noqa: D102


class FieldRates(Protocol):
    """Learning rates of a Gaussian field's parameters."""

    def of_field(self, progress: float, unit_m: float = 1.0) -> dict[str, float]:
        """Return them by name at `progress` 0..1."""
        ...


class MotionLearner:
    """Trains the networks of a motion field with AdamW (Loshchilov and Hutter, 2019)."""

    def __init__(self, motion: FaceMotion | MouthMotion, rates: Rates) -> None:
        self.motion, self.rates = motion, rates
        grid, audio = [motion.planes.table], list(motion.audio.parameters())
        attention = [*motion.audio.scores.parameters(), *motion.audio.mix.parameters()]
        audio = _without(audio, attention)
        others = _without(motion.parameters(), [*audio, *attention, *grid])
        groups = [
            {"params": others, "lr": rates.networks, "weight_decay": 0.0},
            {"params": audio, "lr": rates.audio, "weight_decay": rates.audio_decay},
            {"params": attention, "lr": rates.audio_attention, "weight_decay": rates.attention_decay},
            {"params": grid, "lr": rates.grid, "weight_decay": rates.grid_decay},
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), eps=1e-8, fused=True)  # many small tensors

    def step(self, progress: float) -> None:
        """Use up the gradients, at `progress` 0..1 of the phase."""
        factor, rates = factor_at(self.rates.networks_curve, progress), self.rates
        first = (rates.networks, rates.audio, rates.audio_attention, rates.grid)
        for group, rate in zip(self.optimizer.param_groups, first, strict=True):
            group["lr"] = rate * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return networks and optimiser."""
        return {"motion": self.motion.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.motion.load_state_dict(state["motion"])
        self.optimizer.load_state_dict(state["optimizer"])


def _without(parameters: Iterable[Tensor], left_out: Iterable[Tensor]) -> list[Tensor]:
    known = {id(parameter) for parameter in left_out}
    return [parameter for parameter in parameters if id(parameter) not in known]


class FieldLearner:
    """Trains a Gaussian field with Adam and density control."""

    def __init__(
        self,
        gaussians: GaussianField,
        rates: FieldRates,
        density: Density | None,
        seed: int,
        unit_m: float = 1.0,
        pixel: float = 1.0,
    ) -> None:
        """Prepare; `unit_m` and `pixel` are what a length of 1 in the rates and in the plan means."""
        self.gaussians, self.rates, self.unit_m = gaussians, rates, unit_m
        self.adam = FieldAdam(gaussians.tensors())
        self.generator = torch.Generator().manual_seed(seed)
        device, count = gaussians.means.device, len(gaussians)
        self.control = DensityControl(density, count, self.generator, device, unit_m, pixel) if density else None

    def step(self, step: int, steps: int, raster: Raster | None = None, frozen: Collection[str] = ()) -> None:
        """Use up the gradients of `step` (from 1) of `steps`, then refine the field if that is due.

        Args:
            step: which step this is.
            steps: of the phase.
            raster: the draw that was differentiated; needed if there is density control.
            frozen: names of the parameters that do not change.
        """
        if self.control and raster is not None:
            self.control.observe(raster)
        progress = step / steps
        current = self.rates.of_field(progress, self.unit_m)
        self.adam.step(self.gaussians.tensors(), {name: current[name] for name in current if name not in frozen})
        if self.control and self.control.plan.due(step, steps):
            self.control.refine(self.gaussians, self.adam, progress)

    def state_dict(self) -> dict[str, Any]:
        """Return field, optimiser, statistics and random state."""
        return {
            "gaussians": {name: tensor.detach() for name, tensor in self.gaussians.tensors().items()},
            "adam": self.adam.state_dict(),
            "generator": self.generator.get_state(),
            "control": self.control.state_dict() if self.control else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.gaussians.replace(state["gaussians"])
        self.adam.load_state_dict(state["adam"])
        self.generator.set_state(state["generator"])
        if self.control:
            self.control.load_state_dict(state["control"])


class Noise:
    """Disturbs audio features, so that lips are not learnt by heart from the sound of a whole stretch of speech.

    Every band of a window as a whole and every number by itself get noise. And some frames hear another frame's sound
    in the outer half of their windows: what lies further away than half of that may help but must not be needed.
    """

    def __init__(self, amount: Tensor | float, seed: int, elsewhere: float = 0.0) -> None:
        """Prepare noise of standard deviation `amount` (one, or `[D, 1]`), twice, and the sound of `elsewhere`.

        `elsewhere` is a share of frames.
        """
        self.amount, self.elsewhere = amount, elsewhere
        self.generator = torch.Generator().manual_seed(seed)

    def on(self, windows: Tensor) -> Tensor:
        """Return disturbed `[B, 8, D, W]` windows."""
        batch, neighbours, size, width = windows.shape
        if self.elsewhere:
            inner = slice(width // 4, width - width // 4)
            other = windows[torch.randperm(batch, generator=self.generator)]
            other[..., inner] = windows[..., inner]
            chosen = torch.rand(batch, 1, 1, 1, generator=self.generator) < self.elsewhere
            windows = torch.where(chosen.to(windows.device), other, windows)
        if torch.as_tensor(self.amount).any():
            for shape in ((batch, 1, size, 1), (batch, neighbours, size, width)):
                windows = windows + self.amount * torch.randn(shape, generator=self.generator).to(windows)
        return windows

    def state_dict(self) -> dict[str, Any]:
        """Return the random state."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.generator.set_state(state["generator"])


class Curves:
    """Means of the loss terms over intervals of steps."""

    def __init__(self, steps: int) -> None:
        self.every = max(1, math.ceil(steps / CURVE_POINTS))
        self.points: dict[str, list[float]] = {"step": []}
        self._sums: dict[str, list[float]] = {}  # name -> [sum, count]

    def add(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Take in one step's values; return the means when an interval ends, else nothing."""
        for name, value in values.items():
            total = self._sums.setdefault(name, [0.0, 0.0])
            total[0] += value
            total[1] += 1
        if step % self.every:
            return {}
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        for name, mean in means.items():
            # A term that begins late still has one value for every interval.
            self.points.setdefault(name, [0.0] * len(self.points["step"])).append(mean)
        self.points["step"].append(float(step))
        for values_so_far in self.points.values():
            values_so_far += [0.0] * (len(self.points["step"]) - len(values_so_far))
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return all points and the open interval."""
        return {"points": self.points, "sums": self._sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.points, self._sums = state["points"], state["sums"]


class Outcome:
    """What is left of a training run besides its parameters."""

    def __init__(self, curves: Curves, seconds: float, resumed: int, preset: str) -> None:
        self.curves, self.seconds, self.resumed, self.preset = curves.points, seconds, resumed, preset

    def quality(self, **more: float) -> dict[str, Any]:
        """Return the figures for the record."""
        last = {f"last_{name}": values[-1] for name, values in self.curves.items() if name != "step" and values}
        about = {"seconds": round(self.seconds, 1), "resumed": self.resumed, "preset": self.preset}
        about["peak_memory_gb"] = peak_memory_gb()
        return {**about, **computed_on(stage_device()), **last, **more}


def train(
    context: Context[Any],
    label: str,
    steps: int,
    step: Callable[[int], Mapping[str, float]],
    parts: Mapping[str, Stateful],
) -> Outcome:
    """Run `step(1)` to `step(steps)`, checkpointed into the stage's scratch folder.

    Args:
        context: of the stage.
        label: short name of the phase, for progress, curves and the checkpoint's file.
        steps: how many.
        step: does one step and returns its loss terms.
        parts: everything that changes while training; saved and restored under these names.

    Returns:
        Curves, seconds of training over all interrupted runs, and how often it was resumed.
    """
    path = context.scratch / f"{label}.checkpoint"
    curves = Curves(steps)
    everything: dict[str, Stateful] = {**parts, "curves": curves}
    done, spent, resumed = 0, 0.0, 0
    state = load_checkpoint(path)
    if state is not None:
        for name, part in everything.items():
            part.load_state_dict(state["parts"][name])
        done, spent, resumed = state["step"], state["seconds"], state["resumed"] + 1
        log.info("%s: resumed after %d of %d steps", label, done, steps)
    started = saved = time.monotonic()
    progress = Progress(f"{context.stage.name} {context.keys}", steps - done, "steps")
    with live_curves(context.keys, context.stage.method, context.stage.name, context.places) as live:
        for number in range(done + 1, steps + 1):
            values = step(number)
            total = sum(values.values())
            if not math.isfinite(total):
                raise FloatingPointError(f"{label}: the loss is {total} at step {number}: {dict(values)}")
            means = curves.add(number, {"loss": total, **values})
            if means:
                live.log(number, **means)
            progress.update(1, f"loss {total:.4f}")
            if time.monotonic() - saved >= CHECKPOINT_EVERY_S and number < steps:
                saved = time.monotonic()
                states = {name: part.state_dict() for name, part in everything.items()}
                seconds = spent + saved - started
                save_checkpoint(path, {"step": number, "seconds": seconds, "resumed": resumed, "parts": states})
    progress.finish()
    return Outcome(curves, spent + time.monotonic() - started, resumed, context.preset)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write nested dicts and lists of tensors and plain values; a kill leaves either the old file or the new one."""
    arrays: dict[str, np.ndarray] = {}
    tree = _pack(state, arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_arrays(partial, arrays, "Checkpoint", 1, {"tree": tree})
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint; one that is missing or damaged counts as none."""
    if not path.is_file():
        return None
    try:
        arrays, meta = load_arrays(path, "Checkpoint", 1)
    except InputError as error:
        log.warning("%s cannot be read (%s): training begins anew", path.name, error.why or error.what)
        return None
    return _unpack(meta["tree"], arrays)


def _pack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return `value` as JSON keeps it: dicts as pairs, since keys may be numbers, and tensors as names in `arrays`."""
    if isinstance(value, Tensor):
        name = str(len(arrays))
        arrays[name] = value.detach().cpu().numpy()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[key, _pack(item, arrays)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_pack(item, arrays) for item in value]}
    return value


def _unpack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return torch.from_numpy(arrays[value["tensor"]])
    if "dict" in value:
        return {key: _unpack(item, arrays) for key, item in value["dict"]}
    return [_unpack(item, arrays) for item in value["list"]]


def total_of(terms: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Return the sum of weighted loss terms and their values."""
    values = torch.stack(list(terms.values()))
    return values.sum(), dict(zip(terms, values.tolist(), strict=True))  # one wait for the device, not one a term


def peak_memory_gb() -> float:
    """Return the most memory that this process has held: of the GPU where it trains on one, else of the machine."""
    if stage_device().startswith("cuda"):
        return round(torch.cuda.max_memory_allocated() / 1e9, 3)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3)


def computed_on(device: str) -> dict[str, str]:
    """Return what a record says of the machine: the device, and which rasteriser "auto" takes there."""
    from models.gaussians.rasterize import choose_backend

    return {"device": device, "rasteriser": choose_backend(torch.zeros(1, 3, device=device))}


def prepare(context: Context[Any]) -> str:
    """Let our kernels use as many threads as the stage may; return the device to train on.

    Raises:
        MachineError: a device is asked for that cannot be used.
    """
    import numba

    watch()
    torch.set_num_threads(1)  # tasks.stage.limit_threads says why
    numba.set_num_threads(min(context.threads, numba.config.NUMBA_NUM_THREADS))
    chosen = stage_device()
    rasteriser = computed_on(chosen)["rasteriser"]
    log.info("%s %s: computing on %s with the %s rasteriser", context.stage.name, context.keys, chosen, rasteriser)
    return chosen
