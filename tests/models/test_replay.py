"""Recorded functions: the values, gradients and training of called ones, on graphs that run on the CPU."""

import copy

import cpu_graphs
import pytest
import torch
from head_parts import CONFIG, face_motion, field
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models import losses
from models.methods.talking_gaussian import Branch, FaceMotion, LandmarkBatch, MouthMotion, landmark_losses
from models.methods.talking_gaussian_phases import FacePhase
from models.replay import LEAST_ROWS, MOST, Replay


@pytest.fixture
def graphs(monkeypatch):
    cpu_graphs.install(monkeypatch)
    return cpu_graphs.Tape


@pytest.fixture
def cuda_paths(monkeypatch):
    cpu_graphs.use_cuda_paths(monkeypatch)


def heard(seed=0, expression=True):
    generator = torch.Generator().manual_seed(seed)
    windows = torch.randn(1, 8, 6, 16, generator=generator)
    return (windows, torch.rand(1, CONFIG.expression_size, generator=generator)) if expression else (windows,)


def branch_of(kind, count=60):
    torch.manual_seed(0)
    return Branch(field(count), face_motion() if kind is FaceMotion else MouthMotion(CONFIG))


def called(branch):
    """The same branch, not recorded."""
    twin = Branch(branch.gaussians.to("cpu"), copy.deepcopy(branch.motion))
    twin._move = twin._moved
    return twin


def parts_of(moved):
    return [part for part in tree_leaves(moved) if isinstance(part, torch.Tensor)]


def backward(moved, seed=1):
    generator = torch.Generator().manual_seed(seed)
    sum((part * torch.randn(part.shape, generator=generator)).sum() for part in parts_of(moved)).backward()


@pytest.mark.parametrize("kind", [FaceMotion, MouthMotion])
def test_a_recorded_field_moves_and_learns_as_a_called_one_does(graphs, kind):
    branch = branch_of(kind)
    twin = called(branch)
    for count in (60, 90, LEAST_ROWS, LEAST_ROWS + 1, 61):
        for each in (branch, twin):
            each.gaussians.replace(field(count).tensors())
        moved, expected = (each.move(*heard(count)) for each in (branch, twin))
        assert type(moved[0]) is type(expected[0])
        assert type(moved[1]) is type(expected[1])
        for part, truth in zip(parts_of(moved), parts_of(expected), strict=True):
            torch.testing.assert_close(part, truth)
        backward(moved)
        backward(expected)
        for name, parameter in twin.motion.named_parameters():
            other = branch.motion.get_parameter(name)
            torch.testing.assert_close(other.grad, parameter.grad, msg=f"{name} at {count} points")
            parameter.grad = other.grad = None
    assert graphs.replays == 10  # forward and backward of five
    assert sum(map(len, branch._move.recordings.values())) == 2  # of two paddings


