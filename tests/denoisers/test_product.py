"""A product of Gaussian priors is the joint Gaussian of block-diagonal covariance: dense algebra, in float64."""

import pytest
import torch

from pdediff.datasets.random_fields import CosineField, PeriodicField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.product import ProductDenoiser
from pdediff.noise import Generators
from pdediff.samplers.base import pure_noise
from pdediff.samplers.heun import Heun
from pdediff.schedules import FunctionalSchedule, VESchedule, levels
from pdediff.spaces import FunctionSpace

K2 = torch.arange(3.0)[:, None] ** 2 + torch.arange(4.0) ** 2
U_PRIOR = CosineField((3, 4), 2 / (1 + K2))
A_PRIOR = PeriodicField((4, 6), 5 / (1 + (torch.fft.fftfreq(4) * 4)[:, None] ** 2 + torch.arange(4.0) ** 2))
VE, FUNCTIONAL = VESchedule(), FunctionalSchedule()
SIZES, D = (12, 24), 36
I = torch.eye(D, dtype=torch.float64)


def factors(schedule=VE):
    """u on the cells, a on a torus that holds them."""
    u = GaussianDenoiser(U_PRIOR, FunctionSpace(("u",), (3, 4)), mean=2.0, schedule=schedule)
    a = GaussianDenoiser(A_PRIOR, FunctionSpace(("a",), (4, 6)), mean=-0.5, schedule=schedule)
    return u, a


def joint():
    """Mean and covariance of (u, a)."""
    blocks = [prior.apply(torch.eye(n, dtype=torch.float64).reshape(n, *prior.shape)).reshape(n, n)
              for prior, n in zip((U_PRIOR, A_PRIOR), SIZES, strict=True)]  # fmt: skip
    mean = torch.cat([torch.full((n,), m, dtype=torch.float64) for n, m in zip(SIZES, (2.0, -0.5), strict=True)])
    return mean, torch.block_diag(*blocks)


def points(batch=3):
    return torch.randn(batch, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("schedule", [VE, FUNCTIONAL], ids=["ve", "functional"])
def test_posterior_mean_is_the_joint_gaussians(schedule):
    """m + alpha_t C (alpha_t² C + sigma_t² I)⁻¹ (x_t − alpha_t m) with the dense joint C; each row at its own time."""
    (mean, c), t, x_t = joint(), torch.tensor([0.05, 1.0, 20.0], dtype=torch.float64), points()
    found = ProductDenoiser(factors(schedule))(x_t, t)
    for row, x, alpha_t, sigma_t in zip(found, x_t, *schedule(t), strict=True):
        expected = mean + alpha_t * c @ torch.linalg.solve(alpha_t**2 * c + sigma_t**2 * I, x - alpha_t * mean)
        torch.testing.assert_close(row, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("t", [0.05, 1.0, 20.0])
def test_error_law_is_block_diagonal(t):
    """L Lᵀ is the joint posterior covariance; one part's law is its factor's."""
    model, (_, c) = ProductDenoiser(factors()), joint()
    law = model.error_law(points(), t)
    assert law.dimension == D
    root = law.root(I)
    expected = t**2 * torch.linalg.solve(c + t**2 * I, c)
    torch.testing.assert_close(root.T @ root, expected, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(law.root_transposed(I), root.T, rtol=1e-10, atol=1e-11)
    alone = factors()[1].error_law(points()[:, 12:], t)
    torch.testing.assert_close(law.marginal(model.space.part("a")).root(points()[:, 12:]), alone.root(points()[:, 12:]))


def test_samples_are_the_factors_own():
    """A deterministic sampler draws from each factor what it draws from it alone: x_T decides, part by part."""
    u, a = factors()
    model = ProductDenoiser((u, a))
    times = levels(model.schedule, 30.0, 0.05, 12)
    x_T = pure_noise(model, times[0], Generators(0, range(2)), torch.float64)
    x_0 = model.space.split(Heun()(model, x_T, times, Generators(0, range(2))))
    for factor, found, start in zip((u, a), x_0, model.space.split(x_T), strict=True):
        torch.testing.assert_close(found, Heun()(factor, start, times, Generators(0, range(2))), rtol=1e-10, atol=1e-10)


def test_describes_all_parts():
    """Space, bounds on every value, and the hull of the noise ranges."""
    u, a = factors()
    model = ProductDenoiser((u, a))
    assert model.space.fields == ("u", "a")
    assert model.space.sizes == SIZES
    low, high = model.bounds
    assert low.shape == high.shape == (D,)
    for part, factor in zip((slice(0, 12), slice(12, D)), (u, a), strict=True):
        for whole, own in zip((low, high), factor.bounds, strict=True):
            torch.testing.assert_close(whole[part], own.expand(whole[part].shape))
    assert model.noise_range == (
        min(u.noise_range[0], a.noise_range[0]),
        max(u.noise_range[1], a.noise_range[1]),
    )
    assert model.noise_range not in (u.noise_range, a.noise_range)


def test_single_precision():
    """float32 stays float32."""
    model = ProductDenoiser(factors())
    found = model(points().float(), 1.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, model(points(), 1.0).float(), rtol=1e-5, atol=1e-5)


def test_refusals():
    """No factor, two schedules, one field twice; query points and a condition go to the factors, which refuse them."""
    u, a = factors()
    with pytest.raises(ValueError, match="distinct field names"):
        ProductDenoiser(())
    with pytest.raises(ValueError, match="one schedule"):
        ProductDenoiser((u, factors(FUNCTIONAL)[1]))
    with pytest.raises(ValueError, match="distinct field names"):
        ProductDenoiser((u, u))
    model = ProductDenoiser((u, a))
    with pytest.raises(ValueError, match="x has 35 values"):
        model(points()[:, 1:], 1.0)
    for extra in ({"query": points()}, {"condition": points()}):
        with pytest.raises(ValueError, match="takes no condition"):
            model(points(), 1.0, **extra)
