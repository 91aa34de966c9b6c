"""The denoiser's Jacobian as a covariance: against closed forms."""

import pytest
import torch
from test_renoise import DENSE, EXACT, SPACE, C, D, problem, statistics, whitened

from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.guidance.moments import JacobianCovariance
from pdediff.guidance.renoise import Annealing, renoise
from pdediff.noise import Generators
from pdediff.schedules import FunctionalSchedule, VESchedule

N = 1000


def x_t(batch=3):
    return torch.randn(batch, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("schedule", [FunctionalSchedule(), VESchedule()])
@pytest.mark.parametrize("t", [0.05, 1.0, 30.0])
def test_is_the_conditional_covariance(schedule, t):
    """For N(0, C) it is sigma_t² C (alpha_t² C + sigma_t² I)⁻¹, whatever x_t, in any schedule; no caller's setting of
    gradients matters."""
    alpha_t, sigma_t = schedule(t)
    exact = sigma_t**2 * DENSE @ torch.linalg.inv(alpha_t**2 * DENSE + sigma_t**2 * torch.eye(D, dtype=torch.float64))
    v = torch.randn(3, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    denoiser = GaussianDenoiser(C, SPACE, schedule=schedule)
    with torch.no_grad():
        law = JacobianCovariance(denoiser, x_t(), t)
        torch.testing.assert_close(law.covariance(v), v @ exact, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(law.covariance(v), v @ exact, rtol=1e-9, atol=1e-12)  # and again
    torch.testing.assert_close(law.x_0, denoiser(x_t(), t))
    assert not law.x_0.requires_grad


def test_ancestral_sampling_asks_only_for_the_mean():
    """With the mean of x_0 | x_t, y in place of a draw and the noise kept (churn 1), the loop is ancestral sampling of
    the posterior: the mean is right, and the variance is what it should be, but for three things that are missing: the
    part that x_0 | x_t, y still has at the last level, (P⁻¹ + I/s_min²)⁻¹; the prior's signal in the first x_t; and an
    error of the steps that falls with their number.

    Measured beyond the first: 8.5 % at 50 levels, 4.4 % at 200, each to √(2/(N D)) ≈ 0.6 %.
    """
    likelihood, mu, factor = problem()
    denoiser, posterior = GaussianDenoiser(C, SPACE), factor @ factor.T
    precision = torch.linalg.inv(posterior) + torch.eye(D, dtype=torch.float64) / denoiser.noise_range[0] ** 2
    last = float(torch.linalg.inv(precision).trace() / posterior.trace())
    missing = []
    for levels in (50, 200):
        annealing = Annealing(levels=levels, inner=EXACT, churn=1.0, perturb=False, covariance="jacobian")
        z = renoise(denoiser, likelihood, Generators(1, range(N)), annealing)
        missing.append(1 - float(z.double().var(0).sum() / posterior.trace()) - last)
        assert abs(statistics(whitened(z, mu, factor))[0]) < 4
    assert 0.02 < missing[1] < 0.65 * missing[0] < 0.07


def test_refusals():
    """Perturbations need a root of the covariance; the Jacobian is of all of x_0 and of no other unknowns."""
    with pytest.raises(ValueError, match="no root"):
        Annealing(covariance="jacobian")
    likelihood, _, _ = problem()
    annealing = Annealing(levels=2, perturb=False, covariance="jacobian")
    with pytest.raises(ValueError, match="all of x_0"):
        renoise(GaussianDenoiser(C, SPACE), likelihood, Generators(1, [0]), annealing, unknowns=object())
