"""The flagship with exact physics: heads of a log-normal Darcy problem whose prior is known in closed form."""

import math

import numpy as np
import pytest
import torch

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.guidance.renoise import ACCURACY, renoise
from pdediff.likelihoods.gaussian import GaussianObservations
from pdediff.likelihoods.operators import PointSensors
from pdediff.likelihoods.physics import Group
from pdediff.likelihoods.solver import SolverPhysics
from pdediff.noise import Generators
from pdediff.parametrisations import LogNormal
from pdediff.solvers.darcy import Darcy
from pdediff.solvers.grid import Grid
from pdediff.spaces import FunctionSpace

GRID, SENSORS, SAMPLES = Grid((16, 16)), 20, 19
K2 = torch.arange(16.0)[:, None] ** 2 + torch.arange(16.0) ** 2
PRIOR = CosineField(GRID.shape, 60 / (1 + K2) ** 1.5)  # ln a: standard deviation 0.8, contrast about 100
DENOISER = GaussianDenoiser(PRIOR, FunctionSpace(("a",), GRID.shape))
PHYSICS = SolverPhysics(DENOISER.space, LogNormal(0.0, GRID.shape, GRID.shape), Darcy(GRID, source=1.0))


def problem(seed):
    """A truth x from the prior, and the likelihood of its heads at random points, with noise of 1 % of the largest."""
    generator = torch.Generator().manual_seed(seed)
    x = PRIOR.sample(1, generator, torch.float64).flatten(1)
    sensors = PointSensors(GRID, np.random.default_rng(seed).random((SENSORS, 2)))
    heads = sensors(PHYSICS.observables(x)["u"])[0]
    sigma = torch.full_like(heads, 0.01 * float(heads.max()))
    value = heads + sigma * torch.randn(SENSORS, generator=generator, dtype=torch.float64)
    return x, GaussianObservations(PHYSICS, [Group("u", sensors, value, sigma)])


def draw(likelihood, seed, indices, accuracy):
    with torch.inference_mode():
        return renoise(DENOISER, likelihood, Generators(seed, indices), ACCURACY[accuracy])


def test_a_sample_does_not_depend_on_its_batch():
    """Sample 5 alone and in a batch of 8: every iteration, of solver and inner problem, is a sample's own.

    Different blocking of sums may change the last bit, which the loop does not amplify: 1e-3 against samples 1 apart.
    """
    _, likelihood = problem(0)
    batch, alone = draw(likelihood, 3, range(8), "fast"), draw(likelihood, 3, [5], "fast")
    torch.testing.assert_close(alone[0], batch[5], rtol=0, atol=1e-3)
    assert float((batch[4] - batch[5]).abs().max()) > 0.1


def test_an_earlier_run_leaves_no_trace():
    """A run repeated after another problem gives the same samples to the bit: no solution is carried over."""
    first = draw(problem(0)[1], 3, range(2), "fast")
    draw(problem(1)[1], 3, range(2), "fast")
    assert torch.equal(draw(problem(0)[1], 3, range(2), "fast"), first)


def test_samples_fit_the_data_and_solve_the_equation():
    """The mean squared standardised misfit is of order 1; u = S(a) solves the discrete equation to 1e-9."""
    _, likelihood = problem(2)
    z = draw(likelihood, 3, range(SAMPLES), "fast").double()
    assert 0.3 < float(likelihood.linearise(z, 1e-8).residual.square().mean()) < 2.5
    fields = PHYSICS.fields(z)
    assert float(PHYSICS.darcy.relative_residual(fields["a"], fields["u"]).max()) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", ["fast", "normal"])
def test_calibration(accuracy):
    """Over 40 truths from the prior a nonlinear posterior is right on average: truth and samples are exchangeable.

    So the mean squared standardised misfit of a sample has the mean 1 of the truth's (40 × 20 data: standard error at
    most √(2/800) = 0.05, as for the truth itself), and x lies within the range of 19 samples at 18/20 = 90 % of the
    points (standard error from the 40 truths). Each within 4 standard errors. Measured with 24 truths: 0.99 ± 0.03 and
    0.89 ± 0.01 (fast), 1.01 ± 0.02 and 0.89 ± 0.01 (normal).
    """
    misfits, coverages = [], []
    for seed in range(40):
        x, likelihood = problem(100 + seed)
        z = draw(likelihood, seed, range(SAMPLES), accuracy)
        misfits.append(float(likelihood.linearise(z, 1e-4).residual.square().mean()))
        rank = (z < x).sum(0)
        coverages.append(float(((rank > 0) & (rank < SAMPLES)).double().mean()))
    assert np.mean(misfits) == pytest.approx(1, abs=4 * 0.05)
    assert np.mean(coverages) == pytest.approx(0.9, abs=4 * np.std(coverages) / math.sqrt(40))
