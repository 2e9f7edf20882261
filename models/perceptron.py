"""Small perceptrons on many points: one autograd function for the whole chain of layers.

Features lie in columns, `[I, N]`, as the grid encoder gives them: matrices with few rows and thousands of columns are
what a CPU multiplies fastest. ReLU works in place, forward and backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Perceptron(nn.Sequential):
    """At least two linear layers without bias, ReLU between them."""

    def __init__(self, *sizes: int) -> None:
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            layers += [nn.ReLU()] if index else []
            layers.append(nn.Linear(inputs, outputs, bias=False))
        super().__init__(*layers)

    @property
    def weights(self) -> list[Tensor]:
        """Of the layers, `[outputs, inputs]` each."""
        return [layer.weight for layer in self if isinstance(layer, nn.Linear)]

    def forward(self, features: Tensor) -> Tensor:  # type: ignore[override]
        """Pass `[I, N]` features: `[O, N]`."""
        first, *rest = self.weights
        return perceive(features, first[None], None, *rest)[0]


def perceive(features: Tensor, first: Tensor, offsets: Tensor | None, *rest: Tensor) -> Tensor:
    """Pass the same points through perceptrons that share all but the first layer.

    What is the same for all points of a frame need not be a feature of each of them. A factor of an input is a factor
    of the first layer's column, and a constant input adds an offset to the first layer.

    Args:
        features: `[I, N]`.
        first: `[B, H, I]` first layer of each perceptron.
        offsets: `[B, H]` added to its output, nothing if not given.
        rest: `[outputs, inputs]` of the layers after it, at least one; a ReLU goes before each.

    Returns:
        `[B, O, N]`.
    """
    if features.is_cuda:
        return perceive_together(features, first, offsets, *rest)
    return _Perceive.apply(features, first, offsets, *rest)


def perceive_together(features: Tensor, first: Tensor, offsets: Tensor | None, *rest: Tensor) -> Tensor:
    """Do what `perceive` does with all perceptrons at once: a GPU waits for calls, not for memory."""
    values = first @ features
    if offsets is not None:
        values = values + offsets[..., None]
    for weight in rest:
        values = weight @ values.relu()
    return values


class _Perceive(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, first: Tensor, offsets: Tensor | None, *rest: Tensor) -> Tensor:
        out = features.new_empty(len(first), len(rest[-1]), features.shape[1])
        hidden: list[list[Tensor]] = []  # of every perceptron, what each of `rest` is given
        # One by one: the activations of one perceptron stay in the cache, those of many would not.
        for index, weight in enumerate(first):
            values = weight @ features
            if offsets is not None:
                values += offsets[index, :, None]
            hidden.append([values.relu_()])
            for middle in rest[:-1]:
                values = (middle @ values).relu_()
                hidden[-1].append(values)
            torch.mm(rest[-1], values, out=out[index])
        ctx.save_for_backward(features, first, *rest)
        ctx.hidden = hidden
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, first, *rest = ctx.saved_tensors
        v_features: Tensor | None = None
        v_first = torch.empty_like(first, memory_format=torch.contiguous_format)
        v_offsets = first.new_empty(first.shape[:2]) if ctx.needs_input_grad[2] else None
        v_rest = [torch.zeros_like(weight) for weight in rest]
        for index, weight in enumerate(first):
            upstream = gradient[index]
            for layer, v_layer, inputs in zip(
                reversed(rest), reversed(v_rest), reversed(ctx.hidden[index]), strict=True
            ):
                v_layer.addmm_(upstream, inputs.t())
                upstream = layer.t() @ upstream
                # The ReLU's, in place; a product with a comparison takes eight times as long.
                torch.ops.aten.threshold_backward.grad_input(upstream, inputs, 0, grad_input=upstream)
            torch.mm(upstream, features.t(), out=v_first[index])
            if v_offsets is not None:
                torch.sum(upstream, 1, out=v_offsets[index])
            if ctx.needs_input_grad[0]:
                v_features = weight.t() @ upstream if v_features is None else v_features.addmm_(weight.t(), upstream)
        return v_features, v_first, v_offsets, *v_rest
