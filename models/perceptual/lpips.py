"""LPIPS 0.1 (Zhang et al., The unreasonable effectiveness of deep features as a perceptual metric, CVPR 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from models.checkpoints import check_shapes, read_state
from models.errors import UsageError
from models.perceptual.networks import TORCHVISION, known_network, load_features

# What pictures in -1..1 are shifted and divided by: ImageNet's mean and deviation in that range.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
SMALL = 1e-10  # added to lengths, so that nothing is divided by nought


class PerceptualDistance(nn.Module):
    """The distance of two pictures in the features of one network; differentiable, its parameters frozen.

    Features of every tap are scaled to length 1 over the channels, subtracted and squared (eq. 1 of the paper); the
    squares are weighted channel by channel, averaged over the picture and added up over the taps. With the official
    weights it is LPIPS 0.1; without, all weigh 1: the paper's distance of a network that is not calibrated.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: str, layers: nn.Sequential, heads: Sequence[Tensor] | None = None) -> None:
        """Take a network's layers, and the weights of the channels of each tap `[C]`, all 1 if none are given."""
        super().__init__()
        self.network = known_network(network)
        # Pixel by pixel instead of channel by channel: a CPU takes half the time.
        self.layers = layers.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.register_buffer("shift", torch.tensor(SHIFT).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).reshape(1, 3, 1, 1))
        for k, count in enumerate(self.network.channels):
            self.register_buffer(f"weights{k}", torch.ones(count) if heads is None else heads[k].reshape(count).float())

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the features of length 1 of pictures `[B, 3, H, W]` in -1..1, one `[B, C, h, w]` a tap.

        Raises:
            UsageError: the pictures are too small for the network, or not of this shape.
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise UsageError(f"pictures of shape {tuple(image.shape)}", "[B, 3, H, W] was expected")
        if min(image.shape[2:]) < self.network.smallest:
            raise UsageError(
                f"pictures of {image.shape[3]} x {image.shape[2]} pixels",
                f"this network sees nothing below {self.network.smallest} x {self.network.smallest}",
                "enlarge them, or use a network that does with less",
            )
        x = ((image - self.shift) / self.scale).contiguous(memory_format=torch.channels_last)
        found: list[Tensor] = []
        for k, layer in enumerate(self.layers):
            x = layer(x)
            if k in self.network.taps:
                # vector_norm has the slope 0 at 0, where the root of a sum of squares has none.
                found.append(x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + SMALL))
        return found

    def between(self, features: list[Tensor], others: list[Tensor]) -> Tensor:
        """Return the distances `[B]` of what `features` gave; a picture that stays can be looked at once."""
        total: Tensor | None = None
        for k, (own, other) in enumerate(zip(features, others, strict=True)):
            weights = self.get_buffer(f"weights{k}")
            part = torch.einsum("bchw,c->bhw", (own - other).square(), weights).mean((1, 2))
            total = part if total is None else total + part
        assert total is not None
        return total

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Return the distance, 0 for equal pictures.

        Args:
            image: `[3, H, W]` or `[B, 3, H, W]`, RGB in -1..1.
            target: the same shape.

        Returns:
            a scalar, or `[B]`.

        Raises:
            UsageError: the two differ in shape, or are too small for the network.
        """
        if image.shape != target.shape:
            raise UsageError(f"a picture of {tuple(image.shape)} against one of {tuple(target.shape)}")
        if image.ndim == 3:
            return self(image[None], target[None])[0]
        return self.between(self.features(image), self.features(target))


def load(
    network: str, features: Path, heads: Path | None = None, device: str | torch.device = "cpu"
) -> PerceptualDistance:
    """Return a distance that is ready to use.

    Args:
        network: "alex", "vgg" or "squeeze".
        features: its safetensors file (`models.perceptual.networks.write`).
        heads: LPIPS's official weights of its channels; none: all weigh 1.
        device: of torch.

    Raises:
        InputError: a file is damaged or another network's.
        UsageError: the weights of the channels belong to another training of the network.
    """
    layers, origin = load_features(network, features)
    weights: list[Tensor] | None = None
    if heads is not None:
        if origin != TORCHVISION:
            raise UsageError(
                f"{heads.name} does not belong to {features.name}",
                f"they weigh the channels of torchvision's training; this one is {origin}'s, whose channels are others",
                "use torchvision's features, or no weights",
            )
        state = read_state(heads)
        wanted = {f"lin{k}.model.1.weight": (1, c, 1, 1) for k, c in enumerate(known_network(network).channels)}
        check_shapes(wanted, state, heads.name, f"LPIPS {network}")
        weights = [state[name] for name in wanted]
    return PerceptualDistance(network, layers, weights).to(device)
