"""One picture over another: the kernel against the formula in double precision."""

import pytest
import torch

from models.gaussians.compositing import over


def layers(dtype, size=(7, 5)):
    generator = torch.Generator().manual_seed(0)
    shapes = ((*size, 3), size, (*size, 3))
    return [torch.rand(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def test_over_is_the_formula_with_its_gradients():
    results = []
    for dtype in (torch.float32, torch.float64):
        image, alpha, behind = tensors = layers(dtype)
        out = over(image, alpha, behind)
        (out * torch.linspace(-1, 1, 105, dtype=dtype).view(7, 5, 3)).sum().backward()
        results.append([out.detach(), *(tensor.grad for tensor in tensors)])
    for value, truth in zip(*results, strict=True):
        torch.testing.assert_close(value.double(), truth, atol=1e-6, rtol=1e-6)
    assert torch.autograd.gradcheck(over, layers(torch.float64))


def test_opaque_hides_and_empty_shows_what_is_behind():
    image, _, behind = layers(torch.float32)
    assert torch.equal(over(image, torch.ones(7, 5), behind), image)
    assert torch.equal(over(torch.zeros_like(image), torch.zeros(7, 5), behind), behind)


def test_views_are_taken_as_they_are():
    image, alpha, behind = (part.detach() for part in layers(torch.float32, (8, 6)))
    part = over(image[::2, 1:], alpha[::2, 1:], behind[::2, 1:])
    torch.testing.assert_close(part, over(image, alpha, behind)[::2, 1:])


def test_bad_shapes_are_named():
    image, alpha, behind = layers(torch.float32)
    for wrong in ((image, alpha[None], behind), (image, alpha, behind[1:]), (image[..., :1], alpha, behind)):
        with pytest.raises(ValueError, match="have shapes"):
            over(*wrong)
