"""GaussianTalker's training as data: learning rates, loss weights and density control of both modules.

Defaults are the preset `cpu`. Nothing here needs torch, so that params can be checked without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from models.curriculum import Window
from models.gaussians.plan import Density, Green, Harmonics
from models.schedule import OFF, Backdrop, Curve, Decay, Frozen, Phase, Row, Term, curve_rows, factor_at

GREEN, MAGENTA = (0.0, 1.0, 0.0), (1.0, 0.0, 1.0)
APPEARANCE = ("quats", "raw_scales", "raw_opacities", "colors", "harmonics")
BASES = ("position_basis", "rotation_basis", "color_basis")
HEAD = ("shape", "expression", "jaw", "orient", "translation")


@dataclass(frozen=True)
class MotionRates:
    """Learning rates of the motion translator."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    encoder: float = 1e-3
    own: float = 1e-3  # of embedding, decoder and perceptron
    decay: float = 1e-2  # weight decay (AdamW)
    curve: Curve = (Decay(0.05),)

    def rows(self, name: str, steps: int) -> list[Row]:
        """Describe them."""
        rows = curve_rows(f"{name}: encoder", self.curve, self.encoder, steps)
        return rows + curve_rows(f"{name}: own", self.curve, self.own, steps)


@dataclass(frozen=True)
class TranslatorPhase(Phase):
    """The motion translator: first by all speakers together, then by the one who is to speak."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    MOST: ClassVar = {"windows": 256, "frames": 4096, "voices": 256}
    PARTS: ClassVar = ("encoder",)

    steps: int = 500
    windows: int = 4  # in a step
    frames: int = 100  # in a window; at most the translator's span
    vertices: Term = Term(1e5)  # mean squared distance, square metres; with the paper's 1000 coefficients decide alone
    parameters: Term = Term(10.0)  # of the coefficients
    smoothness: Term = Term(5e5)  # of the vertices' steps from frame to frame: syllables are heard, slow drift is not
    latent: Term = Term(4e-3, every=4)  # how unlike the same words sound in two voices; costs as much as all else
    lips: float = 2.0  # weight of the lips' vertices
    disguised: float = 0.5  # share of windows that are heard in another voice
    voices: int = 4  # disguised copies of every recording
    others: Term = Term(end=0.7)  # when the other speakers' windows are drawn, too
    audio_noise: float = 0.3  # added to the features, in their standard deviations: a clip is short
    opening: float = 1.0  # lips open so many times as far as tracked in the training frames; 0: as they were learnt to
    frozen: tuple[Frozen, ...] = (Frozen(("encoder",), start=0.7),)
    rates: MotionRates = MotionRates()

    def __post_init__(self) -> None:
        """Check that there is something to learn from in a step.

        Raises:
            ValueError: there is nothing, or a number is out of its range.
        """
        super().__post_init__()
        if min(self.windows, self.frames) < 1:
            raise ValueError("windows and frames of a step are 1 or more")


@dataclass(frozen=True)
class RendererRates:
    """Learning rates of the renderer at the beginning, in units of the triangles, and how they fall (table 2)."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    means: float = 1.6e-4
    quats: float = 1e-3
    raw_scales: float = 5e-3
    raw_opacities: float = 5e-2
    colors: float = 2.5e-3
    harmonics: float = 1.25e-4  # a twentieth, as 3D Gaussian Splatting has it
    position_basis: float = 1.6e-4
    rotation_basis: float = 1e-3
    color_basis: float = 5e-4
    weights: float = 1e-4  # of the perceptron that gives the blend weights
    shape: float = 1e-4  # where it is not fixed
    expression: float = 1e-3
    jaw: float = 1e-4
    orient: float = 1e-5
    translation: float = 1e-5
    means_curve: Curve = (Decay(0.01),)  # of means and their bases
    appearance_curve: Curve = ()

    def of_field(self, progress: float, unit_m: float = 1.0) -> dict[str, float]:
        """Return the rates of the Gaussians' parameters at `progress` 0..1."""
        places, others = factor_at(self.means_curve, progress), factor_at(self.appearance_curve, progress)
        return {
            "means": unit_m * self.means * places,
            "position_basis": unit_m * self.position_basis * places,
            **{name: getattr(self, name) * others for name in (*APPEARANCE, *BASES[1:])},
        }

    def rows(self, name: str, steps: int) -> list[Row]:
        """Describe them."""
        rows: list[Row] = []
        for part in ("means", "position_basis"):
            rows += curve_rows(f"{name}: {part}", self.means_curve, getattr(self, part), steps)
        for part in (*APPEARANCE, *BASES[1:]):
            rows += curve_rows(f"{name}: {part}", self.appearance_curve, getattr(self, part), steps)
        for part in ("weights", *HEAD):
            rows += Term(getattr(self, part)).rows(f"{name}: {part}", steps)
        return rows


