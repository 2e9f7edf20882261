"""Spherical harmonics: against scipy's, and the kernel against plain torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from models.gaussians.spherical_harmonics import COLOR_OFFSET, evaluate_sh, sh_basis


def make_inputs(seed, bands, count=50, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(count, 3, generator=generator)
    center = torch.randn(3, generator=generator)
    coefficients = torch.randn(count, bands, 3, generator=generator)
    return means.to(dtype), center.to(dtype), coefficients.to(dtype).requires_grad_()


def test_basis_is_scipys_up_to_the_signs_of_gaussian_splatting():
    directions = torch.nn.functional.normalize(
        torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=-1
    )
    x, y, z = directions.numpy().T
    polar, azimuth = np.arccos(z), np.arctan2(y, x)
    columns = []
    for degree in range(4):
        for order in range(-degree, degree + 1):
            # scipy's complex functions carry the Condon-Shortley phase; so do those of Gaussian splatting.
            value = sph_harm_y(degree, abs(order), polar, azimuth)
            part = value.imag if order < 0 else value.real
            columns.append(part * (np.sqrt(2) if order else 1))
    np.testing.assert_allclose(sh_basis(directions, 3).numpy(), np.stack(columns, -1), atol=1e-12)


@pytest.mark.parametrize(("bands", "degree"), [(1, None), (4, None), (9, None), (16, None), (16, 0), (16, 2), (9, 1)])
def test_kernel_equals_reference(bands, degree):
    means, center, coefficients = make_inputs(3, bands)
    colors = evaluate_sh(means, center, coefficients, degree, backend="cpu")
    exact = coefficients.detach().double().requires_grad_()
    truth = evaluate_sh(means.double(), center.double(), exact, degree)
    torch.testing.assert_close(colors.double(), truth, atol=1e-5, rtol=0)
    weight = torch.randn(colors.shape, generator=torch.Generator().manual_seed(1))
    (colors * weight).sum().backward()
    (truth * weight).sum().backward()
    torch.testing.assert_close(coefficients.grad.double(), exact.grad, atol=1e-5, rtol=0)
    assert torch.equal(coefficients.grad != 0, exact.grad != 0)
    assert (truth == 0).any()  # some colours are clamped, or the test would not see it


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_zero_coefficients_are_grey_and_degree_0_is_the_same_from_everywhere(backend):
    means, center, coefficients = make_inputs(0, 16)
    grey = evaluate_sh(means, center, torch.zeros_like(coefficients), backend=backend)
    assert torch.equal(grey, torch.full_like(grey, COLOR_OFFSET))
    here = evaluate_sh(means, center, coefficients, 0, backend)
    there = evaluate_sh(means, center + 1, coefficients, 0, backend)
    assert torch.equal(here, there)
    assert not torch.equal(evaluate_sh(means, center + 1, coefficients, 1, backend), here)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_no_gradient_reaches_the_means(backend):
    means, center, coefficients = make_inputs(0, 9)
    means.requires_grad_()
    evaluate_sh(means, center, coefficients, backend=backend).sum().backward()
    assert means.grad is None


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), at_camera=st.booleans(), distance=st.sampled_from([1e-30, 1e-3, 1.0, 1e10]))
def test_any_position_gives_finite_colors(seed, at_camera, distance):
    means, center, coefficients = make_inputs(seed, 16, 5)
    means = center.expand(5, 3).clone() if at_camera else means * distance
    for backend in ("cpu", "reference"):
        colors = evaluate_sh(means, center, coefficients, backend=backend)
        assert colors.isfinite().all()
        assert (colors >= 0).all()


def test_not_a_number_is_not_hidden():
    means, center, coefficients = make_inputs(0, 4)
    with torch.no_grad():
        coefficients[3, 2, 1] = float("nan")
    for backend in ("cpu", "reference"):
        assert evaluate_sh(means, center, coefficients, backend=backend)[3, 1].isnan()


def test_reference_passes_gradcheck():
    means, center, coefficients = make_inputs(2, 9, 4, torch.float64)
    assert torch.autograd.gradcheck(lambda values: evaluate_sh(means, center, values), (coefficients,))


def test_bad_input_is_named():
    means, center, coefficients = make_inputs(0, 9)
    with pytest.raises(ValueError, match="coefficients has shape"):
        evaluate_sh(means, center, coefficients[:, :5])
    with pytest.raises(ValueError, match="degree 3"):
        evaluate_sh(means, center, coefficients, 3)
    with pytest.raises(ValueError, match="camera_center"):
        evaluate_sh(means, center[None], coefficients)
    with pytest.raises(ValueError, match="unknown backend"):
        evaluate_sh(means, center, coefficients, backend="gpu")
    with pytest.raises(ValueError, match="float32"):
        evaluate_sh(means.double(), center.double(), coefficients.double(), backend="cpu")
