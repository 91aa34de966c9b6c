"""DDRM: its three cases by hand, and its bias on a Gaussian prior, where every mode obeys a recursion."""

from itertools import pairwise

import pytest
import torch
from closed_forms import LinearLikelihood, gaussian_problem
from unit_modes import MEAN, RATIOS, S_MAX, S_MIN, VARIANCE, assert_moments, unit_modes, unit_prior

from pdediff.guidance.ddrm import DDRM
from pdediff.guidance.spectral import decompose
from pdediff.noise import Generators
from pdediff.schedules import FunctionalSchedule, VESchedule, levels
from pdediff.solvers.errors import ConvergenceError

F64 = torch.float64


def recursion(r, count=20, eta=0.85, eta_b=1.0):
    """Mean and variance of what DDRM draws of a unit prior's mode with y = R x + e and y = R: ȳ = 1, ν = 1/R.

    x̂_0 = x̄/(1 + s²), so each level maps x̄ to a x̄ + b + c g. R = 0 stands for a mode that is not observed.
    """
    kept = (1 - eta**2) ** 0.5
    s = levels(VESchedule(), S_MAX, S_MIN, count).tolist()
    mean, variance = (1.0, s[0] ** 2 - r**-2) if r > 0 else (0.0, s[0] ** 2)
    for s_t, s_s in pairwise(s):
        shrink = 1 / (1 + s_t**2)
        if r == 0:
            a, b, c = shrink + kept * s_s / s_t * (1 - shrink), 0, eta * s_s
        elif s_s * r < 1:
            a, b, c = shrink * (1 - kept * s_s * r), kept * s_s * r, eta * s_s
        else:
            a, b, c = shrink * (1 - eta_b), eta_b, (s_s**2 - (eta_b / r) ** 2) ** 0.5
        mean, variance = a * mean + b, a**2 * variance + c**2
    shrink = 1 / (1 + s[-1] ** 2)
    return shrink * mean, shrink**2 * variance


def table(ratios, **settings):
    """Means and variances for several R: (2, D)."""
    return torch.tensor([recursion(float(r), **settings) for r in ratios], dtype=F64).T


@pytest.mark.methods
@pytest.mark.parametrize("settings", [{}, {"eta": 1.0}, {"eta": 0.2, "eta_b": 0.5}])
@pytest.mark.parametrize("schedule", [VESchedule(), FunctionalSchedule()])
def test_bias_on_gaussian_modes(settings, schedule):
    """4000 draws have the recursion's mean and variance in every mode, to 4 deviations of Monte-Carlo error.

    R from 0.5 to 20, data noisier than most levels and less noisy than nearly all; and a mode that is not observed.
    """
    prior, data = unit_prior(6, schedule), torch.cat([torch.zeros(1), RATIOS])
    z = DDRM(prior, LinearLikelihood(data.diag()[1:], RATIOS), **settings, dtype=F64)(Generators(1, range(4000)))
    assert_moments(z, *table(data, **settings))


@pytest.mark.methods
def test_documented_bias():
    """The table of the module. More levels do not help: the mean goes on towards the datum, the width towards none."""
    ratios = torch.cat([torch.zeros(1), RATIOS])
    mean = torch.tensor([[0, 0.383, 0.613, 0.830, 0.957, 0.997], [0, 0.849, 0.936, 0.974, 0.991, 0.998]])
    variance = torch.tensor([[0.652, 0.178, 0.110, 0.049, 0.013, 0.0009], [0.760, 0.042, 0.019, 0.008, 0.003, 0.0008]])
    for row, count in enumerate((20, 1000)):
        found = table(ratios, count=count)
        torch.testing.assert_close(found[0], mean[row].double(), rtol=0, atol=6e-4)
        torch.testing.assert_close(found[1], variance[row].double(), rtol=0, atol=6e-4)
    torch.testing.assert_close(MEAN, torch.tensor([0.200, 0.500, 0.800, 0.962, 0.998], dtype=F64), rtol=0, atol=6e-4)
    torch.testing.assert_close(VARIANCE, torch.tensor([0.8, 0.5, 0.2, 0.038, 0.0025], dtype=F64), rtol=0, atol=6e-4)


def test_decomposition():
    """VᵀV = 1, H = U diag(s) Vᵀ and ȳ = Vᵀx for data without noise; data of no content are left out."""
    problem = gaussian_problem(shape=(4, 4), points=3, averages=3)
    h = problem.likelihood.operator
    exact = LinearLikelihood(torch.cat([h, h[:2]]), torch.cat([h, h[:2]]) @ problem.truth)  # two rows twice
    spectrum = decompose(exact, 16)
    assert spectrum.v.shape == (16, 6)
    torch.testing.assert_close(spectrum.v.T @ spectrum.v, torch.eye(6, dtype=F64))
    torch.testing.assert_close(spectrum.data[0], spectrum.v.T @ problem.truth, rtol=1e-9, atol=1e-9)
    gram = exact.operator.T @ exact.operator
    torch.testing.assert_close(spectrum.v @ (spectrum.noise**-2 * spectrum.v).T, gram, rtol=1e-9, atol=1e-9)


def test_data_of_several_samples():
    """A row of data for each sample: sample i is that of its own data."""
    prior, likelihood = unit_modes()
    rows = torch.stack([likelihood.y, -likelihood.y])
    both = DDRM(prior, LinearLikelihood(likelihood.operator, rows), dtype=F64)(Generators(1, range(2)))
    alone = DDRM(prior, LinearLikelihood(likelihood.operator, rows[1]), dtype=F64)(Generators(1, [1]))
    torch.testing.assert_close(both[1], alone[0], rtol=1e-10, atol=1e-10)


def test_a_draw_does_not_depend_on_its_batch():
    """Draw 5 alone and in a batch of 8 is the same to rounding; progress is told; levels are counted."""
    problem, seen = gaussian_problem(), []
    method = DDRM(problem.denoiser, problem.likelihood, levels=6, dtype=F64)
    batch = method(Generators(3, range(8)), lambda *level: seen.append(level))
    torch.testing.assert_close(method(Generators(3, [5]))[0], batch[5], rtol=1e-10, atol=1e-10)
    assert seen == [(i + 1, 6) for i in range(6)]
    assert method.evaluations == 6


def test_refusals():
    """Nonlinear data have no spectrum; η and η_b are shares; a prior that gives no numbers is an error."""
    prior, likelihood = unit_modes()
    with pytest.raises(ValueError, match="ddrm needs a linear problem"):
        DDRM(prior, LinearLikelihood(likelihood.operator, likelihood.y, linear=False))
    with pytest.raises(ValueError, match=r"eta and eta_b must be between 0 and 1, got 1.5 and 1"):
        DDRM(prior, likelihood, eta=1.5)
    with pytest.raises(ConvergenceError, match="1 of 1 samples are not finite"):
        DDRM(prior, LinearLikelihood(likelihood.operator, likelihood.y * torch.nan))(Generators(1, [0]))
