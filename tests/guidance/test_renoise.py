"""The flagship against the exact posterior of a linear-Gaussian problem: 2000 samples, mean and covariance.

The prior is N(m, C) on 8 × 8 cells (eigenvalues 0.02 to 20), the data 6 values at points and 6 averages with random
weights, of noise 5 % of the prior's standard deviation. Samples are whitened with the exact posterior,
ε = P^{−1/2}(z − μ): if the sampler is right they are standard normal in all D = 64 directions, the best and the worst
determined alike, and

    (N |mean ε|² − D)/√(2D)              has mean 0 and standard deviation 1 (χ² with D degrees of freedom),
    (mean ε² − 1)/√(2/(N D))             the same: a posterior too narrow or too wide by 1 % shows,
    N ‖mean ε εᵀ − I‖²/(D (D + 1))       has mean 1 and standard deviation 2/D = 0.03.

Each is held to 4 standard deviations.
"""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from pdediff.datasets.random_fields import CosineField
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.guidance.proximal import InnerSolve
from pdediff.guidance.renoise import ACCURACY, Annealing, renoise
from pdediff.noise import Generators
from pdediff.schedules import VESchedule
from pdediff.spaces import FunctionSpace

SHAPE, D, SIGMA, N = (8, 8), 64, 0.05, 2000
SPACE = FunctionSpace(("x",), SHAPE)
FRESH = float("inf")  # the plain loop
EXACT = InnerSolve(iterations=36, reduction=1e-5)  # three times the number of data: solved


@dataclass
class Linearised:
    """J = A/sigma."""

    residual: Tensor
    operator: Tensor

    def tangent(self, dx):
        return dx @ self.operator.T

    def adjoint(self, data):
        return data @ self.operator


@dataclass
class LinearLikelihood:
    """y = A x + sigma e, in units of sigma."""

    operator: Tensor
    y: Tensor
    calls: list = field(default_factory=list)

    @property
    def size(self):
        return len(self.y)

    def linearise(self, x_0, tolerance, near=None):
        self.calls.append((tolerance, near is None))
        operator = self.operator.to(x_0)
        return Linearised(x_0 @ operator.T - self.y.to(x_0), operator)


def covariance():
    k2 = torch.arange(8.0)[:, None] ** 2 + torch.arange(8.0) ** 2
    return CosineField(SHAPE, 20 / (1 + k2) ** 1.5)


C = covariance()
DENSE = C.apply(torch.eye(D, dtype=torch.float64).reshape(D, *SHAPE)).reshape(D, D)


def problem(mean=0.0):
    """The likelihood of data of one draw, and the exact posterior's mean and Cholesky factor."""
    generator = torch.Generator().manual_seed(0)
    points = torch.eye(D, dtype=torch.float64)[torch.randperm(D, generator=generator)[:6]]
    averages = torch.randn(6, D, generator=generator, dtype=torch.float64) / D**0.5
    operator = torch.cat([points, averages]) / SIGMA
    truth = mean + C.sample(1, generator, torch.float64).flatten()
    y = operator @ truth + torch.randn(12, generator=generator, dtype=torch.float64)
    gain = DENSE @ operator.T @ torch.linalg.inv(operator @ DENSE @ operator.T + torch.eye(12, dtype=torch.float64))
    posterior = DENSE - gain @ operator @ DENSE
    mu = mean + gain @ (y - mean * operator.sum(1))
    return LinearLikelihood(operator, y), mu, torch.linalg.cholesky((posterior + posterior.T) / 2)


def whitened(z, mu, factor):
    """ε = P^{−1/2}(z − μ): (N, D)."""
    return torch.linalg.solve_triangular(factor, (z.double() - mu).T, upper=False).T


def statistics(epsilon):
    """The three numbers of the module's docstring."""
    n = len(epsilon)
    mean = (n * epsilon.mean(0).square().sum() - D) / (2 * D) ** 0.5
    width = (epsilon.square().mean() - 1) / (2 / (n * D)) ** 0.5
    second = epsilon.T @ epsilon / n - torch.eye(D, dtype=torch.float64)
    return float(mean), float(width), float(n * second.square().sum() / (D * (D + 1)))


def assert_exact(epsilon):
    mean, width, covariance = statistics(epsilon)
    assert abs(mean) < 4
    assert abs(width) < 4
    assert abs(covariance - 1) < 4 * 2 / D


@pytest.mark.methods
@pytest.mark.parametrize(
    ("annealing", "prior"),
    [
        (Annealing(levels=10, inner=EXACT, churn=FRESH), {}),
        (Annealing(levels=25, inner=EXACT), {}),
        (Annealing(levels=25, inner=EXACT, churn=1.0), {}),
        (Annealing(levels=25, inner=EXACT, churn=4.0, steps=2), {}),
        (Annealing(levels=10, inner=EXACT), {"mean": 3.0, "schedule": VESchedule()}),
        (ACCURACY["fast"], {}),
    ],
    ids=["fresh noise", "defaults", "kept noise", "churned noise, two steps", "mean and schedule", "accuracy: fast"],
)
def test_exact_metric_gives_the_exact_posterior(annealing, prior):
    """With the denoiser's own covariance every draw of z is exact, and so is every x_s, however the noise is renewed.

    True of any number of levels that forgets the start, any schedule and prior mean, and with the inner accuracy that
    cases use.
    """
    likelihood, mu, factor = problem(prior.get("mean", 0.0))
    z = renoise(GaussianDenoiser(C, SPACE, **prior), likelihood, Generators(1, range(N)), annealing)
    assert z.shape == (N, D)
    assert_exact(whitened(z, mu, factor))


