"""TalkingGaussian's motion fields: from places in the head, sound and expression to how Gaussians are deformed."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor, nn

from models.encoders.hashgrid import HashGrid, encode
from models.errors import InputError
from models.methods.audio_encoder import AUDIO_CODE, AudioEncoder
from models.methods.talking_gaussian_config import Config, GridLayout
from models.perceptron import Perceptron, perceive


class TriPlane(nn.Module):
    """Grid features at points of the head's space."""

    def __init__(self, resolution: tuple[int, float], config: Config, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.grid = HashGrid(
            config.grid_levels, 1, resolution[0], resolution[1], bound=config.bound_m, convention=config.grid_layout
        )
        self.table = nn.Parameter(self.grid.new_table(generator))
        self.center: Tensor  # [3] metres
        self.register_buffer("center", torch.zeros(3))

    def forward(self, points: Tensor) -> Tensor:
        """Look `[N, 3]` points up: `[N, 36]`. Points are constants: motion shall not pull Gaussians about."""
        return encode(points.detach() - self.center, self.table, self.grid)


class Deformation(NamedTuple):
    """How Gaussians differ from their rest state in one frame (leading axis B of a batch, if any)."""

    means: Tensor
    """`[..., N, 3]` metres."""
    quats: Tensor | None = None
    """`[..., N, 4]` added before normalising."""
    raw_scales: Tensor | None = None
    """`[..., N, 3]` added before softplus."""
    raw_opacities: Tensor | None = None
    """`[..., N]` added before the sigmoid."""
    colors: Tensor | None = None
    """`[..., N, 3]` added to the colour that is seen from the camera."""

    def frame(self, index: int) -> Deformation:
        """Take one frame of a batch."""
        return Deformation(*(None if part is None else part[index] for part in self))  # type: ignore[arg-type]

    def plus(self, other: Deformation) -> Deformation:
        """Add another one of the same kind."""
        pairs = zip(self, other, strict=True)
        return Deformation(*(None if a is None or b is None else a + b for a, b in pairs))  # type: ignore[arg-type]

    def over(self, count: float) -> Deformation:
        """Divide by `count`."""
        return Deformation(*(None if part is None else part / count for part in self))  # type: ignore[arg-type]


class FacePoints(NamedTuple):
    """What the face's motion field knows of points before it hears anything."""

    features: Tensor
    """`[36 + 32 + E, N]`: of the grid, then how much each number of the sound's code and of the expression matters."""
    config: Config

    @property
    def audio_attention(self) -> Tensor:
        """How much each number of the sound's code matters at each point, `[N, 32]`."""
        return self.features[-self.config.expression_size - AUDIO_CODE : -self.config.expression_size].t()

    @property
    def expression_attention(self) -> Tensor:
        """How much each action unit and gaze direction matters at each point, `[N, E]`."""
        return self.features[-self.config.expression_size :].t()

    def maps(self) -> Tensor:
        """Return how much sound and expression matter at each point, `[N, 2]`."""
        return torch.stack([self.audio_attention.norm(dim=1), self.expression_attention.norm(dim=1)], 1)


class FaceMotion(nn.Module):
    """Sound and expression to displacement, rotation and scale of face Gaussians, attended region by region.

    With `Config.moves` also to a change of opacity, which the released network computes but never applies, and of
    colour.
    """

    def __init__(self, config: Config, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.audio = AudioEncoder(config.audio_size)
        self.planes = TriPlane(config.face_grid, config, generator)
        size, expression_size = self.planes.grid.output_size, config.expression_size
        self.audio_attention = Perceptron(size, 32, AUDIO_CODE)
        self.expression_attention = Perceptron(size, 16, expression_size)
        self.units = Perceptron(config.mixed_units, 16, config.mixed_units)
        outputs = {"geometry": (3, 4, 3), "opacity": (3, 4, 3, 1), "color": (3, 4, 3, 1, 3)}
        self.outputs = outputs[config.moves]  # of means, quats, raw scales, raw opacity and colour
        self.decoder = Perceptron(size + AUDIO_CODE + expression_size, 64, 64, sum(self.outputs))
        # Appearance is still at first: landmarks, which teach the field before any image, would leave noise there.
        nn.init.zeros_(self.decoder.weights[-1][3 + 4 + 3 :])
        self.expression_scale: Tensor  # [E] what the inputs are divided by
        self.register_buffer("expression_scale", torch.ones(expression_size))

    def look_up(self, points: Tensor) -> FacePoints:
        """Prepare points; the result serves for all frames as long as nothing is trained.

        Args:
            points: `[N, 3]` metres.
        """
        grid = self.planes(points).t()
        # Each starts at 1: where the released network, which starts at 0, happens to begin below, its ReLU lets no
        # gradient through, and lids that do not listen to the blink at first never will.
        seen = torch.relu(1 + self.expression_attention(grid))
        return FacePoints(torch.cat([grid, self.audio_attention(grid), seen]), self.config)

    def forward(self, points: FacePoints, audio: Tensor, expression: Tensor) -> Deformation:
        """Deform points for a batch of frames.

        Args:
            points: of `look_up`.
            audio: `[B, 8, D, W]` windows.
            expression: `[B, E]` action units and gaze (`Config.expression_size`) as the record has them.
        """
        code, units = self.audio(audio), expression / self.expression_scale
        mixed = self.config.mixed_units
        units = torch.cat([self.units(units[:, :mixed].t()).t(), units[:, mixed:]], 1)
        first, *rest = self.decoder.weights
        # Attention times code and units is what the decoder sees: here they are factors of its first layer.
        of_grid = code.new_ones(len(code), self.planes.grid.output_size)
        factors = torch.cat([of_grid, code, units], 1)
        out = perceive(points.features, first * factors[:, None], None, *rest)
        means, quats, raw_scales, *appearance = (part.mT for part in out.split(self.outputs, 1))
        raw_opacities = appearance[0][..., 0] if appearance else None
        colors = appearance[1] if len(appearance) > 1 else None
        return Deformation(means * self.config.motion_m, quats, raw_scales, raw_opacities, colors)


class MouthMotion(nn.Module):
    """Sound to displacement of the Gaussians inside the mouth."""

    def __init__(self, config: Config, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.audio = AudioEncoder(config.audio_size)
        self.planes = TriPlane(config.mouth_grid, config, generator)
        self.decoder = Perceptron(self.planes.grid.output_size + AUDIO_CODE, 32, 32, 3)
        self.reach: Tensor  # [3] metres
        self.register_buffer("reach", torch.tensor(config.mouth_directions) * config.motion_m)

    def look_up(self, points: Tensor) -> Tensor:
        """Prepare `[N, 3]` points: their grid features `[36, N]`."""
        return self.planes(points).t()

    def forward(self, points: Tensor, audio: Tensor, expression: Tensor | None = None) -> Deformation:
        """Deform points for a batch of frames."""
        code = self.audio(audio)
        first, *rest = self.decoder.weights
        of_grid, of_code = first.split([len(points), code.shape[1]], 1)
        out = perceive(points, of_grid.expand(len(code), -1, -1), code @ of_code.t(), *rest).mT
        return Deformation(out * self.reach)


AnyMotion = TypeVar("AnyMotion", bound=FaceMotion | MouthMotion)


def load_motion(motion: AnyMotion, arrays: dict[str, np.ndarray], name: str) -> AnyMotion:
    """Give `motion` stored weights.

    Args:
        motion: built from the configuration that was stored with them.
        arrays: the weights by name.
        name: what the error calls them.

    Raises:
        InputError: the weights are not those of such networks, or their grid is laid out in another way.
    """
    grid, table = motion.planes.grid, arrays.get("planes.table")
    for layout in get_args(GridLayout):
        other = replace(grid, convention=layout)
        if table is not None and table.shape != grid.table_shape and table.shape == other.table_shape:
            raise InputError(
                f"{name}: its grid is laid out as {layout}, but its record says {grid.convention}",
                "a table that is read in another layout than it was trained in renders nonsense",
                f"train it again with grid_layout: {grid.convention}, or correct what wrote the record",
            )
    try:
        motion.load_state_dict({key: torch.from_numpy(array.copy()) for key, array in arrays.items()})
    except RuntimeError as error:
        raise InputError(
            f"{name}: these are not weights of {type(motion).__name__}",
            f"made by another version of gausstalk, or by something else: {error}",
            "train it again: gausstalk run SPEAKER",
        ) from error
    return motion
