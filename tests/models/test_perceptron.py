"""Perceptrons on many points: against torch's own layers, and the gradients of everything that goes in."""

import pytest
import torch
from torch import nn

from models.perceptron import Perceptron, perceive, perceive_together


def inputs(count, frames=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, count), (frames, 8, 6), (frames, 8), (7, 8), (3, 7)]
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("count", [0, 1, 50])
def test_a_perceptron_is_its_layers(count):
    torch.manual_seed(0)
    network, points = Perceptron(6, 8, 7, 3), torch.randn(count, 6)
    layers = nn.Sequential(*network)
    torch.testing.assert_close(network(points.t()).t(), layers(points))
    assert list(network.state_dict()) == ["0.weight", "2.weight", "4.weight"]


@pytest.mark.parametrize("offsets", [True, False])
def test_gradients_are_those_of_finite_differences(offsets):
    features, first, values, *rest = inputs(20)
    assert torch.autograd.gradcheck(perceive, (features, first, values if offsets else None, *rest))


def test_a_factor_of_an_input_is_a_factor_of_its_column_and_a_constant_input_an_offset():
    features, first, _, *rest = inputs(30, frames=1)
    constant, factors = torch.tensor([0.4, -2.0]).double(), torch.rand(4).double()
    told = torch.cat([features[:4] * factors[:, None], constant[:, None].expand(-1, 30)])
    expected = perceive(told, first, first.new_zeros(1, 8), *rest)
    value = perceive(features[:4], first[..., :4] * factors, first[..., 4:] @ constant, *rest)
    torch.testing.assert_close(value, expected)


def test_constant_points_get_no_gradient():
    features, first, offsets, *rest = inputs(10)
    features.requires_grad_(False)
    perceive(features, first, offsets, *rest).sum().backward()
    assert features.grad is None
    assert first.grad.any()


@pytest.mark.parametrize("offsets", [True, False])
def test_all_perceptrons_at_once_are_the_same(offsets):
    results = []
    for together in (perceive, perceive_together):
        features, first, values, *rest = inputs(20)
        out = together(features, first, values if offsets else None, *rest)
        out.square().sum().backward()
        results.append([out.detach(), *(part.grad for part in (features, first, *rest)), values.grad])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