def test_without_data_the_prior_is_drawn():
    """No datum: the loop is a sampler of N(0, C)."""
    nothing = LinearLikelihood(torch.zeros(0, D), torch.zeros(0))
    z = renoise(GaussianDenoiser(C, SPACE), nothing, Generators(1, range(N)), Annealing(levels=10, inner=EXACT))
    assert_exact(whitened(z, torch.zeros(D, dtype=torch.float64), torch.linalg.cholesky(DENSE)))


def test_without_perturbations_the_posterior_is_too_narrow():
    """The mode in place of a draw at each level: the mean is still right, but less than half of the variance is left.

    Measured with 25 levels: 0.44 of the pointwise variance (0.38 of the whitened one), so that intervals of nominally
    90 % cover 72 %.
    """
    likelihood, mu, factor = problem()
    annealing = Annealing(levels=25, rho=7.0, churn=FRESH, inner=EXACT, perturb=False)
    z = renoise(GaussianDenoiser(C, SPACE), likelihood, Generators(1, range(N)), annealing)
    assert statistics(whitened(z, mu, factor))[0] < 4  # right to within the exact posterior's Monte-Carlo error
    assert 0.35 < float(z.double().var(0).sum() / (factor @ factor.T).trace()) < 0.53


def test_white_metric_is_biased():
    """r_t² I in place of the denoiser's covariance, 40 levels: a bias that more levels reduce but do not remove.

    Measured, pointwise: the mean is off by 0.30 posterior standard deviations (root mean square over the cells), the
    variance 21 % too large; with 160 levels 0.21 and 11 %. The bounds are about twice and half of that.
    """
    likelihood, mu, factor = problem()
    denoiser = GaussianDenoiser(C, SPACE, metric="white")
    annealing = Annealing(levels=40, rho=7.0, churn=FRESH, inner=EXACT)
    z = renoise(denoiser, likelihood, Generators(1, range(N)), annealing).double()
    variance = (factor @ factor.T).diagonal()
    bias = float(((z.mean(0) - mu).square() / variance).mean().sqrt())
    inflation = float(z.var(0).sum() / variance.sum())
    assert 0.15 < bias < 0.6
    assert 1.1 < inflation < 1.4


@pytest.mark.slow
def test_exact_metric_at_high_accuracy():
    """12 000 samples with the inner accuracy of cases: the same statistics, which now see a width wrong by 0.7 %."""
    likelihood, mu, factor = problem()
    rows = [
        renoise(GaussianDenoiser(C, SPACE), likelihood, Generators(5, range(start, start + 4000)), ACCURACY["high"])
        for start in range(0, 12_000, 4000)
    ]
    assert_exact(whitened(torch.cat(rows), mu, factor))


@pytest.mark.parametrize("churn", [1.0, FRESH])
def test_a_sample_does_not_depend_on_its_batch(churn):
    """Sample 5 of a run, alone and in a batch of 8, is the same function to rounding in float32; the rest differ."""
    likelihood, _, _ = problem()
    annealing = Annealing(levels=10, inner=InnerSolve(iterations=8), churn=churn)
    denoiser = GaussianDenoiser(C, SPACE)
    batch = renoise(denoiser, likelihood, Generators(3, range(8)), annealing)
    alone = renoise(denoiser, likelihood, Generators(3, [5]), annealing)
    torch.testing.assert_close(alone[0], batch[5], rtol=0, atol=1e-4)
    assert float((batch - alone).abs().max(dim=1).values.sort().values[1]) > 0.1
    assert torch.equal(renoise(denoiser, likelihood, Generators(3, range(8)), annealing), batch)


@pytest.mark.parametrize("settings", [{"refresh": 1}, {"refresh": 100}, {"most_sensitivities": 3}])
def test_preconditioning_changes_the_cost_only(settings):
    """Sensitivities renewed at every level, once, or never: with solved inner problems the same samples."""
    likelihood, _, _ = problem()
    runs = [
        renoise(GaussianDenoiser(C, SPACE), likelihood, Generators(3, range(4)), Annealing(levels=6, inner=EXACT, **s))
        for s in ({}, settings)
    ]
    torch.testing.assert_close(runs[0], runs[1], rtol=0, atol=1e-3)


def test_one_linearisation_a_step():
    """Each Gauss–Newton step linearises once, to the tolerance asked for, near the one before; progress is told."""
    seen = []
    likelihood, _, _ = problem()
    annealing = Annealing(levels=3, steps=2, inner=InnerSolve(solve_tolerance=0.0123))
    renoise(
        GaussianDenoiser(C, SPACE),
        likelihood,
        Generators(3, [0]),
        annealing,
        lambda level, count: seen.append((level, count)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert likelihood.calls == [(0.0123, True)] + 5 * [(0.0123, False)]


def test_accuracy_is_one_knob():
    """Each grade has more levels and does no less inside them than the one before."""
    fast, normal, high = (ACCURACY[name] for name in ("fast", "normal", "high"))
    assert list(ACCURACY) == ["fast", "normal", "high"]
    assert fast.levels < normal.levels < high.levels
    assert fast.inner.iterations <= normal.inner.iterations <= high.inner.iterations
    assert all(annealing.perturb for annealing in ACCURACY.values())
