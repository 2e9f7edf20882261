"""What is needed to build the networks of a stored TalkingGaussian head again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from models.errors import InputError, UsageError

GridLayout = Literal["torch_ngp", "tcnn"]
"""Of the grids' tables, see models.encoders.hashgrid; a table made for one is nonsense in the other."""


Moves = Literal["geometry", "opacity", "color"]
"""What of a face Gaussian changes from frame to frame: place and shape; its opacity, too; its colour, too (the three
rows of Table 5 in the paper's supplement)."""
ACTION_UNITS = ("AU01", "AU04", "AU05", "AU06", "AU07", "AU45")
"""Those of the released code; the paper names AU02 as well."""
BLINK, SMILE = "AU45", "AU06"
GAZE = ("gaze down", "gaze up", "gaze right", "gaze left")


@dataclass(frozen=True)
class Config:
    """Shapes and units of the networks. Defaults are those of the released code."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    audio_size: int = 80  # numbers per entry of the audio features
    sh_degree: int = 1
    bound_m: float = 0.15  # half the side of the cube that the grids cover
    grid_levels: int = 12
    grid_layout: GridLayout = "torch_ngp"
    action_units: tuple[str, ...] = ACTION_UNITS  # that the face is told, the blink last
    gaze: bool = True  # whether it is also told where the eyes look; not in the released code
    moves: Moves = "geometry"
    face_grid: tuple[int, float] = (16, 38.4)  # coarsest and finest resolution
    mouth_grid: tuple[int, float] = (64, 57.6)
    motion_m: float = 0.01  # what a network output of 1 means
    mouth_directions: tuple[float, float, float] = (0.2, 1.0, 0.2)  # the inside of the mouth moves up and down

    def __post_init__(self) -> None:
        """Check the action units.

        Raises:
            UsageError: the blink is not the last of several.
        """
        units = self.action_units
        if len(units) < 2 or BLINK not in units or units.index(BLINK) != len(units) - 1:
            raise UsageError(
                f"action_units: {', '.join(units)}",
                f"all but the last pass a small network together, and the blink, {BLINK}, goes in as it is",
                f"name at least two, {BLINK} last and only there",
            )

    @property
    def told(self) -> tuple[str, ...]:
        """What the face is told of its expression, number by number."""
        return self.action_units + (GAZE if self.gaze else ())

    @property
    def expression_size(self) -> int:
        """How many numbers these are."""
        return len(self.told)

    @property
    def mixed_units(self) -> int:
        """How many of them, the first ones, pass a small network together."""
        return len(self.action_units) - 1

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
