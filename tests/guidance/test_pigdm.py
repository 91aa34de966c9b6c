"""ΠGDM: exact where its r is the true one, and the documented error where it is not."""

import pytest
import torch
from closed_forms import LinearLikelihood, gaussian_problem
from unit_modes import unit_prior

from pdediff.guidance.dps import DPS
from pdediff.guidance.pigdm import PiGDM
from pdediff.guidance.proximal import InnerSolve
from pdediff.noise import Generators
from pdediff.samplers.base import pure_noise
from pdediff.samplers.heun import Heun
from pdediff.schedules import FunctionalSchedule, VESchedule, levels

F64 = torch.float64
SOLVED = InnerSolve(iterations=60, reduction=1e-9)
WHITE = 4.0 * torch.ones(4, 4)  # a white prior of deviation 2


def white_problem(**settings):
    return gaussian_problem((4, 4), points=3, averages=3, sigma=0.2, mean=1.0, spectrum=WHITE, **settings)


def exact(problem, x_t, t):
    """E[x_0 | x_t] under the exact posterior N(mu, P), by dense algebra."""
    alpha_t, sigma_t = problem.denoiser.schedule(t)
    p = problem.covariance
    gain = alpha_t * torch.linalg.solve(alpha_t**2 * p + sigma_t**2 * torch.eye(len(p), dtype=F64), p).T
    return problem.mu + (x_t - alpha_t * problem.mu) @ gain.T


def points(d, batch=3):
    return torch.randn(batch, d, generator=torch.Generator().manual_seed(5), dtype=F64)


@pytest.mark.methods
@pytest.mark.parametrize("schedule", [FunctionalSchedule(), VESchedule()])
@pytest.mark.parametrize("t", [0.05, 1.0, 30.0])
def test_exact_for_a_white_prior(schedule, t):
    """Deviation 2, mean 1, six data: E[x_0 | x_t, y] is that of the exact posterior, at any x_t, to 1e-7."""
    problem = white_problem(schedule=schedule)
    found = PiGDM(problem.denoiser, problem.likelihood, sigma_data=2.0, inner=SOLVED)(points(16), t)
    torch.testing.assert_close(found, exact(problem, points(16), t), rtol=0, atol=1e-7)


@pytest.mark.methods
def test_samples_are_of_the_exact_posterior():
    """1000 samples of Heun's rule with 80 levels: mean, width and covariance, to 4 deviations of Monte-Carlo error."""
    problem = white_problem()
    method = PiGDM(problem.denoiser, problem.likelihood, sigma_data=2.0)
    generators, times = Generators(1, range(1000)), levels(method.schedule, 300.0, 1e-3, 80)
    problem.assert_exact(Heun()(method, pure_noise(method, times[0], generators), times, generators))


@pytest.mark.methods
@pytest.mark.parametrize("sigma_data", [0.5, 1.0, float("inf")])
def test_error_of_another_r(sigma_data):
    """Where the prior's modes have the variance λ = 1, the shift is wrong by (1 + V R²)/(1 + r² R²), as documented."""
    prior, r, t = unit_prior(3, VESchedule()), torch.tensor([0.3, 1.0, 5.0], dtype=F64), 2.0
    likelihood = LinearLikelihood(r.diag(), r)
    x_t = points(3)
    x_0 = prior(x_t, t)
    v, r2 = t**2 / (1 + t**2), t**2 / (1 + (t / sigma_data) ** 2)
    right = v * r / (1 + v * r**2) * (r - r * x_0)
    found = PiGDM(prior, likelihood, sigma_data, SOLVED)(x_t, t) - x_0
    torch.testing.assert_close(found, right * (1 + v * r**2) / (1 + r2 * r**2), rtol=1e-7, atol=1e-9)


def test_dps_is_its_limit():
    """r → 0 leaves DPS, with the true sigma."""
    problem = gaussian_problem()
    found = PiGDM(problem.denoiser, problem.likelihood, sigma_data=1e-8, inner=SOLVED)(points(64), 1.0)
    torch.testing.assert_close(found, DPS(problem.denoiser, problem.likelihood)(points(64), 1.0), rtol=1e-6, atol=1e-6)


def test_linearises_inside_the_bounds():
    """A prediction far outside is judged by the linearisation at the nearest point inside: the same for linear data."""
    problem = gaussian_problem((4, 4), points=3, averages=3)
    method = PiGDM(problem.denoiser, problem.likelihood, inner=SOLVED)
    far = 1e3 * points(16)
    x_0 = problem.denoiser(far, 1.0)
    assert float(x_0.abs().max()) > float(problem.denoiser.bounds[1])
    h, t = problem.likelihood.operator, 1.0
    multiplier = torch.linalg.solve(torch.eye(6, dtype=F64) + 0.5 * h @ h.T, (problem.likelihood.y - x_0 @ h.T).T).T
    alpha_t, sigma_t = problem.denoiser.schedule(t)
    slope = problem.denoiser(torch.eye(16, dtype=F64), t)  # symmetric
    expected = x_0 + sigma_t**2 / alpha_t * multiplier @ h @ slope
    torch.testing.assert_close(method(far, t), expected, rtol=1e-6, atol=1e-6)


def test_a_sample_does_not_depend_on_its_batch():
    """Row 5 at its own time, alone and among 8; and whatever the caller says of gradients."""
    problem = gaussian_problem()
    method, x_t, t = PiGDM(problem.denoiser, problem.likelihood), points(64, 8), torch.logspace(-1, 1, 8, dtype=F64)
    batch = method(x_t, t)
    torch.testing.assert_close(method(x_t[5:6], float(t[5]))[0], batch[5], rtol=1e-9, atol=1e-9)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(method(x_t.clone(), t.clone()), batch)
    assert not batch.requires_grad
