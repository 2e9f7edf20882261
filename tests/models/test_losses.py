"""Losses: their values on cases that can be computed by hand."""

import pytest
import torch

from models import losses
from models.errors import InputError


def test_equal_images_cost_nothing_and_black_on_white_costs_its_l1():
    white, black = torch.ones(16, 16, 3), torch.zeros(16, 16, 3)
    assert losses.photometric(white, white).item() == pytest.approx(0, abs=1e-6)
    assert losses.photometric(black, white, structure=0.0).item() == pytest.approx(1)
    assert losses.photometric(black, white).item() > 1.19  # almost no structure in common


def test_coverage_counts_holes_inside_and_spill_outside():
    inside = torch.zeros(4, 4)
    inside[:2] = 1
    assert losses.coverage(inside, inside).item() == 0
    assert losses.coverage(torch.zeros(4, 4), inside).item() == pytest.approx(0.5)
    assert losses.coverage(torch.ones(4, 4), inside).item() == pytest.approx(0.5)


def test_a_box_that_leaves_the_image_is_clipped():
    image, target = torch.zeros(10, 10, 3), torch.zeros(10, 10, 3)
    image[0, 0] = 1
    assert losses.box_l1(image, target, (-5, -5, 2, 2)).item() == pytest.approx(0.25)
    image.requires_grad_()
    nothing = losses.box_l1(image, target, (-9, -9, -1, -1))
    nothing.backward()  # a frame whose mouth is out of sight must not break a step
    assert nothing.item() == 0


def test_robust_distance_is_the_distance_far_away_and_smooth_at_zero():
    points = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]], requires_grad=True)
    weights = torch.tensor([[1.0, 0.0]])
    distance = losses.robust_distance(points, torch.zeros(1, 2, 2), weights)
    assert distance.item() == pytest.approx(2.5, abs=1e-3)
    losses.robust_distance(points, points.detach(), torch.ones(1, 2)).backward()
    assert points.grad.abs().max() == 0


def test_the_centred_distance_does_not_see_a_shift_but_a_shape():
    torch.manual_seed(0)
    points, weights = torch.randn(2, 9, 2) * 5, torch.ones(2, 9)
    weights[:, 3] = 0
    shifted = points + torch.tensor([7.0, -2.0])
    shifted[:, 3] += 50  # absent
    # The softening of 0.1 px is what is left, for the eight of nine that are there.
    assert losses.centred_distance(shifted, points, weights).item() == pytest.approx(0.1 * 8 / 9, abs=1e-4)
    assert losses.centred_distance(points * 1.5, points, weights).item() > 1


@pytest.mark.parametrize("distance", [losses.robust_distance, losses.centred_distance])
def test_an_absent_target_may_be_no_number(distance):
    torch.manual_seed(0)
    points, targets, weights = torch.randn(2, 9, 2, requires_grad=True), torch.randn(2, 9, 2), torch.ones(2, 9)
    weights[:, 3] = 0
    told = distance(points, targets, weights)
    targets[:, 3] = torch.nan
    found = distance(points, targets, weights)
    assert found.item() == told.item()
    found.backward()
    assert points.grad.isfinite().all()
    assert not points.grad[:, 3].any()


def test_projection_follows_the_pinhole():
    pose = torch.eye(4)[None].clone()
    pose[0, 2, 3] = 0.5
    intrinsics = torch.tensor([[100.0, 0, 32], [0, 110, 24], [0, 0, 1]])
    pixels = losses.project(torch.tensor([[[0.1, -0.05, 0.5]]]), pose, intrinsics)
    torch.testing.assert_close(pixels, torch.tensor([[[42.0, 18.5]]]))


def squares(image, target):
    """A distance that is easy to follow."""
    return (image - target).square().mean((1, 2, 3))


def test_a_small_box_is_enlarged_until_the_network_sees_it():
    image, target = torch.rand(48, 48, 3), torch.rand(48, 48, 3)
    sizes = []

    def distance(a, b):
        sizes.append(tuple(a.shape))
        return squares(a, b)

    box = (10, 12, 22, 20)
    assert losses.box_distance(image.requires_grad_(), target, box, distance).backward() is None
    assert sizes == [(1, 3, 31, 46)]
    outside = image.grad.clone()
    outside[12:20, 10:22] = 0
    assert outside.abs().sum() == 0
    with pytest.raises(InputError, match="12 x 8 pixels is too small") as error:
        losses.box_distance(image, target, box, distance, small_crops=True)
    assert "small_crops: false" in error.value.fix
    large = losses.box_distance(image, target, (4, 4, 44, 44), distance, small_crops=True)
    expected = 4 * (image[4:44, 4:44] - target[4:44, 4:44]).square().mean()
    assert large.item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses.box_distance(image, target, (-9, -9, -1, -1), distance).item() == 0


def test_patches_lie_side_by_side_and_the_rest_is_left_out():
    image, target = torch.zeros(70, 100, 3), torch.zeros(70, 100, 3)
    image[64:], image[:, 96:] = 1, 1
    assert losses.patch_distance(image, target, 32, squares).item() == 0
    image[0, 0] = 1
    assert losses.patch_distance(image, target, 32, squares).item() == pytest.approx(4 / (64 * 96))
    assert losses.patch_distance(image, target, 999, squares).item() > 0  # as large as the image at most
