"""The cosine transform against scipy's, and as an orthonormal map."""

import numpy as np
import pytest
import scipy.fft
import torch
from torch.autograd import forward_ad

from pdediff.datasets import cosines
from pdediff.datasets.cosines import from_cosines, to_cosines

SHAPES = [(1, 1), (2, 3), (64, 48), (161, 200), (300, 7)]  # dense, FFT of odd and even length, mixed


def _field(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_scipy(shape):
    """Same coefficients as the orthonormal DCT-II of scipy, 1e-13 (rounding of sums of a few hundred terms)."""
    x = _field(3, *shape)
    expected = scipy.fft.dctn(x.numpy(), norm="ortho", axes=(-2, -1))
    np.testing.assert_allclose(to_cosines(x).numpy(), expected, atol=1e-13)
    np.testing.assert_allclose(from_cosines(torch.from_numpy(expected)).numpy(), x.numpy(), atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_is_orthonormal(shape):
    """⟨Qᵀx, c⟩ = ⟨x, Qc⟩ and |Qᵀx| = |x|."""
    x, c = _field(2, *shape)
    torch.testing.assert_close((to_cosines(x) * c).sum(), (x * from_cosines(c)).sum(), rtol=0, atol=1e-11)
    torch.testing.assert_close(to_cosines(x).norm(), x.norm(), rtol=1e-13, atol=0)


def test_dense_and_fast_paths_agree_in_single_precision(monkeypatch):
    """The two ways to transform an axis differ by float32 rounding only."""
    x = _field(4, 96, 101, dtype=torch.float32)
    dense = to_cosines(x), from_cosines(x)
    monkeypatch.setattr(cosines, "DENSE", 0)
    for a, b in zip(dense, (to_cosines(x), from_cosines(x)), strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", [6, 170])
def test_differentiates_in_both_modes(n):
    """The derivative of a linear map is itself (forward mode), and its adjoint backwards; tables first built under
    inference mode serve too."""
    cosines.cosine_matrix.cache_clear()
    cosines._twiddle.cache_clear()
    x, v = _field(2, n, n)
    with torch.inference_mode():
        to_cosines(x), from_cosines(x)
    for forward, adjoint in ((to_cosines, from_cosines), (from_cosines, to_cosines)):
        x_grad = x.clone().requires_grad_()
        (forward(x_grad) * v).sum().backward()
        torch.testing.assert_close(x_grad.grad, adjoint(v))
        with forward_ad.dual_level():
            tangent = forward_ad.unpack_dual(forward(forward_ad.make_dual(x, v))).tangent
        torch.testing.assert_close(tangent, forward(v))