@dataclass(frozen=True)
class QuickRates(RendererRates):
    """For a few thousand steps on two cores: those of colours and places are larger, and fall."""

    means: float = 2e-3
    quats: float = 2e-3
    raw_opacities: float = 3e-2
    colors: float = 5e-3
    harmonics: float = 5e-4
    position_basis: float = 2e-3
    rotation_basis: float = 2e-3
    color_basis: float = 2e-3
    weights: float = 1e-3
    expression: float = 2e-3
    jaw: float = 2e-4
    means_curve: Curve = (Decay(0.05),)
    appearance_curve: Curve = (Decay(0.3),)


@dataclass(frozen=True)
class BoundDensity(Density):
    """Density control of bound Gaussians. Lengths are in units of the triangles."""

    start: float = 0.1
    every: float = 0.05
    capacity: int = 14_000
    growth: float = 0.05
    split_above: float = 1.0
    prune_opacity: tuple[float, float] = (0.005, 0.03)
    prune_above: float = 6.0
    remove_unseen: bool = False  # what no frame of an interval has shown another may
    green: Green = "keep"  # no backdrop is learnt: it only shows where a face is not opaque


@dataclass(frozen=True)
class RendererPhase(Phase):
    """The dynamic Gaussian renderer on the head parameters of the clip."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    PARTS: ClassVar = ("head", "blend_shapes", "means", *APPEARANCE, *BASES)  # the second: all bases and their weights

    steps: int = 4000
    opacity: float = 0.3  # of the first Gaussians
    importance: float = 3.0  # Gaussians per area on lips and inside the mouth, over those elsewhere
    whole_frames: bool = False  # False: only the head's crop is drawn and compared
    harmonics: Harmonics = Harmonics(every=0.1)
    backdrops: tuple[Backdrop, ...] = (Backdrop((GREEN, MAGENTA)),)
    # Neither even nor a multiple of three: closed lids meet both backdrops, with and without what is behind them.
    windows: tuple[Window, ...] = (Window("blink", every=11, phase=(0.1, 1.0), low=(0.9, 0.9)),)
    image: Term = Term()  # lambda_1: L1 where the face is
    face_lpips: Term = OFF  # lambda_2
    structure: Term = Term(0.2)  # lambda_3: 1 - SSIM
    mouth_box: Term = Term(0.5)  # L1 inside the lips' box
    position: Term = Term(0.1)  # lambda_p: how much farther than that from the triangle
    position_reach: float = 0.05  # epsilon_p, units of the triangle
    scale: Term = Term(0.1)  # lambda_s
    scale_reach: float = 2.0  # epsilon_s, units of the triangle
    silhouette: Term = Term(0.5)  # lambda_seg: coverage against the parser's mask
    skin_alone: Term = Term(every=3)  # steps in which skin is drawn without what is behind it, times so much
    lpips: Literal["alex", "vgg", "squeeze", "squeeze_caffe"] = "vgg"
    frozen: tuple[Frozen, ...] = (Frozen(("head",), end=0.1), Frozen(("blend_shapes",), end=0.15))
    rates: QuickRates = QuickRates()
    density: BoundDensity = BoundDensity()


@dataclass(frozen=True)
class InpaintingRates:
    """Learning rate of the Inpainting Generator."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    network: float = 2e-3
    curve: Curve = (Decay(0.05),)

    def rows(self, name: str, steps: int) -> list[Row]:
        """Describe it."""
        return curve_rows(f"{name}: network", self.curve, self.network, steps)


@dataclass(frozen=True)
class InpaintingPhase(Phase):
    """The Inpainting Generator on training frames whose faces are drawn anew. Lengths in pixels of a frame of 256."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    MOST: ClassVar = {"lower_px": 128}

    steps: int = 1500
    foreign: float = 0.2  # share of faces that are drawn with the expression of another frame
    lower_px: int = 12  # the frame's own face is taken to be lower by so much at most, and aside by a quarter of that
    image: Term = Term()  # L1 where what is painted is taken, and the frame tells what it should be
    structure: Term = Term(0.2)  # 1 - SSIM there
    hole_lpips: Term = OFF
    lpips: Literal["alex", "vgg", "squeeze", "squeeze_caffe"] = "vgg"
    rates: InpaintingRates = InpaintingRates()
