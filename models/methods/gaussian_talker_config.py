"""What is needed to build the networks of a stored GaussianTalker head again. Defaults are those of the paper."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Self

from models.errors import InputError
from models.parsing import labels

DRAWN = (*labels.FACE, *labels.INSIDE_MOUTH)
"""What of the parser's labels the renderer draws; hair, neck and cloth are the frame's."""

Latent = Literal["first", "components"]
"""What the blend weights hear of a frame: the first thirteen expression coefficients and the jaw, or the leading
principal components of the speaker's expressions, in millimetres of the face. The first suits models whose expressions
are sorted by how much they move; named ones stand in alphabetical order."""
Shape = Literal["fixed", "shared", "per_frame"]
"""Whether the identity stays as it was tracked, is refined once, or in every frame (the paper's table)."""


@dataclass(frozen=True)
class _Stored:
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def as_record(self) -> dict[str, Any]:
        """Return what the class takes, as JSON keeps it."""
        return asdict(self)

    @classmethod
    def from_record(cls, data: dict[str, Any]) -> Self:
        """Undo `as_record` after a round trip through JSON.

        Raises:
            InputError: it says something that this code does not know.
        """
        known = {part.name for part in fields(cls)}
        if set(data) != known:
            raise InputError(
                "this head is described in terms that are not known here",
                f"{', '.join(sorted(set(data) ^ known))}: on one side only",
                "it was made by another version of gausstalk: train it again, or use that version",
            )
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()})


@dataclass(frozen=True)
class TranslatorConfig(_Stored):
    """Of the Speaker-specific Motion Translator (the paper's supplement, section A)."""

    audio_size: int = 80  # numbers per entry of the audio features
    outputs: int = 53  # numbers a frame: the spoken expressions, then the jaw's angles
    speakers: tuple[str, ...] = ("",)  # whose embeddings there are
    width: int = 512
    inner: int = 1024  # of the transformers' perceptrons
    heads: int = 4
    encoder_layers: int = 4
    decoder_layers: int = 1
    mlp_layers: int = 3
    dropout: float = 0.1
    span: int = 100  # frames that are translated at once
    around: int | None = None  # frames to either side that a frame attends to in encoder and decoder; None: all
    reach: int = 1  # frames to either side whose sound a frame of motion attends to
    causal: bool = False  # True: nothing is heard that is to come, but by what makes the features

    def speaker(self, name: str) -> int:
        """Return the number of a speaker's embedding.

        Raises:
            InputError: it has none.
        """
        if name not in self.speakers:
            raise InputError(
                f"the motion translator has no embedding for {name!r}",
                f"it was taught by {', '.join(self.speakers)}",
                f"gausstalk run {name} trains one",
            )
        return self.speakers.index(name)


@dataclass(frozen=True)
class RendererConfig(_Stored):
    """Of the Dynamic Gaussian Renderer (the paper's supplement, table 2)."""

    sh_degree: int = 3
    shapes: int = 8  # blend weights
    latent: Latent = "components"
    latent_size: int = 16
    hidden: int = 256
    color_bands: int = 16  # of the spherical harmonics, the first so many have bases; at most what the degree has
    shape: Shape = "shared"

    @property
    def bands(self) -> int:
        """How many of the spherical harmonics have bases."""
        return min(self.color_bands, (self.sh_degree + 1) ** 2)


@dataclass(frozen=True)
class InpaintingConfig(_Stored):
    """Of the Inpainting Generator. Lengths are in pixels of a frame of 256."""

    width: int = 32  # channels at the first level; they double with each
    levels: int = 3  # how often the picture is halved
    blocks: int = 4  # at the last level
    stem: int = 1  # side of the patches that are one pixel for the network
    voxel_m: float = 0.004  # how finely it is kept where the face can be
    margin_px: int = 3  # the hole goes so far beyond the faces, and what is painted beyond what is uncovered
    feather_px: int = 2  # from the edge of what is painted on, so far the frame shines through
    context_px: int = 8  # of the frame that is seen around what the face can reach; faint edges go on into it
