"""TalkingGaussian's training as data: learning rates, loss weights, density control and curricula of every phase.

Defaults are the preset `cpu`, for two CPU cores; talking_gaussian_presets.py has the others. Nothing here needs torch,
so that params can be checked without it. `gausstalk run --explain STAGE` prints a phase as a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from models.curriculum import Sampling, Window
from models.gaussians.plan import Density, Harmonics
from models.schedule import MOST_GAUSSIANS, OFF, Backdrop, Curve, Decay, Frozen, Phase, Row, Term, curve_rows, factor_at

Unit = Literal["metres", "extent"]
"""Of learning rates of positions and of density control's lengths; the extent is 1.1 times how far the camera's places
are at most from their mean, in the head's frame. A speaker who sits still has a small one."""
Likeness = Literal["alex", "vgg", "squeeze", "squeeze_caffe"]
"""The network of LPIPS: AlexNet as released; the last is the same distance without LPIPS's weights of the channels."""
Placing = Literal["head", "cube"]
"""Of the first Gaussians: on landmarks and a carved shell, or anywhere in a cube of 20 cm, as released."""
GREEN, MAGENTA, BLACK = (0.0, 1.0, 0.0), (1.0, 0.0, 1.0), (0.0, 0.0, 0.0)
BOTH = (Backdrop((GREEN, MAGENTA)),)
"""What is behind a field while it is trained, step by step in turn: green as released, and its complement. In front of
one colour alone, a pixel that is the head's in some frames only is learnt as a veil of the complement."""
GEOMETRY = ("means", "quats", "raw_scales", "raw_opacities")
COLORS = ("colors", "harmonics")
APPEARANCE = (*GEOMETRY[1:], *COLORS)
PARTS = ("motion", *GEOMETRY, *COLORS)


@dataclass(frozen=True)
class Rates:
    """Learning rates at the beginning of a phase, and how they fall."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    means: float = 1e-4  # in the phase's unit
    means_curve: Curve = (Decay(0.02),)
    quats: float = 2e-3
    raw_scales: float = 6e-3
    raw_opacities: float = 3e-2
    colors: float = 5e-3
    harmonics: float = 5e-4
    appearance_curve: Curve = (Decay(0.3),)  # of quats, scales, opacities and colours
    networks: float = 1e-3
    audio: float = 1.5e-3  # the encoder of sound
    audio_attention: float = 1.5e-3  # its attention over neighbouring windows
    grid: float = 1e-2
    networks_curve: Curve = (Decay(0.1),)  # of networks, audio, attention and grid
    audio_decay: float = 1e-4  # weight decay (AdamW)
    attention_decay: float = 1e-4
    grid_decay: float = 1e-2

    def of_field(self, progress: float, unit_m: float = 1.0) -> dict[str, float]:
        """Return the rates of a field's parameters at `progress` 0..1; `unit_m` is what a length of 1 means, metres."""
        appearance = factor_at(self.appearance_curve, progress)
        return {
            "means": unit_m * self.means * factor_at(self.means_curve, progress),
            **{name: getattr(self, name) * appearance for name in APPEARANCE},
        }

    def rows(self, name: str, steps: int) -> list[Row]:
        """Describe them."""
        rows = curve_rows(f"{name}: means", self.means_curve, self.means, steps)
        for part in APPEARANCE:
            rows += curve_rows(f"{name}: {part}", self.appearance_curve, getattr(self, part), steps)
        for part in ("networks", "audio", "audio_attention", "grid"):
            rows += curve_rows(f"{name}: {part}", self.networks_curve, getattr(self, part), steps)
        return rows


@dataclass(frozen=True)
class FaceRates(Rates):
    """For a motion field that landmarks have already taught: lower, so that it is not unlearnt."""

    networks: float = 3e-4
    audio: float = 4.5e-4
    audio_attention: float = 4.5e-4
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
    audio_attention: float = 1.5e-4
    grid: float = 6e-4


@dataclass(frozen=True)
class MotionRates(Rates):
    """For landmarks alone, where a step is cheap and sees many frames; only the networks' rates matter."""

    networks: float = 3e-3
    audio: float = 3e-3
    audio_attention: float = 3e-3
    grid: float = 1.5e-2
    networks_curve: Curve = (Decay(0.05),)
    audio_decay: float = 1e-2
    attention_decay: float = 1e-2

    def rows(self, name: str, steps: int) -> list[Row]:
        """Describe those that matter."""
        parts = ("networks", "audio", "audio_attention", "grid")
        return [row for row in super().rows(name, steps) if row.name.removeprefix(f"{name}: ") in parts]


@dataclass(frozen=True)
class MotionPhase(Phase):
    """The face's motion field, taught by tracked landmarks before there is any image."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    MOST: ClassVar = {"frames": 4096}

    steps: int = 900
    frames: int = 32  # in a step
    landmarks: Term = Term()
    lips: float = 4.0  # weight of the lips' landmarks; those of neither lips nor lids count 1
    lids: float = 4.0
    lip_shape: float = 1.0  # weight of the lips' shape, their mean place taken out
    audio_noise: float = 0.2  # added to the audio features, in their standard deviations: a clip is short
    audio_elsewhere: float = 0.5  # share of frames that hear another frame's sound in the outer half of their windows
    lip_attention: Term = Term(0.3)  # how much the lips attend to the expression: it is sound that shall move them
    rates: MotionRates = MotionRates()


@dataclass(frozen=True)
class StillPhase(Phase):
    """A face field that does not move at all, against which poses are refined."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    MOST: ClassVar = {"points": MOST_GAUSSIANS}

    steps: int = 1500
    points: int = 3000
    backdrops: tuple[Backdrop, ...] = BOTH
    image: Term = Term()
    structure: Term = Term(0.2)
    mouth_box: Term = OFF
    alpha: Term = Term(5e-3)
    rates: Rates = Rates()
    density: Density = Density(capacity=5000, start=0.2, every=0.1)


