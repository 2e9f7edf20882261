"""A whole head: one training iteration and the rendering of frames, by the method's own code."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import losses
from models.gaussians.field import GaussianField, inverse_softplus
from models.gaussians.spherical_harmonics import COLOR_OFFSET, Y0
from models.methods.audio_encoder import NEIGHBOURS
from models.methods.talking_gaussian import (
    Branch,
    Camera,
    Config,
    FaceMotion,
    MouthMotion,
    compose,
    draw,
)
from models.methods.talking_gaussian_phases import FusePhase
from models.records import Weights
from models.schedule import weights_at
from tasks.bench import scenes
from tasks.bench.backends import FAST, REFERENCE, using
from tasks.bench.parts import Rig
from tasks.bench.timing import Figure, Side, Tick, measure
from tasks.places import Places
from tasks.scene import Scene
from tasks.talking_head import TalkingHead, audio_windows
from tasks.trained import check_trained
from tasks.training import FieldLearner, MotionLearner, total_of

AUDIO_WINDOW = 16  # entries in each window of speech features
SH_DEGREE = 2

Section = Callable[[str], AbstractContextManager[Any]]


def synthetic_branches(counts: tuple[int, int], device: str) -> tuple[Branch, Branch]:
    """Make the untrained halves of a head, both as shells that fill the frame: harder than a mouth is.

    Args:
        counts: Gaussians of face and mouth.
        device: of the tensors.
    """
    config = Config(sh_degree=SH_DEGREE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        motions = FaceMotion(config), MouthMotion(config)
    face, mouth = (
        Branch(_field(scenes.shell(count, seed)), motion).to(device)
        for seed, (count, motion) in enumerate(zip(counts, motions, strict=True))
    )
    return face, mouth


def _field(shell: scenes.Shell) -> GaussianField:
    bands = (SH_DEGREE + 1) ** 2
    generator = torch.Generator().manual_seed(2)
    return GaussianField(
        means=shell.means,
        quats=shell.quats,
        raw_scales=inverse_softplus(shell.scales),
        raw_opacities=torch.logit(shell.opacities, eps=1e-6),
        colors=((shell.colors - COLOR_OFFSET) / Y0)[:, None],
        harmonics=0.05 * torch.randn(len(shell.means), bands - 1, 3, generator=generator),
    )


def conditions(device: str, frames: int = 1) -> tuple[Tensor, Tensor]:
    """Return audio windows `[T, 8, 80, 16]` and expressions `[T, 10]` of nothing in particular."""
    generator = torch.Generator().manual_seed(3)
    neighbours = NEIGHBOURS[1] - NEIGHBOURS[0] + 1
    audio = torch.randn(frames, neighbours, Config().audio_size, AUDIO_WINDOW, generator=generator)
    return audio.to(device), torch.rand(frames, Config().expression_size, generator=generator).to(device)


class Training:
    """The joint training of face and mouth against whole pictures, as the stage tg_fuse does it."""

    def __init__(self, counts: tuple[int, int], size: int, device: str) -> None:
        self.branches = synthetic_branches(counts, device)
        self.phase = FusePhase()
        self.fields = [FieldLearner(branch.gaussians, self.phase.rates, None, 0) for branch in self.branches]
        self.motions = [MotionLearner(branch.motion, self.phase.rates) for branch in self.branches]
        self.camera = scenes.camera(size, device)
        self.audio, self.expression = conditions(device)
        ramp = torch.linspace(0, 1, size, device=device)
        self.target = torch.stack([ramp[:, None].expand(size, size), ramp.expand(size, size), ramp.flip(0)[:, None]
                                   .expand(size, size)], -1).contiguous()  # fmt: skip
        self.behind = torch.full((size, size, 3), 0.5, device=device)
        self.box = (3 * size // 8, 5 * size // 8, 5 * size // 8, 7 * size // 8)
        self.number = 0

    def step(self, section: Section = lambda _: nullcontext()) -> float:
        """Do one iteration and return its loss.

        Args:
            section: gives a block for each part of it: networks, drawing, loss, backward, optimiser.
        """
        self.number += 1
        with section("networks"):
            deformations = [branch.move(self.audio, self.expression)[0] for branch in self.branches]
        with section("drawing"):
            rasters = [
                draw(branch.gaussians, self.camera, moved)
                for branch, moved in zip(self.branches, deformations, strict=True)
            ]
            image = compose(rasters[0], rasters[1], self.behind)
        with section("loss"):
            on = weights_at(self.phase, self.number)
            terms = {
                "image": losses.photometric(image, self.target, on["structure"]),
                "mouth_box": on["mouth_box"] * losses.box_l1(image, self.target, self.box),
            }
            total, values = total_of(terms)
        with section("backward"):
            total.backward()
        with section("optimiser"):
            for field in self.fields:
                field.step(self.number, self.phase.steps)
            for motion in self.motions:
                motion.step(self.number / self.phase.steps)
        return sum(values.values())


def on(side: Side, backends: dict[str, str]) -> Side:
    """Return `side` with the method bound to `backends` while it runs."""

    @contextmanager
    def setting() -> Any:
        with ExitStack() as stack:
            stack.enter_context(side.setting())
            stack.enter_context(using(backends))
            yield

    return Side(side.backend, side.call, setting, side.wait)


def iteration(rig: Rig, counts: tuple[int, int], size: int, tick: Tick = lambda _: None) -> Figure:
    """Time a full training iteration: networks, grids, both fields, SH, L1 and D-SSIM, all gradients, optimisers."""
    names = {"cpu": "cpu", "cuda": "gsplat"}[rig.device], "reference"
    backends = FAST[rig.device], REFERENCE
    fast, slow = (
        on(rig.side(name, Training(counts, size, rig.device).step), chosen)
        for name, chosen in zip(names, backends, strict=True)
    )
    what = f"training iteration, {counts[0]} face and {counts[1]} mouth Gaussians, {size}x{size}, SH degree {SH_DEGREE}"
    return measure("iteration", what, fast, slow, rig.repeats, tick)


@dataclass
class Speaking:
    """A head with everything that one frame needs."""

    name: str
    load: Callable[[], TalkingHead]
    camera: Camera
    behind: np.ndarray  # [H, W, 3] in 0..1
    audio: list[Tensor]
    expression: list[Tensor]

    def frames(self, head: TalkingHead, count: int) -> None:
        """Render `count` frames, from audio features to bytes of an image."""
        for index in range(count):
            heard, seen = self.audio[index % len(self.audio)], self.expression[index % len(self.expression)]
            head.draw(self.camera, head.move(heard, seen), self.behind)


def synthetic_head(counts: tuple[int, int], size: int, device: str) -> Speaking:
    """Return a head that nobody has trained."""
    face, mouth = synthetic_branches(counts, device)
    configs = {name: Config(sh_degree=SH_DEGREE).as_record() for name in ("face", "mouth")}
    weights = Weights("talking_gaussian", "fuse", configs, {**face.tensors("face"), **mouth.tensors("mouth")})
    audio, expression = conditions("cpu", 8)
    behind = np.full((size, size, 3), 0.5, np.float32)
    camera = scenes.camera(size, device)
    name = f"synthetic head, {counts[0]} face and {counts[1]} mouth Gaussians"
    return Speaking(name, lambda: TalkingHead(weights, device), camera, behind, list(audio), list(expression))


def trained_head(places: Places, speaker: str, extractor: str, size: int, device: str) -> Speaking:
    """Return a speaker's trained head in front of its clip, drawn at `size` pixels of width.

    Raises:
        InputError: it has not been trained yet.
        UsageError: there is no such extractor.
    """
    import cv2

    from models.records import AudioFeatures
    from tasks.places import Keys

    check_trained(places, speaker, extractor)
    head = TalkingHead.load(places, speaker, extractor, device)
    scene = Scene.load(places, speaker, head.config)
    first, end = scene.longest_shot()
    features = AudioFeatures.load(places.record("audio", Keys(speaker=speaker, extractor=extractor))).values[first:end]
    whole = scene.camera(first)
    factor = size / whole.width
    intrinsics = whole.intrinsics.clone()
    intrinsics[:2] *= factor
    camera = Camera(whole.world_to_camera, intrinsics, size, round(whole.height * factor))
    behind = cv2.resize(scene.layers.behind(first), (camera.width, camera.height), interpolation=cv2.INTER_LINEAR)
    counts = len(head.face.gaussians), len(head.mouth.gaussians)
    name = f"trained head of {speaker}, {counts[0]} face and {counts[1]} mouth Gaussians"

    def load() -> TalkingHead:
        return TalkingHead.load(places, speaker, extractor, device)

    return Speaking(name, load, camera, behind, list(audio_windows(features)), list(scene.expression[first:end]))


def render(rig: Rig, speaking: Speaking, tick: Tick = lambda _: None) -> Figure:
    """Time one rendered frame with the speech already in features: motion, both fields, torso, bytes."""
    names = {"cpu": "cpu", "cuda": "gsplat"}[rig.device], "reference"
    backends = FAST[rig.device], REFERENCE
    head = speaking.load()
    fast, slow = (
        on(rig.side(name, lambda: speaking.frames(head, 1)), chosen)
        for name, chosen in zip(names, backends, strict=True)
    )
    camera = speaking.camera
    what = f"rendered frame, {speaking.name}, {camera.width}x{camera.height}"
    return measure(f"render_{camera.width}", what, fast, slow, rig.repeats, tick)
