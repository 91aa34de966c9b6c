"""The denoiser's Jacobian as a covariance, and moment matching with it: against closed forms."""

from dataclasses import dataclass

import pytest
import torch
from closed_forms import gaussian_problem
from test_pigdm import SOLVED, exact, points
from test_renoise import DENSE, EXACT, SPACE, C, D, problem, statistics, whitened

from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.guidance.moments import JacobianCovariance, MomentMatching
from pdediff.guidance.renoise import Annealing, renoise
from pdediff.noise import Generators
from pdediff.samplers.base import pure_noise
from pdediff.samplers.heun import Heun
from pdediff.schedules import FunctionalSchedule, VESchedule, levels

N = 1000


def x_t(batch=3):
    return torch.randn(batch, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("schedule", [FunctionalSchedule(), VESchedule()])
@pytest.mark.parametrize("t", [0.05, 1.0, 30.0])
@pytest.mark.parametrize("products", ["vjp", "jvp"])
def test_is_the_conditional_covariance(schedule, t, products):
    """For N(0, C) it is sigma_t² C (alpha_t² C + sigma_t² I)⁻¹, whatever x_t, in any schedule; no caller's setting of
    gradients matters."""
    alpha_t, sigma_t = schedule(t)
    exact = sigma_t**2 * DENSE @ torch.linalg.inv(alpha_t**2 * DENSE + sigma_t**2 * torch.eye(D, dtype=torch.float64))
    v = torch.randn(3, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    denoiser = GaussianDenoiser(C, SPACE, schedule=schedule)
    with torch.no_grad():
        law = JacobianCovariance(denoiser, x_t(), t, products)
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
    for count in (50, 200):
        annealing = Annealing(levels=count, inner=EXACT, churn=1.0, perturb=False, covariance="jacobian")
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


@pytest.mark.methods
@pytest.mark.parametrize("schedule", [FunctionalSchedule(), VESchedule()])
@pytest.mark.parametrize("products", ["vjp", "jvp"])
@pytest.mark.parametrize("t", [0.05, 1.0, 30.0])
def test_exact_for_a_gaussian_prior(schedule, products, t):
    """Correlated, of mean 3, twelve data: E[x_0 | x_t, y] is that of the exact posterior, at any x_t, to 1e-6."""
    problem = gaussian_problem(mean=3.0, schedule=schedule)
    found = MomentMatching(problem.denoiser, problem.likelihood, SOLVED, products=products)(points(64), t)
    torch.testing.assert_close(found, exact(problem, points(64), t), rtol=0, atol=1e-6)


@pytest.mark.methods
def test_samples_are_of_the_exact_posterior():
    """1000 samples of Heun's rule with 80 levels: mean, width and covariance, to 4 deviations of Monte-Carlo error."""
    problem = gaussian_problem((4, 4), points=3, averages=3)
    method = MomentMatching(problem.denoiser, problem.likelihood)
    generators, times = Generators(1, range(1000)), levels(method.schedule, 300.0, 1e-3, 80)
    problem.assert_exact(Heun()(method, pure_noise(method, times[0], generators), times, generators))


@dataclass(frozen=True)
class Squares:
    """y = x² + e, in units of the noise."""

    y: torch.Tensor
    linear: bool = False

    @property
    def size(self):
        return len(self.y)

    def linearise(self, zeta, tolerance, near=None):
        return Diagonal(zeta**2 - self.y, 2 * zeta)


@dataclass(frozen=True)
class Diagonal:
    residual: torch.Tensor
    slope: torch.Tensor

    def tangent(self, dzeta):
        return self.slope * dzeta

    def adjoint(self, data):
        return self.slope * data


def test_nonlinear_data_take_gauss_newton_steps():
    """y = x² + e: after 30 steps z = x̂_0 − V Jᵀ(F(z) − y), the condition of the mode; after one, the linearised."""
    problem = gaussian_problem((2, 2), points=1, averages=1, mean=3.0)
    likelihood, x = Squares(torch.tensor([9.5, 8.0, 10.0, 9.0], dtype=torch.float64)), points(4) + 3
    jacobian = JacobianCovariance(problem.denoiser, x, 0.3)
    z = MomentMatching(problem.denoiser, likelihood, SOLVED, steps=30)(x, 0.3)
    misfit = likelihood.linearise(z, 0)
    torch.testing.assert_close(z, jacobian.x_0 - jacobian.covariance(misfit.adjoint(misfit.residual)))
    once = MomentMatching(problem.denoiser, likelihood, SOLVED, steps=1)(x, 0.3)
    dense = torch.stack([jacobian.covariance(e.expand(3, 4)) for e in torch.eye(4, dtype=torch.float64)], dim=1)
    for row in range(3):
        j = (2 * jacobian.x_0[row]).diag()
        gain = dense[row] @ j @ torch.linalg.inv(torch.eye(4, dtype=torch.float64) + j @ dense[row] @ j)
        expected = jacobian.x_0[row] + gain @ (likelihood.y - jacobian.x_0[row] ** 2)
        torch.testing.assert_close(once[row], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("products", ["vjp", "jvp"])
def test_a_sample_does_not_depend_on_its_batch(products):
    """Row 5 at its own time, alone and among 8; and whatever the caller says of gradients."""
    problem = gaussian_problem()
    method = MomentMatching(problem.denoiser, problem.likelihood, products=products)
    x, t = points(64, 8), torch.logspace(-1, 1, 8, dtype=torch.float64)
    batch = method(x, t)
    torch.testing.assert_close(method(x[5:6], float(t[5]))[0], batch[5], rtol=1e-9, atol=1e-9)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(method(x.clone(), t.clone()), batch, rtol=1e-12, atol=1e-12)
    assert not batch.requires_grad
