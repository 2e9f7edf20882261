"""TalkingGaussian's training as data: learning rates, loss weights, density control and curricula of every phase.

Defaults are the preset for two CPU cores. Nothing here needs torch, so that params can be checked without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from models.curriculum import Window
from models.gaussians.plan import Density


@dataclass(frozen=True)
class Rates:
    """Learning rates at the beginning of a phase, and the factor on them at its end (falling exponentially)."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    means: float = 1e-4
    means_end: float = 0.02
    quats: float = 2e-3
    raw_scales: float = 6e-3
    raw_opacities: float = 3e-2
    colors: float = 5e-3
    harmonics: float = 5e-4
    appearance_end: float = 0.3  # of quats, scales, opacities and colours
    networks: float = 1e-3
    audio: float = 1.5e-3
    grid: float = 1e-2
    networks_end: float = 0.1
    audio_decay: float = 1e-4  # weight decay (AdamW) of the audio encoder
    grid_decay: float = 1e-2


@dataclass(frozen=True)
class FaceRates(Rates):
    """For a motion field that landmarks have already taught: lower, so that it is not unlearnt."""

    networks: float = 3e-4
    audio: float = 4.5e-4
    grid: float = 2e-3


@dataclass(frozen=True)
class FuseRates(Rates):
    """About a third of the others: both fields are nearly there."""

    means: float = 1e-5
    quats: float = 6e-4
    raw_scales: float = 1.8e-3
    raw_opacities: float = 9e-3
    colors: float = 2.5e-3
    harmonics: float = 2.5e-4
    networks: float = 1e-4
    audio: float = 1.5e-4
    grid: float = 6e-4


@dataclass(frozen=True)
class MotionRates(Rates):
    """For landmarks alone, where a step is cheap and sees many frames; only the networks' rates matter."""

    networks: float = 3e-3
    audio: float = 3e-3
    grid: float = 1.5e-2
    networks_end: float = 0.05
    audio_decay: float = 1e-2


@dataclass(frozen=True)
class MotionPhase:
    """The face's motion field, taught by tracked landmarks before there is any image."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    steps: int = 900
    frames: int = 32  # in a step
    lips: float = 4.0  # weight of the lips' landmarks; those of neither lips nor lids count 1
    lids: float = 4.0
    lip_shape: float = 1.0  # weight of the lips' shape, their mean place taken out
    audio_noise: float = 0.2  # added to the audio features, in their standard deviations: a clip is short
    audio_elsewhere: float = 0.5  # share of frames that hear another frame's sound in the outer half of their windows
    lip_attention: float = 0.3  # weight of how much the lips attend to the expression: it is sound that shall move them
    rates: MotionRates = MotionRates()


@dataclass(frozen=True)
class StillPhase:
    """A face field that does not move at all, against which poses are refined."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    steps: int = 1500
    points: int = 3000
    structure: float = 0.2
    mouth_box: float = 0.0
    alpha: float = 5e-3
    rates: Rates = Rates()
    density: Density = Density(capacity=5000)


@dataclass(frozen=True)
class FacePhase:
    """The face field in front of plain colours."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    steps: int = 4000
    points: int = 4000  # Gaussians to begin with
    motion_from: float = 0.125  # fraction of the steps after which the motion field is trained as well
    structure: float = 0.2  # weight of 1 - SSIM
    mouth_box: float = 0.5  # weight of the L1 inside the lips' box
    alpha: float = 5e-3
    motion: float = 1e-5  # weight of the mean size of the displacement
    attention: float = 1e-4  # weight of the attention maps where sound or expression have no business
    attention_every: int = 4  # steps; each then counts so many times
    landmarks: float = 0.01
    lips: float = 4.0
    lids: float = 4.0
    lip_shape: float = 0.0
    smooth: float = 0.01  # weight of how much embeddings differ from their neighbours'
    smooth_every: int = 10  # steps; each then counts so many times
    rates: FaceRates = FaceRates()
    density: Density = Density()
    windows: tuple[Window, ...] = (
        Window("opening", every=15, phase=(0.0, 0.125), low=(0.0, 0.0), high=(0.4, 0.4)),
        Window("blink", every=15, phase=(0.125, 0.8), low=(0.0, 0.8), high=(0.3, 1.0)),
    )


@dataclass(frozen=True)
class MouthDensity(Density):
    """The inside of the mouth is small, and dark: it needs fewer, smaller and fainter Gaussians."""

    capacity: int = 3000
    split_above_m: float = 2e-3
    prune_opacity: tuple[float, float] = (0.02, 0.02)


@dataclass(frozen=True)
class MouthPhase:
    """The inside of the mouth in front of plain colours; frames with a closed mouth are left out."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    steps: int = 1750
    points: int = 1500
    motion_from: float = 0.2
    structure: float = 0.2
    inside: float = 5.0  # extra weight of the L1: the mouth is a small part even of its crop
    alpha: float = 5e-3
    motion: float = 1e-5
    least_pixels: int = 20  # frames that show less of the mouth teach nothing, at 256 pixels
    smooth: float = 0.01  # as of the face
    smooth_every: int = 10
    rates: Rates = Rates()
    density: MouthDensity = MouthDensity()
    windows: tuple[Window, ...] = (
        Window("opening", every=1, phase=(0.0, 0.2), low=(0.8, 0.8)),
        Window("opening", every=7, phase=(0.2, 0.8), low=(0.8, 0.0)),
    )


@dataclass(frozen=True)
class FusePhase:
    """Both fields over torso and background, against the frame."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    steps: int = 1000
    joint: bool = True  # False: only colours and the face's opacity, as released
    structure: float = 0.2
    mouth_box: float = 0.3
    rates: FuseRates = FuseRates()
