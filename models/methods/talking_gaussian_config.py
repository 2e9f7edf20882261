"""What is needed to build the networks of a stored TalkingGaussian head again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from models.errors import InputError

GridLayout = Literal["torch_ngp", "tcnn"]
"""Of the grids' tables, see models.encoders.hashgrid; a table made for one is nonsense in the other."""


@dataclass(frozen=True)
class Config:
    """Shapes and units of the networks. Defaults are those of the released code."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    audio_size: int = 80  # numbers per entry of the audio features
    sh_degree: int = 1
    bound_m: float = 0.15  # half the side of the cube that the grids cover
    grid_levels: int = 12
    grid_layout: GridLayout = "torch_ngp"
    face_grid: tuple[int, float] = (16, 38.4)  # coarsest and finest resolution
    mouth_grid: tuple[int, float] = (64, 57.6)
    motion_m: float = 0.01  # what a network output of 1 means
    mouth_directions: tuple[float, float, float] = (0.2, 1.0, 0.2)  # the inside of the mouth moves up and down

    def as_record(self) -> dict[str, Any]:
        """Return what `Config(**...)` takes, as JSON keeps it."""
        return asdict(self)

    @staticmethod
    def from_record(data: dict[str, Any]) -> Config:
        """Undo `as_record` after a round trip through JSON.

        Raises:
            InputError: it says something that this code does not know.
        """
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
        try:
            return Config(**values)
        except TypeError as error:
            raise InputError(
                "this head is described in terms that are not known here",
                str(error),
                "it was made by another version of gausstalk: train it again, or use that version",
            ) from error
