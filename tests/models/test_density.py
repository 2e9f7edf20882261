"""Density control: who grows, who goes, and that the optimiser follows."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InputError
from models.gaussians.adam import FieldAdam
from models.gaussians.density import DensityControl
from models.gaussians.field import PARAMETERS, create_field, inverse_softplus
from models.gaussians.plan import Density
from models.gaussians.rasterize import rasterize
from models.gaussians.spherical_harmonics import Y0


def make(count=40, seed=0, **plan):
    random = np.random.default_rng(seed)
    field = create_field(random.uniform(-0.05, 0.05, (count, 3)), np.full((count, 3), 0.5), 1, opacity=0.5)
    adam = FieldAdam(field.tensors())
    control = DensityControl(Density(**plan), count, torch.Generator().manual_seed(seed))
    control.seen += 1
    control.total += torch.arange(count) + 1.0  # the last one has the largest gradient
    return field, adam, control


def test_what_was_frozen_takes_up_as_if_training_began_there():
    ours, theirs = (torch.zeros(3, requires_grad=True) for _ in range(2))
    adam, torchs = FieldAdam({"means": ours, "bases": torch.zeros(1)}), torch.optim.Adam([theirs], lr=0.1, eps=1e-15)
    for step in range(320):
        for part in (ours, theirs):
            (part * torch.tensor([1.0, -2.0, step % 7 - 3.0])).sum().backward()
        if step < 300:
            theirs.grad = None  # torch doesn't count these
        torchs.step()
        torchs.zero_grad()
        adam.step({"means": ours}, {"means": 0.1} if step >= 300 else {})
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert ours.abs().max() < 20 * 0.1 * 1.01  # twice to six times as far, where frozen steps count


def test_small_gaussians_are_doubled_and_large_ones_split():
    field, adam, control = make(growth=0.05, split_above=0.01, capacity=100)  # two of forty grow
    with torch.no_grad():
        field.raw_scales[39] = inverse_softplus(torch.tensor(0.015))
    small, large, before = field.means[38].clone(), field.means[39].clone(), field.means[:39].clone()
    change = control.refine(field, adam, 0.5)
    assert change == (1, 1, 0)
    assert len(field) == 42
    assert torch.equal(field.means[:39], before)  # all but the split one stay as they are
    assert torch.equal(field.means[39], small)  # the double lies on its original
    children = field.means[40:]
    assert 0 < (children - large).norm(dim=1).max() < 0.015 * 5
    assert not torch.equal(children[0], children[1])
    torch.testing.assert_close(field.scales[40:], torch.full((2, 3), 0.015 / 1.6))


def test_faint_large_green_and_unseen_gaussians_are_removed():
    field, adam, control = make(growth=0.0, prune_opacity=(0.03, 0.1), prune_above=0.02, stop=1.1)
    with torch.no_grad():
        field.raw_opacities[0] = -2.9  # opacity 0.052: above the first limit, below the last
        field.raw_opacities[1] = -5.0
        field.raw_scales[2] = inverse_softplus(torch.tensor(0.03))
        field.colors[3, 0] = (torch.tensor([0.0, 1.0, 0.0]) - 0.5) / Y0
    control.seen[4] = 0
    names = field.means.clone()
    assert control.refine(field, adam, 0.01).pruned == 4
    assert torch.equal(field.means, names[[0, *range(5, 40)]])
    control.seen += 1
    assert control.refine(field, adam, 1.0).pruned == 1  # the limit has risen


def test_green_stays_when_the_backdrop_is_not_green():
    field, adam, control = make(growth=0.0, green="keep")
    with torch.no_grad():
        field.colors[3, 0] = (torch.tensor([0.0, 1.0, 0.0]) - 0.5) / Y0
    assert control.refine(field, adam, 0.01).pruned == 0


def green_one(field, scale=0.005):
    with torch.no_grad():
        field.colors[3, 0] = (torch.tensor([0.0, 1.0, 0.0]) - 0.5) / Y0
        field.raw_scales[3] = inverse_softplus(torch.full((3,), scale))


@pytest.mark.parametrize(("green", "scale"), [("shrink", 0.0005), ("shrink_raw", 0.463)])
def test_green_is_made_small_where_the_released_code_makes_it_huge(green, scale):
    field, adam, control = make(growth=0.0, green=green)
    green_one(field)
    adam.first["raw_scales"] += 1
    assert control.refine(field, adam, 0.01).pruned == 0
    assert field.scales[3].tolist() == pytest.approx([scale] * 3, rel=0.01)
    assert field.opacities[3].item() == pytest.approx(0.1)
    assert adam.first["raw_scales"][3].abs().sum() == 0
    assert adam.first["raw_scales"][4].abs().sum() > 0
    control.seen += 1
    assert control.refine(field, adam, 0.01).pruned == (green == "shrink_raw")  # the huge one dies as too large


def test_green_goes_on_being_removed_after_growth_has_stopped():
    field, adam, control = make(growth=0.5, stop=0.5, green_until=1.0)
    green_one(field)
    with torch.no_grad():
        field.raw_opacities[5] = -9.0
    change = control.refine(field, adam, 0.9)
    assert change == (0, 0, 1)
    assert control.plan.due(700, 1000) is (700 % control.plan.interval(1000) == 0)


def test_what_is_wide_on_the_screen_goes_once_it_is_time():
    plan = {"growth": 0.0, "prune_radius_px": 10.0, "prune_size_from": 0.06, "remove_unseen": False}
    field, adam, control = make(**plan)
    control.pixel = 2.0  # of a clip of 512 pixels
    control.seen[:] = 0
    control.widest[7], control.widest[8] = 21, 20
    assert control.refine(field, adam, 0.06).pruned == 0
    control.widest[7], control.widest[8] = 21, 20
    kept = field.means[8].clone()
    assert control.refine(field, adam, 0.061).pruned == 1
    assert torch.equal(field.means[7], kept)
    assert control.widest.abs().sum() == 0  # counted anew


def test_lengths_are_in_the_unit_of_the_plan():
    changes = []
    for unit_m in (1.0, 0.5):
        field, adam, control = make(growth=0.05, split_above=0.012, capacity=100)
        control.unit_m = unit_m
        with torch.no_grad():
            field.raw_scales[:] = inverse_softplus(torch.tensor(0.008))
        changes.append(control.refine(field, adam, 0.1)[:2])
    assert changes == [(2, 0), (0, 2)]


def test_a_field_that_would_vanish_is_an_error_that_says_so():
    field, adam, control = make(growth=0.0, prune_above=1e-6)
    with pytest.raises(InputError, match="none of 40 Gaussians"):
        control.refine(field, adam, 0.1)
    assert len(field) == 40


def test_the_most_opaque_stay_however_large_where_few_would_be_left():
    field, adam, control = make(growth=0.0, prune_above=1e-6, least=10)
    with torch.no_grad():
        field.raw_opacities += torch.arange(40) / 40
    best = field.means[30:].clone()
    assert control.refine(field, adam, 0.1).pruned == 30
    assert torch.equal(field.means, best)


def test_the_opacity_floor_rises():
    plan = Density(prune_opacity=(0.05, 0.05 + 0.25 / 0.98), stop=0.98)
    assert plan.opacity_floor(0.0) == 0.05
    assert plan.opacity_floor(0.98) == pytest.approx(0.30)


def test_the_threshold_rule_grows_exactly_those_above_it():
    field, adam, control = make(rule="threshold", gradient=35.5, split_above=1.0, capacity=100)
    assert control.refine(field, adam, 0.01).cloned == 5  # 36 to 40
    field, adam, control = make(rule="threshold", gradient=35.5, split_above=1.0, capacity=43)
    assert control.refine(field, adam, 0.01).cloned == 3


def test_moments_follow_their_gaussians():
    field, adam, control = make(growth=0.06, split_above=1.0)  # two of the 39 left
    with torch.no_grad():
        field.raw_opacities[5] = -9.0
    for name in PARAMETERS:
        rows = torch.arange(40.0).view(40, *[1] * (adam.first[name].ndim - 1))
        adam.first[name] += rows
        adam.second[name] += 2 * rows
    control.refine(field, adam, 0.01)
    kept = [row for row in range(40) if row != 5]
    for name in PARAMETERS:
        assert adam.first[name].shape == getattr(field, name).shape
        assert adam.first[name].reshape(41, -1)[:, 0].tolist() == [*kept, 0, 0]
        assert adam.second[name].reshape(41, -1)[:, 0].tolist() == [*(2 * row for row in kept), 0, 0]


def test_statistics_are_gradients_in_half_image_widths():
    field, _, _ = make(count=6)
    control = DensityControl(Density(), 6, torch.Generator())
    pose = torch.eye(4)
    pose[2, 3] = 0.5
    intrinsics = torch.tensor([[60.0, 0, 16], [0, 60, 12], [0, 0, 1]])
    raster = rasterize(
        field.means, field.quats, field.scales, field.opacities, torch.ones(6, 3), pose, intrinsics, 32, 24
    )
    with pytest.raises(ValueError, match="backward"):
        control.observe(raster)
    (raster.image * torch.linspace(0, 1, 32)[:, None]).sum().backward()
    control.observe(raster)
    assert torch.equal(control.seen, (raster.radii > 0).float())
    torch.testing.assert_close(control.total, raster.means2d.grad.norm(dim=1) * 16)
    assert control.total.max() > 0


def test_a_plan_says_when():
    plan = Density(start=0.3, every=0.15, stop=0.8)
    assert [step for step in range(1, 1001) if plan.due(step, 1000)] == [300, 450, 600, 750]
    assert [step for step in range(1, 101) if plan.due(step, 100)] == [30, 45, 60, 75]
    assert [step for step in range(1, 5) if plan.due(step, 4)] == [1, 2, 3]  # however short, never a negative time


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(4, 30),
    growth=st.floats(0, 1),
    capacity=st.integers(1, 40),
    split=st.floats(1e-4, 0.02),
    seed=st.integers(0, 99),
)
def test_refining_keeps_everything_consistent_and_bounded(count, growth, capacity, split, seed):
    field, adam, control = make(count, seed, growth=growth, capacity=capacity, split_above=split)
    change = control.refine(field, adam, 0.3)
    assert len(field) == count + change.cloned + change.split - change.pruned
    assert len(field) <= max(count, capacity)
    for name, tensor in field.tensors().items():
        assert tensor.requires_grad
        assert tensor.is_leaf
        assert torch.isfinite(tensor).all()
        assert adam.first[name].shape == adam.second[name].shape == tensor.shape
    assert len(control.seen) == len(control.total) == len(field)


def test_adam_equals_torchs():
    torch.manual_seed(0)
    ours = {"a": torch.randn(5, 3, requires_grad=True), "b": torch.randn(5, requires_grad=True)}
    theirs = {name: tensor.detach().clone().requires_grad_() for name, tensor in ours.items()}
    adam = FieldAdam(ours)
    groups = [{"params": [theirs["a"]], "lr": 0.1}, {"params": [theirs["b"]], "lr": 0.01}]
    reference = torch.optim.Adam(groups, betas=(0.9, 0.999), eps=1e-15)
    for _ in range(5):
        for tensors in (ours, theirs):
            (tensors["a"].square().sum() * 3 + (tensors["b"] - 1).abs().sum()).backward()
        adam.step(ours, {"a": 0.1, "b": 0.01})
        reference.step()
        reference.zero_grad()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name])
        assert ours[name].grad is None
