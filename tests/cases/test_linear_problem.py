"""From a case file to its closed-form posterior: problems without an equation, through all that a run goes through."""

import numpy as np
import pytest
import torch

from pdediff.cases.load import load_case
from pdediff.cases.method import build_method
from pdediff.cases.problem import build_problem
from pdediff.datasets.embedding import embed
from pdediff.likelihoods.poisson import PoissonObservations
from pdediff.noise import Generators

CASE = """
pde: none
grid: {shape: [12, 16], domain: {x: [0, 1.6], y: [0, 1.2], unit: km}}
prior: {law: gaussian, mean: 2, variogram: {kind: matern, smoothness: 1.5, range: 0.4, variance: 1}}
observations:
  truth: {seed: 4}
  sensors:
    - {name: wells, field: a, count: 8, placement: uniform, seed: 1, noise: {sigma: 0.1}}
    - {name: survey, field: a, gain: 2.5, operator: [{kind: blur, width: 0.1}, {kind: average, factor: 4}]}
    - {name: rays, field: a, operator: {kind: tomography, angles: 3, rays: 4}, noise: {sigma: 0.05}}
  noise: {sigma: 0.2, seed: 2}
guidance: {method: proximal}
"""


@pytest.fixture
def case(tmp_path):
    (tmp_path / "case.yaml").write_text(CASE)
    return lambda *overrides: load_case(tmp_path / "case.yaml", overrides)


def dense(problem, variogram):
    """The operator (m, N) on the cells, by its action on unit fields, and the prior's covariance (N, N)."""
    n = problem.grid.ny * problem.grid.nx
    units = torch.eye(n, dtype=torch.float64).reshape(n, *problem.grid.shape)
    operator = problem.observed.read(problem.physics.frame(a=units)).T
    covariance = embed(variogram, problem.grid).covariance(units).reshape(n, n)
    return operator.numpy(), covariance.numpy()


def kriging(problem, variogram, mean):
    """Posterior mean (N,) and covariance (N, N), in textbook form."""
    operator, covariance = dense(problem, variogram)
    value, sigma = (getattr(problem.observations, key)[problem.order] for key in ("value", "sigma"))
    gain = covariance @ operator.T @ np.linalg.inv(operator @ covariance @ operator.T + np.diag(sigma**2))
    return mean + gain @ (value - operator @ np.full(len(covariance), mean)), covariance - gain @ operator @ covariance


def draws(case, problem, n):
    method = build_method(case, problem)
    with torch.no_grad():
        return problem.physics.fields(method(Generators(1, range(n)), lambda level, count: None).double())["a"]


@pytest.mark.methods
@pytest.mark.parametrize(
    ("guidance", "n", "bias"), [("{method: proximal}", 300, 0.0), ("{method: moments, levels: 60}", 60, 0.12)]
)
def test_a_case_draws_the_posterior_of_kriging(case, guidance, n, bias):
    """Mean and covariance of n samples of a, whitened by the exact posterior's, in a space of 192 cells.

    n |mean|² is χ² with N degrees of freedom; the mean square is 1, to √(2/(n N)) = 0.006 for 300 samples. Moment
    matching ends with a mean, at a noise of 0.5 %, in which the shortest waves of the prior, as small as that, are
    lost: a tenth of the whitened variance.
    """
    loaded = case(f"guidance={guidance}")
    problem = build_problem(loaded)
    mu, covariance = kriging(problem, loaded.prior.variogram.build(), 2.0)
    a = draws(loaded, problem, n).flatten(1).numpy()
    epsilon = np.linalg.solve(np.linalg.cholesky(covariance + 1e-10 * np.eye(len(mu))), (a - mu).T)
    size = len(mu)
    deviation = (n * np.square(epsilon.mean(axis=1)).sum() - size) / np.sqrt(2 * size)
    assert abs(deviation) < 4
    assert abs(np.square(epsilon).mean() - 1) < 4 * np.sqrt(2 / (n * size)) + bias


def test_data_are_what_the_instruments_see(case):
    """Each group's noise-free data are its operator's of the true a; a gain multiplies; order is the file's."""
    problem = build_problem(case())
    observations, truth = problem.observations, torch.as_tensor(problem.truth["a"])[None]
    read = problem.observed.read(problem.physics.frame(a=truth))[0].numpy()
    np.testing.assert_allclose(read, observations.truth[problem.order], rtol=1e-12)
    np.testing.assert_allclose(problem.order, np.arange(len(observations)))
    assert observations.group.tolist()[:9] == ["wells"] * 8 + ["survey"]
    assert (observations.group == "survey").sum() == 3 * 4
    survey = observations.truth[observations.group == "survey"]
    assert abs(survey.mean() / 2.5 - problem.truth["a"].mean()) < 0.02  # blur and average keep the mean
    rays = observations.group == "rays"
    level = np.isclose(observations.x[rays], 0.8)  # the middles of horizontal rays
    assert level.any()
    assert np.ptp(observations.x[rays]) > 0.5  # views are 60° apart, not 1°: the others' lie all over the domain
    assert set(observations.sigma) == {0.05, 0.1, 0.2}


def test_poisson_data_are_counts(case):
    """Values are whole numbers of events over `counts`, their sigma is a count's, and the likelihood is Poisson's."""
    loaded = case(
        "prior={law: log-normal, variogram: {range: 0.4, variance: 0.2}}",
        "observations.noise={law: poisson, counts: 50}",
        "observations.sensors={field: a, operator: {kind: blur, width: 0.1}}",
        "guidance={method: dps}",
    )
    problem = build_problem(loaded)
    counts = 50 * problem.observations.value
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-9)
    np.testing.assert_allclose(problem.observations.sigma, np.sqrt(np.maximum(counts, 1)) / 50)
    assert isinstance(problem.likelihood, PoissonObservations)
    misfit = (counts - 50 * problem.observations.truth) / np.sqrt(50 * problem.observations.truth)
    assert abs(np.square(misfit).mean() - 1) < 5 * np.sqrt(2 / len(misfit))


def test_a_start_by_inversion_comes_back(case):
    """Without data, the flow leads from the latent of a field back to it, to the error of DDIM's steps."""
    loaded = case(
        "guidance={method: prior, sampler: ddim, eta: 0, levels: 200, start: {a: 2 + sin(4*x), s: 1, by: inversion}}"
    )
    problem = build_problem(loaded)
    a = draws(loaded, problem, 1)[0].numpy()
    x, _ = problem.grid.mesh()
    sketch = 2 + np.sin(4 * x)
    assert np.sqrt(np.mean((a - sketch) ** 2)) < 0.05 * sketch.std()