def test_a_recorded_field_goes_on_learning(graphs):
    branch = branch_of(FaceMotion)
    twin = called(branch)
    optimizers = [torch.optim.AdamW(each.motion.parameters(), lr=1e-2, fused=True) for each in (branch, twin)]
    start = copy.deepcopy(branch.motion.state_dict())
    for step in range(6):
        for each, optimizer in zip((branch, twin), optimizers, strict=True):
            backward(each.move(*heard(step)), step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    for name, value in twin.motion.state_dict().items():
        torch.testing.assert_close(branch.motion.state_dict()[name], value, msg=name)
    assert not torch.equal(start["decoder.0.weight"], branch.motion.state_dict()["decoder.0.weight"])
    assert graphs.replays == 12


def test_what_waits_for_its_backward_is_not_overwritten(graphs):
    branch = branch_of(MouthMotion)
    twin = called(branch)
    first, second = (branch.move(*heard(seed, False)) for seed in (0, 1))
    expected = [twin.move(*heard(seed, False)) for seed in (0, 1)]
    for moved, truth in zip((first, second), expected, strict=True):
        torch.testing.assert_close(moved[0].means, truth[0].means)
    for moved in (*expected, first, second):
        backward(moved)
    for parameter, truth in zip(branch.motion.parameters(), twin.motion.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, truth.grad)
    (recordings,) = branch._move.recordings.values()
    assert len(recordings) == 2
    branch.move(*heard(2, False))
    assert len(recordings) == 2  # both are free again


def test_what_is_never_differentiated_is_called_in_the_end(graphs):
    branch = branch_of(MouthMotion)
    for seed in range(MOST + 3):
        moved, _ = branch.move(*heard(seed, False))
        torch.testing.assert_close(moved.means, called(branch).move(*heard(seed, False))[0].means)
    assert graphs.replays == MOST


def test_without_gradients_results_can_be_kept(graphs):
    branch = branch_of(FaceMotion)
    with torch.no_grad():
        kept = [branch.move(*heard(seed))[0].means for seed in (0, 1)]
        for seed, means in enumerate(kept):
            torch.testing.assert_close(means, called(branch).move(*heard(seed))[0].means)
    assert graphs.replays == 2


def test_a_recorded_photometric_loss_is_the_called_one(graphs):
    generator = torch.Generator().manual_seed(0)
    for structure in (0.2, 0.2, 0.0):
        image, target = (torch.rand(40, 48, 3, generator=generator) for _ in range(2))
        twin = image.clone().requires_grad_()
        image.requires_grad_()
        loss = losses.photometric(image, target, structure)
        expected = losses._photometric.function(twin, target, structure)
        torch.testing.assert_close(loss, expected)
        (3 * loss).backward()
        (3 * expected).backward()
        torch.testing.assert_close(image.grad, twin.grad)
    assert graphs.replays == 6


class Refuse(TorchDispatchMode):
    """Operations on the meta device that take anything from the CPU: a graph would not see it change, or break."""

    def __torch_dispatch__(self, function, types, inputs=(), options=None):
        for part in tree_leaves((inputs, options or {})):
            assert not (isinstance(part, torch.Tensor) and part.device.type == "cpu"), function
        return function(*inputs, **(options or {}))


def on_meta(tensors):
    return [None if part is None else part.to("meta") for part in tensors]


@pytest.mark.parametrize("kind", [FaceMotion, MouthMotion])
@pytest.mark.usefixtures("cuda_paths")
def test_motion_takes_nothing_from_the_cpu_and_asks_for_no_value(kind):
    branch = branch_of(kind)
    means, motion = branch.gaussians.means.detach().to("meta"), branch.motion.to("meta")
    inputs = on_meta(heard(expression=kind is FaceMotion)) + [None] * (kind is MouthMotion)
    branch._moved(means, *inputs)  # as a recording does: what is kept is made before it
    with Refuse():
        moved = branch._moved(means, *inputs)
        torch.autograd.grad([part.sum() for part in parts_of(moved)], list(motion.parameters()), allow_unused=True)


@pytest.mark.usefixtures("cuda_paths")
def test_losses_take_nothing_from_the_cpu_and_ask_for_no_value():
    motion, rest = face_motion().to("meta"), torch.zeros(30, 3, device="meta")
    shapes = [(1, 8, 6, 16), (1, CONFIG.expression_size), (1, 4, 4), (1, 30, 2), (1, 30)]
    tracked = [torch.zeros(shape, device="meta") for shape in shapes]
    groups = [torch.zeros(12, dtype=torch.long, device="meta"), *torch.zeros(2, 30, dtype=torch.bool, device="meta")]
    batch, intrinsics = LandmarkBatch(*tracked, *groups), torch.zeros(3, 3, device="meta")
    image, target = torch.zeros(2, 40, 48, 3, device="meta")
    image.requires_grad_()

    def lose():
        points = motion.look_up(rest)
        loss = landmark_losses(motion, points, rest, batch, intrinsics, FacePhase(lip_shape=1.0))
        torch.autograd.grad(loss, list(motion.parameters()), allow_unused=True)
        torch.autograd.grad(losses._photometric.function(image, target, 0.2), image)

    lose()
    with Refuse():
        lose()


def test_on_the_cpu_nothing_is_recorded(monkeypatch):
    monkeypatch.setenv("GAUSSTALK_REPLAY", "1")
    record = Replay(lambda value: value * 2)
    assert record(torch.ones(3)).tolist() == [2, 2, 2]
    assert not record.recordings
