"""SSIM: against scikit-image's value, and the kernels against plain torch."""

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from models.ssim import choose_backend, reference, ssim, ssim_map, window


def make_pair(seed, shape=(40, 33, 3), dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(shape, generator=generator)
    target = (image + 0.2 * torch.randn(shape, generator=generator)).clamp(0, 1)
    return image.to(dtype).requires_grad_(), target.to(dtype)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_interior_is_scikit_images(backend):
    image, target = make_pair(0)
    _, truth = structural_similarity(
        image.detach().double().numpy(), target.double().numpy(), gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, data_range=1, channel_axis=2, full=True,
    )  # fmt: skip
    # scikit-image mirrors at the border; five pixels in, the two agree.
    values = ssim_map(image, target, backend).detach().numpy()
    np.testing.assert_allclose(values[5:-5, 5:-5], truth[5:-5, 5:-5], atol=1e-5)


def test_border_counts_zeros_beyond_it():
    image, target = make_pair(1, (20, 20, 1))
    padded = [torch.nn.functional.pad(side.detach(), (0, 0, 5, 5, 5, 5)) for side in (image, target)]
    inner = ssim_map(*padded)[5:-5, 5:-5]
    torch.testing.assert_close(ssim_map(image, target), inner, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(40, 33, 3), (5, 70, 1), (1, 1, 3), (2, 34, 6, 2), (64, 9, 5), (2, 3, 32, 8, 3)])
def test_kernels_equal_reference(shape):
    image, target = make_pair(2, shape)
    exact = image.detach().double().requires_grad_()
    value = ssim_map(image, target, "cpu")
    truth = ssim_map(exact, target.double())
    torch.testing.assert_close(value.double(), truth, atol=1e-5, rtol=0)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    (value * weight).sum().backward()
    (truth * weight).sum().backward()
    assert ((image.grad - exact.grad).norm() / exact.grad.norm()).item() < 1e-4


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_equal_images_score_one_and_others_less(backend):
    image, target = make_pair(4)
    torch.testing.assert_close(ssim_map(image, image.detach(), backend), torch.ones(image.shape), atol=1e-4, rtol=0)
    assert ssim(image, target, backend) < 0.95
    assert ssim(image, target, backend) > ssim(image, torch.rand_like(target), backend)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_descending_the_gradient_makes_images_alike(backend):
    image, target = make_pair(5, (16, 16, 1))
    target.requires_grad_()
    before = ssim(image, target, backend)
    before.backward()
    assert target.grad is None
    assert ssim(image.detach() + 5 * image.grad, target, backend) > before + 0.01


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 40), channels=st.integers(1, 4), level=st.sampled_from([0, 1]))
def test_flat_images_are_finite_and_bounded(height, width, channels, level):
    image = torch.full((height, width, channels), float(level), requires_grad=True)
    values = ssim_map(image, torch.rand(height, width, channels, generator=torch.Generator().manual_seed(0)))
    values.sum().backward()
    assert values.isfinite().all()
    assert (values.abs() <= 1 + 1e-4).all()
    assert image.grad.isfinite().all()


def test_bits_do_not_depend_on_the_number_of_threads():
    results = []
    before = numba.get_num_threads()
    try:
        for threads in (1, numba.config.NUMBA_NUM_THREADS):
            numba.set_num_threads(threads)
            image, target = make_pair(6, (70, 40, 3))
            value = ssim(image, target, "cpu")
            value.backward()
            results.append((value.detach(), image.grad))
    finally:
        numba.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_not_a_number_is_not_hidden():
    image, target = make_pair(7, (20, 20, 1))
    with torch.no_grad():
        image[10, 10] = float("nan")
    for backend in ("cpu", "reference"):
        assert ssim(image, target, backend).isnan()


def test_reference_passes_gradcheck():
    image, target = make_pair(8, (6, 5, 2), torch.float64)
    assert torch.autograd.gradcheck(lambda values: ssim_map(values, target), (image,))


def test_it_can_be_learnt_from_after_it_was_measured():
    reference._window.cache_clear()
    image, target = make_pair(8, (6, 5, 2), torch.float64)
    with torch.inference_mode():
        ssim(image, target)
    ssim(image, target).backward()
    assert image.grad.abs().sum() > 0


def test_window_is_a_gaussian_of_eleven_taps():
    weights = window()
    assert weights.shape == (11,)
    assert weights.sum().item() == pytest.approx(1)
    assert (weights[5] / weights[4]).item() == pytest.approx(np.exp(0.5 / 1.5**2))


def test_bad_input_is_named():
    image, target = make_pair(0)
    with pytest.raises(ValueError, match="one shape"):
        ssim(image, target[:-1])
    with pytest.raises(ValueError, match="one shape"):
        ssim(image[..., 0], target[..., 0])
    with pytest.raises(ValueError, match="float64"):
        ssim(image, target.double())
    with pytest.raises(ValueError, match="float32"):
        ssim(image.double(), target.double(), "cpu")
    with pytest.raises(ValueError, match="unknown"):
        choose_backend(image, "scipy")
