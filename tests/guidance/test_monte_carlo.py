"""The Monte-Carlo estimate of p(y | x_t): its limit, and its documented bias at finite K, for Gaussian laws."""

import pytest
import torch
from closed_forms import LinearLikelihood, gaussian_problem
from test_pigdm import exact, points
from unit_modes import unit_prior

from pdediff.guidance.dps import DPS
from pdediff.guidance.monte_carlo import MonteCarlo
from pdediff.noise import Generators

F64 = torch.float64


def relative_bias(kappa, d, draws):
    """The formula of the module's docstring, for eigenvalues κ (n,) and misfits d (n,)."""
    spread = (1 + kappa) / (1 + 2 * kappa).sqrt() * torch.exp(d**2 / (1 + kappa) - d**2 / (1 + 2 * kappa))
    return kappa / (1 + 2 * kappa) * spread.prod() / draws


@pytest.mark.methods
def test_tends_to_the_exact_mean():
    """Three data on a correlated prior: with 10⁵ draws the posterior mean is right to 3 % of the shift, at any x_t."""
    problem = gaussian_problem((4, 4), points=2, averages=1, sigma=2.0)
    x_t, t = points(16), 1.0
    found = MonteCarlo(problem.denoiser, problem.likelihood, Generators(1, range(3)), draws=10**5)(x_t, t)
    expected = exact(problem, x_t, t)
    shift = (expected - problem.denoiser(x_t, t)).norm(dim=1)
    assert bool(((found - expected).norm(dim=1) < 0.03 * shift).all())


@pytest.mark.methods
def test_bias_at_finite_k():
    """Two modes with R = 1 and 2, t = 1, K = 64: the shift, averaged over 20 000 estimates, is too large as documented.

    To 4 standard errors of the average and what is beyond first order, which is taken to be (bias)² three times over.
    """
    n, draws, r, t = 20_000, 64, torch.tensor([1.0, 2.0], dtype=F64), 1.0
    prior, y = unit_prior(2), torch.tensor([1.0, -1.0], dtype=F64)
    method = MonteCarlo(prior, LinearLikelihood(r.diag(), y), Generators(1, range(n)), draws)
    x_t = torch.tensor([0.4, 0.2], dtype=F64).expand(n, 2)
    x_0 = prior(x_t[:1], t)[0]
    v = t**2 / (1 + t**2)
    kappa, d = v * r**2, y - r * x_0
    shift = v * r * d / (1 + kappa)
    error = (method(x_t, t) - x_0) / shift - 1
    expected = relative_bias(kappa, d, draws)
    allowed = 4 * error.std(0) / n**0.5 + 3 * expected.max() ** 2
    assert bool(((error.mean(0) - expected).abs() < allowed).all())
    assert bool((error.mean(0) > 4 * error.std(0) / n**0.5).all())  # there is a bias, towards the data


@pytest.mark.methods
def test_one_draw_is_dps_on_average():
    """K = 1: the mean over 20 000 estimates is the shift of DPS, to 4 standard errors."""
    n, r = 20_000, torch.tensor([1.0, 2.0], dtype=F64)
    prior, likelihood = unit_prior(2), LinearLikelihood(r.diag(), torch.tensor([1.0, -1.0], dtype=F64))
    x_t = torch.tensor([0.4, 0.2], dtype=F64).expand(n, 2)
    found = MonteCarlo(prior, likelihood, Generators(1, range(n)), 1)(x_t, 1.0)
    expected = DPS(prior, likelihood)(x_t[:1], 1.0)[0]
    assert bool(((found.mean(0) - expected).abs() < 4 * found.std(0) / n**0.5).all())


def test_many_precise_data_defeat_it():
    """With κ = 2, d = 1 the documented bias of 64 draws is 1 % for one datum, and as large as the shift for twelve."""
    kappa, d = torch.full((12,), 2.0), torch.full((12,), 1.0)
    assert float(relative_bias(kappa[:1], d[:1], 64)) < 0.01
    assert float(relative_bias(kappa, d, 64).max()) > 1


def test_white_law_is_the_denoisers_for_white_data():
    """r_t² I with the right sigma_data, and the exact law of a white prior: the same draws, the same mean."""
    prior, likelihood = unit_prior(3), LinearLikelihood(torch.eye(3, dtype=F64), torch.ones(3, dtype=F64))
    means = [MonteCarlo(prior, likelihood, Generators(1, range(3)), 16, law)(points(3), 0.7) for law in MonteCarloLaws]
    torch.testing.assert_close(*means, rtol=1e-12, atol=1e-12)


MonteCarloLaws = ("denoiser", "white")


@pytest.mark.parametrize("law", MonteCarloLaws)
def test_a_sample_does_not_depend_on_its_batch(law):
    """Row 5 alone and among 8; a second call draws anew; and whatever the caller says of gradients."""
    problem, x_t = gaussian_problem(), points(64, 8)

    def method(indices):
        return MonteCarlo(problem.denoiser, problem.likelihood, Generators(3, indices), 8, law)

    both = method(range(8))
    batch = both(x_t, 1.0)
    torch.testing.assert_close(method([5])(x_t[5:6], 1.0)[0], batch[5], rtol=1e-10, atol=1e-10)
    assert not torch.equal(both(x_t, 1.0), batch)
    with torch.inference_mode():
        again = method(range(8))(x_t.clone(), torch.tensor(1.0, dtype=F64))
    torch.testing.assert_close(again, batch, rtol=1e-12, atol=1e-12)


def test_refusals():
    """An unknown law, and no draws."""
    problem = gaussian_problem()
    with pytest.raises(ValueError, match="'denoiser' or 'white', not 'grey'"):
        MonteCarlo(problem.denoiser, problem.likelihood, Generators(1, [0]), law="grey")
    with pytest.raises(ValueError, match="at least one, got 0"):
        MonteCarlo(problem.denoiser, problem.likelihood, Generators(1, [0]), draws=0)
