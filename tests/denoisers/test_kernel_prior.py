"""The mixture of Gaussian kernels."""

import pytest
import torch

from pdediff.denoisers.kernel_prior import KERNEL_SCALE, gaussian_kernel, kernel_prior
from pdediff.schedules import VESchedule


@pytest.mark.parametrize("width", [0.3, 1.0, 5.0])
def test_gaussian_kernels(width):
    """Sum one, symmetric, and in the ratio exp(−1/(2w²)) from one cell to the next."""
    k = gaussian_kernel(7, width)
    assert float(k.sum()) == pytest.approx(1)
    torch.testing.assert_close(k, k.T)
    torch.testing.assert_close(k, k.flip(0, 1))
    assert float(k[3, 4] / k[3, 3]) == pytest.approx(float(torch.tensor(-0.5 / width**2).exp()))


def test_clean_kernels_are_recognised():
    """At little noise the denoiser gives a kernel of its list back, and knows which; at much noise, the mean of all."""
    widths = [0.6, 1.0, 1.8]
    prior = kernel_prior(7, widths, schedule=VESchedule())
    z = torch.stack([gaussian_kernel(7, w).flatten() for w in widths]) / KERNEL_SCALE
    torch.testing.assert_close(prior(z, 1e-3), z, rtol=0, atol=1e-3)
    torch.testing.assert_close(prior.responsibilities(z, 1e-3), torch.eye(3, dtype=z.dtype), rtol=0, atol=1e-9)
    torch.testing.assert_close(prior(0 * z, 1e4), z.mean(0).expand(3, -1), rtol=0, atol=1e-3)


def test_deviation_is_the_kernels():
    """Far from all others, D keeps the part d²/(d² + s²) of a deviation; d the deviation of k over the scale."""
    prior = kernel_prior(5, [1.0], deviation=0.02, scale=0.1, schedule=VESchedule())
    mean = gaussian_kernel(5, 1.0).flatten()[None] / 0.1
    torch.testing.assert_close(prior(mean + 1, 0.3), mean + 0.04 / (0.04 + 0.09))
