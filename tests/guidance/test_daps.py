"""DAPS on a Gaussian prior, where levels and Langevin steps are a recursion for mean and variance of each mode."""

from dataclasses import dataclass

import pytest
import torch
from closed_forms import LinearLikelihood, gaussian_problem
from torch import Tensor
from unit_modes import MEAN, RATIOS, S_MAX, S_MIN, VARIANCE, assert_moments, unit_modes, unit_prior

from pdediff.guidance.daps import DAPS, largest_curvature
from pdediff.noise import Generators
from pdediff.schedules import FunctionalSchedule, VESchedule, levels
from pdediff.solvers.errors import ConvergenceError

F64 = torch.float64


def recursion(r, stiffest, count=50, langevin=100, step=0.5, sigma_data=1.0):
    """Mean and variance of what DAPS draws of a unit prior's mode with y = R x + e and y = R, given the largest R.

    With q = 1 − hc, z − mu = qᴺ (start − mu) + noise of variance 2h (1 − q²ᴺ)/(1 − q²), and mu = (x̂_0/r² + R²)/c.
    """
    s = levels(VESchedule(), S_MAX, S_MIN, count)
    mean, variance = torch.zeros_like(r), s[0] ** 2 + torch.zeros_like(r)
    for level, s_t in enumerate(s):
        shrink, r2 = 1 / (1 + s_t**2), s_t**2 / (1 + s_t**2 / sigma_data**2)
        c = 1 / r2 + r**2
        q = 1 - step * c / (1 / r2 + stiffest**2)
        slope = shrink * ((1 - q**langevin) / (c * r2) + q**langevin)
        drawn = 2 * step / (1 / r2 + stiffest**2) * (1 - q ** (2 * langevin)) / (1 - q**2)
        mean = slope * mean + (1 - q**langevin) * r**2 / c
        variance = slope**2 * variance + q ** (2 * langevin) * r2 + drawn
        if level + 1 < count:
            variance = variance + s[level + 1] ** 2
    return mean, variance


@pytest.mark.methods
@pytest.mark.parametrize(
    ("settings", "schedule"),
    [({"step": 0.2}, VESchedule()), ({"step": 1.0, "langevin": 10, "sigma_data": 2.0}, FunctionalSchedule())],
)
def test_bias_on_gaussian_modes(settings, schedule):
    """1000 draws have the recursion's mean and variance in every mode, to 4 deviations of Monte-Carlo error.

    The power iteration's estimate of the largest R² is 0.5 % off at most, after a level or two.
    """
    mean, variance = recursion(RATIOS, RATIOS[-1], count=25, **settings)
    settings = {("langevin_steps" if name == "langevin" else name): value for name, value in settings.items()}
    z = DAPS(*unit_modes(schedule=schedule), levels=25, **settings)(Generators(1, range(1000)))
    assert_moments(z, mean, variance)


@pytest.mark.methods
def test_documented_bias():
    """The table of the module, relative to the posterior: by default settings, and with ten times as many steps."""
    documented = {
        (100, 0.5): [[0.643, 0.794, 0.966, 1.000, 1.000], [1.061, 1.107, 1.058, 1.061, 1.191]],
        (1000, 0.2): [[0.934, 0.981, 1.000, 1.000, 1.000], [1.008, 1.009, 1.009, 1.023, 1.064]],
    }
    for (langevin, step), rows in documented.items():
        mean, variance = recursion(RATIOS, RATIOS[-1], langevin=langevin, step=step)
        found = torch.stack([mean / MEAN, variance / VARIANCE])
        torch.testing.assert_close(found, torch.tensor(rows, dtype=F64), rtol=0, atol=6e-4)


@pytest.mark.methods
def test_exact_in_the_limit_of_langevin():
    """Data of one precision on a white prior, 200 steps of 0.05: mean and variance are the posterior's but for the
    1/(1 − step/2) of the steps, 2.5 %, to 4 deviations of Monte-Carlo error of 1000 draws."""
    r = torch.full((4,), 2.0, dtype=F64)
    z = DAPS(*unit_modes(r), levels=12, langevin_steps=200, step=0.05)(Generators(1, range(1000)))
    assert_moments(z, torch.full((4,), 0.8, dtype=F64), torch.full((4,), 0.2 / 0.975, dtype=F64))


def test_power_iteration_finds_the_largest_curvature():
    """‖J‖² from below, for each sample's own J, and better with every call that goes on from the last direction."""
    problem = gaussian_problem()
    h = problem.likelihood.operator
    exact = float(torch.linalg.matrix_norm(h, 2)) ** 2
    misfit = problem.likelihood.linearise(torch.zeros(3, 64, dtype=F64), 0)
    direction = torch.randn(3, len(h), generator=torch.Generator().manual_seed(0), dtype=F64)
    estimates = []
    for _ in range(10):
        curvature, direction = largest_curvature(misfit, direction)
        estimates.append(curvature)
    found = torch.stack(estimates)[..., 0] / exact
    assert bool((found <= 1 + 1e-12).all())
    assert bool((found.diff(dim=0) > -1e-12).all())
    assert float(found[0].min()) > 0.5  # so that steps below 1 are stable from the first level on
    assert float(found[-1].min()) > 0.9