@dataclass(frozen=True)
class FacePhase(Phase):
    """The face field in front of plain colours."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    MOST: ClassVar = {"points": MOST_GAUSSIANS}
    PARTS: ClassVar = PARTS

    steps: int = 4000
    points: int = 4000  # Gaussians to begin with
    placing: Placing = "head"
    opacity: float = 0.27  # of the first Gaussians
    unit: Unit = "metres"
    whole_frames: bool = False  # False: only the head's crop is drawn and compared
    harmonics: Harmonics = Harmonics()
    backdrops: tuple[Backdrop, ...] = BOTH
    moved: Term = Term()  # when the field is drawn as sound and expression deform it
    frozen: tuple[Frozen, ...] = (Frozen(("motion",), end=0.125),)
    image: Term = Term()  # L1 and structure
    structure: Term = Term(0.2)  # 1 - SSIM, within the image term
    mouth_box: Term = Term(0.5)  # L1 inside the mouth's crop
    alpha: Term = Term(5e-3)  # coverage
    motion: Term = Term(1e-5, start=0.125)  # mean size of the displacement
    landmarks: Term = Term(0.01, start=0.125)
    attention: Term = Term(4e-4, start=0.125, every=4)  # maps where sound or expression have no business
    lips: float = 4.0
    lids: float = 4.0
    lip_shape: float = 0.0
    hide_hair: Term = OFF  # hair is backdrop in render and target alike, and its attention is not asked after
    close_mouth: Term = OFF  # the mask of the mouth's inside is closed (3 x 3)
    lip_lpips: Term = OFF  # LPIPS in the lips' box, which is then painted over for the next one
    patch_lpips: Term = OFF  # LPIPS of patches side by side
    patch_px: tuple[float, float] = (32.0, 48.0)  # their side at 256 pixels, drawn anew every step
    lpips: Likeness = "alex"
    small_crops: bool = False  # True: the lips' box goes to LPIPS however small it is, as released
    empty_hair: Literal["zero", "nan"] = "zero"  # the mean attention of no hair; nan as released
    sampling: Sampling = "ranks"  # rejection as released
    rates: FaceRates = FaceRates()
    density: Density = Density()
    windows: tuple[Window, ...] = (
        Window("opening", every=15, phase=(0.0, 0.125), low=(0.0, 0.0), high=(0.4, 0.4)),
        Window("blink", every=15, phase=(0.125, 0.8), low=(0.0, 0.8), high=(0.3, 1.0)),
    )


@dataclass(frozen=True)
class MouthDensity(Density):
    """The inside of the mouth is small, and dark: it needs fewer, smaller and fainter Gaussians."""

    start: float = 6 / 35  # step 300 of 1750
    every: float = 3 / 35
    capacity: int = 3000
    split_above: float = 2e-3
    prune_opacity: tuple[float, float] = (0.02, 0.02)


@dataclass(frozen=True)
class MouthPhase(Phase):
    """The inside of the mouth in front of plain colours; frames with a closed mouth are left out."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    MOST: ClassVar = {"points": MOST_GAUSSIANS}
    PARTS: ClassVar = PARTS

    steps: int = 1750
    points: int = 1500
    placing: Placing = "head"
    opacity: float = 0.1
    unit: Unit = "metres"
    whole_frames: bool = False
    harmonics: Harmonics = Harmonics()
    backdrops: tuple[Backdrop, ...] = BOTH
    moved: Term = Term(start=0.2)
    frozen: tuple[Frozen, ...] = ()
    image: Term = Term()
    structure: Term = Term(0.2)
    inside: Term = Term(5.0)  # extra L1: the mouth is a small part even of its crop
    alpha: Term = Term(5e-3)
    motion: Term = Term(1e-5, start=0.2)
    patch_lpips: Term = OFF
    patch_px: tuple[float, float] = (16.0, 21.0)
    lpips: Likeness = "alex"
    least_pixels: int = 20  # frames that show less of the mouth teach nothing, at 256 pixels
    sampling: Sampling = "ranks"
    rates: Rates = Rates()
    density: MouthDensity = MouthDensity()
    windows: tuple[Window, ...] = (
        Window("opening", every=1, phase=(0.0, 0.2), low=(0.8, 0.8)),
        Window("opening", every=7, phase=(0.2, 0.8), low=(0.8, 0.0)),
    )


@dataclass(frozen=True)
class FusePhase(Phase):
    """Both fields over torso and background, against the frame."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    PARTS: ClassVar = tuple(f"{branch}/{part}" for branch in ("face", "mouth") for part in PARTS)

    steps: int = 1000
    unit: Unit = "metres"
    whole_frames: bool = False
    frozen: tuple[Frozen, ...] = ()
    image: Term = Term()
    structure: Term = Term(0.2)
    mouth_box: Term = Term(0.3)
    patch_lpips: Term = OFF
    patch_px: tuple[float, float] = (16.0, 21.0)
    lpips: Likeness = "alex"
    kept_opacity_rate: bool = False  # True: opacities go on with the rate of the face's own training, as released
    rates: FuseRates = FuseRates()


Phase = MotionPhase | StillPhase | FacePhase | MouthPhase | FusePhase
RELEASED_FROZEN = (
    Frozen(("face/motion", *(f"face/{name}" for name in GEOMETRY if name != "raw_opacities"))),
    Frozen(("mouth/motion", *(f"mouth/{name}" for name in GEOMETRY))),
)
"""What the released code trains while it fuses: colours, and the face's opacity."""
