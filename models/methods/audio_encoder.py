"""From a frame's neighbourhood in the sound to one code (AudioNet and AudioAttNet of AD-NeRF, Guo et al., 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

AUDIO_CODE = 32
NEIGHBOURS = (-4, 3)  # entries of the audio features before and after the frame's own that the encoder sees


class Convolution(nn.Conv1d):
    """Over three neighbours, on a CPU as a matrix product: on inputs this small, torch spends its time on preparing."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 3, stride, 1)

    def forward(self, values: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve `[B, I, L]` to `[B, O, L / stride]`, with zeros beyond the ends."""
        if values.is_cuda:
            return super().forward(values)
        neighbours = nn.functional.pad(values, (1, 1)).unfold(2, 3, self.stride[0])  # [B, I, L / stride, 3]
        columns = neighbours.transpose(1, 2).flatten(2)
        return nn.functional.linear(columns, self.weight.flatten(1), self.bias).transpose(1, 2)


class AudioEncoder(nn.Module):
    """Eight neighbouring windows of speech features to one code, by attention over the neighbours."""

    def __init__(self, size: int) -> None:
        super().__init__()
        # Of the features that the head was trained with: another recording is brought to the same scale.
        self.mean: Tensor  # [D, 1]
        self.deviation: Tensor  # [D, 1]
        self.register_buffer("mean", torch.zeros(size, 1))
        self.register_buffer("deviation", torch.ones(size, 1))
        self.mean_code: Tensor  # [32]
        self.articulation: Tensor  # [1] codes lie so many times as far from it as was learnt
        self.register_buffer("mean_code", torch.zeros(AUDIO_CODE))
        self.register_buffer("articulation", torch.ones(1))
        leak = nn.LeakyReLU(0.02)
        convolutions: list[nn.Module] = []
        for inputs, outputs in ((size, 32), (32, 32), (32, 64), (64, 64)):
            convolutions += [Convolution(inputs, outputs, 2), leak]
        self.windows = nn.Sequential(*convolutions)
        self.code = nn.Sequential(nn.Linear(64, 64), leak, nn.Linear(64, AUDIO_CODE))
        scores: list[nn.Module] = []
        for inputs, outputs in ((AUDIO_CODE, 16), (16, 8), (8, 4), (4, 2), (2, 1)):
            scores += [Convolution(inputs, outputs, 1), leak]
        self.scores = nn.Sequential(*scores)
        neighbours = NEIGHBOURS[1] - NEIGHBOURS[0] + 1
        self.mix = nn.Linear(neighbours, neighbours)

    def expect(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the scale of the features, `[D]` each; see `models.audio.align.scale_of`."""
        self.mean.copy_(mean[:, None])
        self.deviation.copy_(deviation[:, None])

    @torch.no_grad()
    def articulate(self, articulation: float, windows: Tensor) -> None:
        """From now on take codes farther from their mean, or less far, than was learnt.

        What sound leaves open is learnt as its mean, so that a trained mouth opens less far than the true one.

        Args:
            articulation: how many times as far; 1 as was learnt, 0 leaves the mean.
            windows: `[B, 8, D, W]` of the sound that has taught the encoder.
        """
        self.articulation.fill_(1)
        self.mean_code.copy_(self(windows).mean(0))
        self.articulation.fill_(articulation)

    def forward(self, windows: Tensor) -> Tensor:
        """Encode `[B, 8, D, W]` windows, as the extractor gives them, to `[B, 32]`."""
        batch, neighbours = windows.shape[:2]
        windows = (windows - self.mean) / self.deviation
        # 16 entries shrink to one; a wider window would leave more, which are averaged.
        codes = self.code(self.windows(windows.flatten(0, 1)).mean(-1)).view(batch, neighbours, AUDIO_CODE)
        attention = torch.softmax(self.mix(self.scores(codes.transpose(1, 2))[:, 0]), -1)
        return torch.lerp(self.mean_code, torch.einsum("bn,bnc->bc", attention, codes), self.articulation)
