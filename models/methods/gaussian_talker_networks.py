"""GaussianTalker's networks: from sound to motion, from motion to blend weights, and the head parameters of a clip."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.gaussians.rotation import matrix_of
from models.methods.gaussian_talker_config import RendererConfig, TranslatorConfig

LEAK = 0.01
FIRST_EXPRESSIONS = 13  # with the jaw's three angles they are the sixteen numbers of the latent pose


class Coefficients(NamedTuple):
    """What a head model is told of one frame."""

    identity: Tensor  # [K]
    expression: Tensor  # [E]
    jaw: Tensor  # [J] rotation vector, radians; J is 0 without a jaw's joint
    orient: Tensor  # [3] rotation vector by which the head turns beyond its pose
    translation: Tensor  # [3] metres by which it is shifted

    def moved(self, vertices: Tensor) -> Tensor:
        """Turn and shift vertices `[V, 3]` of the head frame."""
        return vertices @ matrix_of(self.orient).T + self.translation


# ------------------------------------------------------------------------------------------- the motion translator


def tokens_of(values: Tensor) -> Tensor:
    """Return the two entries of audio features nearest to each frame `[T, 2 D]`, of windows `[T, D, W]`."""
    middle = values.shape[2] // 2
    return values[:, :, middle - 1 : middle + 1].transpose(1, 2).flatten(1)


def places(length: int, width: int) -> Tensor:
    """Return the sinusoidal codes `[length, width]` of places in a sequence (Vaswani et al., 2017, section 3.5)."""
    angles = torch.arange(length)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


class Translator(nn.Module):
    """From sound to expression and jaw: a universal encoder of speech, and what is one speaker's own behind it."""

    def __init__(self, config: TranslatorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        transformer = {
            "d_model": width,
            "nhead": config.heads,
            "dim_feedforward": config.inner,
            "dropout": config.dropout,
            "batch_first": True,
            "norm_first": True,  # with the norms behind, it is hundreds of steps before anything is learnt
        }
        self.mean: Tensor  # [2 D] of the audio's entries, two a frame
        self.deviation: Tensor
        self.rest: Tensor  # [S, O] mean output of each speaker
        self.spread: Tensor  # [S, O] and its deviation
        self.places: Tensor  # [span, width]
        self.register_buffer("mean", torch.zeros(2 * config.audio_size))
        self.register_buffer("deviation", torch.ones(2 * config.audio_size))
        self.register_buffer("rest", torch.zeros(len(config.speakers), config.outputs))
        self.register_buffer("spread", torch.ones(len(config.speakers), config.outputs))
        self.register_buffer("places", places(config.span, width), persistent=False)
        self.listen = nn.Linear(2 * config.audio_size, width)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**transformer),
            config.encoder_layers,
            norm=nn.LayerNorm(width),
            enable_nested_tensor=False,
        )
        self.speakers = nn.Embedding(len(config.speakers), width)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**transformer), config.decoder_layers)
        self.colour = nn.Linear(width, 2 * width)  # gain and offset by the speaker
        layers: list[nn.Module] = []
        for _ in range(config.mlp_layers):
            layers += [nn.Linear(width, width), nn.LeakyReLU(LEAK)]
        self.mlp = nn.Sequential(*layers)
        self.last = nn.Linear(width, config.outputs)
        for layer in (self.colour, self.last):  # at first every speaker's face is still
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def universal(self) -> list[nn.Parameter]:
        """Parameters of the encoder, which all speakers share."""
        return [*self.listen.parameters(), *self.encoder.parameters()]

    @property
    def own(self) -> list[nn.Parameter]:
        """All others."""
        shared = {id(parameter) for parameter in self.universal}
        return [parameter for parameter in self.parameters() if id(parameter) not in shared]

    def encode(self, tokens: Tensor) -> Tensor:
        """Return what is said `[B, T, width]`, of speech features `[B, T, 2 D]`; T is at most the span."""
        length = tokens.shape[1]
        heard = self.listen((tokens - self.mean) / self.deviation) + self.places[:length]
        return self.encoder(heard, mask=self._far(length, self.config.around))

    def decode(self, content: Tensor, speaker: Tensor) -> Tensor:
        """Return how speakers `[B]` move when they say it: `[B, T, O]`."""
        length, who = content.shape[1], self.speakers(speaker)  # [B, width]
        asked = self.places[:length] + who[:, None]
        own, sound = (self._far(length, frames) for frames in (self.config.around, self.config.reach))
        motion = self.decoder(asked, content, tgt_mask=own, memory_mask=sound)
        gain, offset = self.colour(who)[:, None].chunk(2, -1)
        numbers = self.last(self.mlp(motion * (1 + gain) + offset))
        return self.rest[speaker][:, None] + self.spread[speaker][:, None] * numbers

    def forward(self, tokens: Tensor, speaker: Tensor) -> Tensor:
        """Return motion `[B, T, O]` of speech features `[B, T, 2 D]` and speakers `[B]`."""
        return self.decode(self.encode(tokens), speaker)

    @torch.no_grad()
    def speak(self, values: Tensor, speaker: int) -> Tensor:
        """Return the motion `[T, O]` of a recording of any length.

        It is translated in windows that overlap by half, and each frame is their mean, weighted by how far it is from
        a window's ends.

        Args:
            values: `[T, D, W]` audio features.
            speaker: number of the embedding.
        """
        tokens, span = tokens_of(values).to(self.mean), self.config.span
        total = tokens.new_zeros(len(tokens), self.config.outputs)
        weights = tokens.new_zeros(len(tokens), 1)
        who = torch.tensor([speaker], device=tokens.device)
        for start in range(0, max(1, len(tokens) - span // 2), max(1, span // 2)):
            part = tokens[start : start + span]
            inner = torch.arange(1, len(part) + 1, device=tokens.device)
            share = torch.minimum(inner, len(part) + 1 - inner)[:, None].float()
            total[start : start + span] += share * self(part[None], who)[0]
            weights[start : start + span] += share
        return total / weights

    def _far(self, length: int, frames: int | None) -> Tensor | None:
        """Return what a frame does not attend to `[T, T]` bool: what is farther than so many frames, or still to come.

        None is all of it (`frames: None`), where what is to come may be known.
        """
        if frames is None and not self.config.causal:
            return None
        apart = torch.arange(length, device=self.mean.device)
        apart = apart[None] - apart[:, None]
        return (apart.abs() > (length if frames is None else frames)) | ((apart > 0) & self.config.causal)


# ----------------------------------------------------------------------------------------------------- the renderer


class BlendShapes(nn.Module):
    """How much each of a Gaussian's bases counts in a frame: a perceptron of the latent pose."""

    def __init__(self, config: RendererConfig, size: int) -> None:
        """Prepare for `size` coefficients a frame, expression and jaw together."""
        super().__init__()
        self.middle: Tensor  # [size]
        self.directions: Tensor  # [latent, size]
        self.register_buffer("middle", torch.zeros(size))
        self.register_buffer("directions", torch.zeros(config.latent_size, size))
        leak = nn.LeakyReLU(LEAK)
        self.weights = nn.Sequential(
            nn.Linear(config.latent_size, config.hidden),
            leak,
            nn.Linear(config.hidden, config.hidden),
            leak,
            nn.Linear(config.hidden, config.shapes),
        )

    def forward(self, coefficients: Coefficients) -> Tensor:
        """Return the blend weights `[shapes]`."""
        motion = torch.cat([coefficients.expression, coefficients.jaw])
        return self.weights(self.directions @ (motion - self.middle))

    def learn(self, motions: np.ndarray, lengths: np.ndarray, config: RendererConfig, angles: int) -> None:
        """Find the latent pose of a clip; what never varies is left out.

        Args:
            motions: `[T, size]` expression and jaw of the training frames.
            lengths: `[size]` how far a coefficient of 1 moves the face, metres (root mean square).
            config: says which numbers are taken.
            angles: how many of the coefficients are the jaw's.
        """
        size, most = motions.shape[1], config.latent_size
        middle = motions.mean(0)
        if config.latent == "first":
            kept = [*range(min(FIRST_EXPRESSIONS, size - angles)), *range(size - angles, size)][:most]
            rows = np.eye(size)[kept]
        else:
            scaled = (motions - middle) * lengths
            rows = np.linalg.svd(scaled, full_matrices=False)[2][:most] * lengths
        deviation = ((motions - middle) @ rows.T).std(0)
        moves = deviation > 1e-6 * max(deviation.max(), 1e-12)
        rows = rows * np.where(moves, 1 / np.maximum(deviation, 1e-12), 0)[:, None]
        self.middle.copy_(torch.from_numpy(middle))
        self.directions[: len(rows)] = torch.from_numpy(rows.astype(np.float32)).to(self.directions)


class HeadTable(nn.Module):
    """The head parameters of every frame as they were tracked, and what training adds to them.

    Only training frames have corrections. What those of motion and pose have in common is taken out, or the head would
    drift away from the frames that have none. Gradients are sparse: those of a frame's own row.
    """

    tracked_identity: Tensor  # [K]
    tracked_expression: Tensor  # [T, E]
    tracked_jaw: Tensor  # [T, J]
    frames: Tensor  # indices of those that have corrections

    def __init__(
        self, identity: np.ndarray, expression: np.ndarray, jaw: np.ndarray, frames: np.ndarray, config: RendererConfig
    ) -> None:
        """Prepare.

        Args:
            identity: `[K]` coefficients.
            expression: `[T, E]`.
            jaw: `[T, J]` rotation vectors; J is 0 for a model without a jaw's joint.
            frames: indices of the training frames.
            config: says how often there is a shape.
        """
        super().__init__()
        count = len(expression)
        for name, tracked in (("identity", identity), ("expression", expression), ("jaw", jaw)):
            self.register_buffer(f"tracked_{name}", torch.from_numpy(tracked.astype(np.float32)))
        self.register_buffer("frames", torch.from_numpy(np.asarray(frames, np.int64)))
        self.learns = set(frames.tolist())
        shapes = torch.zeros(count if config.shape == "per_frame" else 1, len(identity))
        self.shape = nn.Parameter(shapes, requires_grad=config.shape != "fixed")
        self.expression = nn.Parameter(torch.zeros(expression.shape))
        self.jaw = nn.Parameter(torch.zeros(jaw.shape))
        self.orient = nn.Parameter(torch.zeros(count, 3))
        self.translation = nn.Parameter(torch.zeros(count, 3))

    def at(self, frame: int) -> Coefficients:
        """Return the parameters of a frame."""
        own = frame in self.learns

        def row(table: Tensor, number: int) -> Tensor:
            return F.embedding(self.frames.new_tensor(number), table, sparse=True)

        def change(table: Tensor) -> Tensor:
            return row(table, frame) - table.detach()[self.frames].mean(0) if own else torch.zeros_like(table[frame])

        several = len(self.shape) > 1
        learnt = self.shape[self.frames] if several else self.shape  # other frames' rows stay as they began
        shape = row(self.shape, frame if several else 0) if own else learnt.mean(0)
        return Coefficients(
            identity=self.tracked_identity + shape,
            expression=self.tracked_expression[frame] + change(self.expression),
            jaw=self.tracked_jaw[frame] + change(self.jaw),
            orient=change(self.orient),
            translation=change(self.translation),
        )