def test_stable_without_tuning():
    """Data 1000 times as precise as the prior, and a step just below 2: finite, and the data are met."""
    prior, _ = unit_modes()
    likelihood = LinearLikelihood(1e3 * torch.eye(5, dtype=F64)[:2], torch.full((2,), 1e3, dtype=F64))
    z = DAPS(prior, likelihood, levels=10, step=1.8, langevin_steps=20)(Generators(1, range(50)))
    assert float((z[:, :2] - 1).abs().max()) < 0.02


def test_flow_steps_end_at_the_flow():
    """x̂_0 with many Euler steps is the probability flow's end: x̄/√(1 + s²) for a unit prior (the error falls to 1 %
    at 400 steps), and with one it is the denoiser's, x̄/(1 + s²). At the lowest level there is nowhere to go."""
    prior, likelihood = unit_modes()
    x, t = torch.ones(1, 5, dtype=F64), 3.0
    one, many = (DAPS(prior, likelihood, flow_steps=n)._predict(x, t) for n in (1, 400))
    torch.testing.assert_close(one, x / (1 + t**2))
    torch.testing.assert_close(many, x / (1 + t**2) ** 0.5, rtol=0.01, atol=0)
    last = DAPS(prior, likelihood, flow_steps=3)._predict(x, S_MIN)
    torch.testing.assert_close(last, x, rtol=2e-3, atol=0)
    assert DAPS(prior, likelihood, flow_steps=3).evaluations == 150


@dataclass(frozen=True)
class Cubic:
    """y = x + x³/3 + 0.5 e: a least-squares problem that is not linear."""

    y: Tensor
    size: int = 1
    linear: bool = False

    def linearise(self, zeta, tolerance, near=None):
        return Diagonal((zeta + zeta**3 / 3 - self.y) / 0.5, (1 + zeta**2) / 0.5)


@dataclass(frozen=True)
class Diagonal:
    residual: Tensor
    slope: Tensor

    def tangent(self, dzeta):
        return self.slope * dzeta

    def adjoint(self, data):
        return self.slope * data


@pytest.mark.methods
@pytest.mark.parametrize("y", [-2.0, 0.5])
def test_nonlinear_data(y):
    """y = x + x³/3 + 0.5 e on a unit prior: mean and variance of 1000 draws against the posterior by quadrature.

    N(x̂_0, r²) is right here, and what is left is the bias of the steps (measured: 4 % of the posterior's deviation and
    14 % of its variance): within 10 % and 25 %, and 4 deviations of Monte-Carlo error.
    """
    x = torch.linspace(-6, 6, 4001, dtype=F64)
    weight = torch.softmax(-0.5 * x**2 - 0.5 * ((x + x**3 / 3 - y) / 0.5) ** 2, dim=0)
    mean = (weight * x).sum()
    variance = (weight * (x - mean) ** 2).sum()
    z = DAPS(unit_prior(1), Cubic(torch.tensor([y], dtype=F64)), levels=20)(Generators(1, range(1000))).double()
    assert abs(float((z.mean() - mean) / variance.sqrt())) < 0.1 + 4 / 1000**0.5
    assert abs(float(z.var() / variance - 1)) < 0.25 + 4 * (2 / 1000) ** 0.5


@pytest.mark.parametrize("flow_steps", [1, 3])
def test_a_draw_does_not_depend_on_its_batch(flow_steps):
    """Draw 5 alone and in a batch of 8 is the same to rounding; progress is told."""
    problem, seen = gaussian_problem(), []
    settings = {"levels": 5, "langevin_steps": 10, "flow_steps": flow_steps, "dtype": F64}
    method = DAPS(problem.denoiser, problem.likelihood, **settings)
    batch = method(Generators(3, range(8)), lambda *level: seen.append(level))
    torch.testing.assert_close(method(Generators(3, [5]))[0], batch[5], rtol=1e-9, atol=1e-9)
    assert seen == [(i + 1, 5) for i in range(5)]


def test_refusals():
    """Steps that are not stable, none, and samples that are not finite."""
    prior, likelihood = unit_modes()
    with pytest.raises(ValueError, match="stable for a step between 0 and 2, got 2"):
        DAPS(prior, likelihood, step=2.0)
    with pytest.raises(ValueError, match=r"daps needs steps, got .*langevin_steps=0"):
        DAPS(prior, likelihood, langevin_steps=0)
    with pytest.raises(ConvergenceError, match="1 of 1 samples are not finite"):
        DAPS(prior, LinearLikelihood(likelihood.operator, likelihood.y * torch.nan), levels=2)(Generators(1, [0]))
