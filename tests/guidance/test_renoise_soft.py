"""The flagship with soft physics, or none, against the exact posterior of a linear-Gaussian problem.

With a coefficient that is all but known (log a has a standard deviation of 1e-4) all is linear and Gaussian in u:

    residual        u = A⁻¹ (b + r), r ~ N(0, sigma_r² I), and heads;
    collocation     u ~ N(m, C), R(u) = 0 to within sigma_r at points, and heads;
    none            u ~ N(m, C), and heads.

Dense algebra gives the posterior of six heads measured anew elsewhere, with a tenth of the noise (without any, some of
their combinations are known better than a is). 400 samples, whitened with it, are standard normal, so that N |mean|² is
χ² with 6 degrees of freedom (mean 6, deviation 3.5) and the mean square is 1 to √(2/(6 N)) = 0.029. Both are held to 4
deviations.
"""

import numpy as np
import pytest
import torch

from pdediff.datasets.embedding import embed
from pdediff.datasets.variograms import Variogram
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.denoisers.product import ProductDenoiser
from pdediff.guidance.proximal import InnerSolve
from pdediff.guidance.renoise import Annealing, renoise
from pdediff.likelihoods.collocation import CollocationPhysics
from pdediff.likelihoods.gaussian import GaussianObservations
from pdediff.likelihoods.operators import PointSensors
from pdediff.likelihoods.physics import Group
from pdediff.likelihoods.prior_only import PriorOnly
from pdediff.likelihoods.residual import ResidualPhysics
from pdediff.likelihoods.scatter import scatter
from pdediff.likelihoods.strong_residual import StrongResidual
from pdediff.noise import Generators
from pdediff.parametrisations import LogNormal, Shifted
from pdediff.solvers.darcy import Darcy
from pdediff.solvers.grid import Grid
from pdediff.spaces import FunctionSpace

GRID, N = Grid((10, 10)), 400
DARCY = Darcy(GRID, source=4.0, rtol=1e-6)
SENSORS = np.random.default_rng(0).random((8, 2))
OTHERS = np.random.default_rng(1).random((6, 2))
SIGMA, SIGMA_R = 0.01, 2.0
EXACT = InnerSolve(iterations=200, reduction=1e-6, solve_tolerance=1e-6)


def gaussian(name, variance):
    torus = embed(Variogram("squared-exponential", variance, range=0.4), GRID).torus
    return GaussianDenoiser(torus, FunctionSpace((name,), torus.shape)), torus


DENOISER_A, TORUS_A = gaussian("a", 1e-8)
DENOISER_U, TORUS_U = gaussian("u", 0.04)
PRIOR = ProductDenoiser((DENOISER_A, DENOISER_U))
MEAN = torch.full(GRID.shape, 0.15, dtype=torch.float64)


def build(kind):
    fixed = PRIOR.space, LogNormal(0.0, GRID.shape, TORUS_A.shape), DARCY, Shifted(MEAN, TORUS_U.shape)
    if kind == "residual":
        return ResidualPhysics(*fixed, SIGMA_R)
    if kind == "collocation":
        return CollocationPhysics(*fixed, StrongResidual(GRID, 4.0, scatter(GRID, 12, 0)), SIGMA_R)
    return PriorOnly(*fixed)


def dense(function, size):
    """The matrix of a linear function of (B, size)."""
    eye, zero = torch.eye(size, dtype=torch.float64), torch.zeros(1, size, dtype=torch.float64)
    return (function(eye) - function(zero)).T


def heads(points):
    """u on the cells, flat, to its values at points."""
    ones = torch.ones(GRID.shape, dtype=torch.float64)
    sensors = PointSensors(GRID, points)
    return lambda u: sensors(DARCY.with_walls(ones.expand(len(u), *GRID.shape), u.unflatten(1, GRID.shape)))


def exact(kind, y):
    """Mean and covariance of the heads at the other places, by dense algebra."""
    cells = GRID.ny * GRID.nx
    ones = torch.ones(GRID.shape, dtype=torch.float64)
    if kind == "residual":
        mean = DARCY.solve(ones, rtol=1e-12).flatten()
        root = dense(lambda r: DARCY.solve(ones.expand(cells if len(r) > 1 else 1, *GRID.shape), rtol=1e-12,
                                           forcing=r.unflatten(1, GRID.shape)).flatten(1), cells)  # fmt: skip
        covariance = SIGMA_R**2 * root @ root.T
    else:
        torus = TORUS_U.shape
        full = TORUS_U.apply(torch.eye(torus[0] * torus[1], dtype=torch.float64).unflatten(1, torus))
        covariance = full[:, : GRID.ny, : GRID.nx].flatten(1).unflatten(0, torus)[: GRID.ny, : GRID.nx].flatten(0, 1)
        mean = MEAN.flatten()
    h, at = dense(heads(SENSORS), cells), dense(heads(OTHERS), cells)
    rows, data = [h / SIGMA], [y / SIGMA]
    offset = [h @ mean / SIGMA]
    if kind == "collocation":
        residual = StrongResidual(GRID, 4.0, scatter(GRID, 12, 0))

        def of_u(u):
            fields = ones.expand(len(u), *GRID.shape)
            return residual(fields, DARCY.with_walls(fields, u.unflatten(1, GRID.shape)))

        rows.append(dense(of_u, cells) / SIGMA_R)
        data.append(torch.zeros(12, dtype=torch.float64))
        offset.append(of_u(mean[None])[0] / SIGMA_R)
    j = torch.cat(rows)
    gain = covariance @ j.T @ torch.linalg.inv(j @ covariance @ j.T + torch.eye(len(j), dtype=torch.float64))
    posterior = covariance - gain @ j @ covariance
    mu = mean + gain @ (torch.cat(data) - torch.cat(offset))
    return at @ mu, at @ posterior @ at.T + (SIGMA / 10) ** 2 * torch.eye(6, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["residual", "collocation", "none"])
def test_samples_are_of_the_stated_posterior(kind):
    """Mean and width of the heads where none was measured; what `fields` gives is what was sampled."""
    generator = torch.Generator().manual_seed(3)
    truth = DARCY.solve(torch.ones(GRID.shape, dtype=torch.float64)).flatten()
    y = heads(SENSORS)(truth[None])[0] + SIGMA * torch.randn(8, generator=generator, dtype=torch.float64)
    physics = build(kind)
    group = Group("u", PointSensors(GRID, SENSORS), y, torch.full((8,), SIGMA, dtype=torch.float64))
    likelihood = GaussianObservations(physics, [group])
    annealing = Annealing(levels=40, inner=EXACT)
    with torch.no_grad():
        z = renoise(PRIOR, likelihood, Generators(1, range(N)), annealing, unknowns=physics)
        u = physics.fields(z.double(), 1e-9)["u"].flatten(1)
    mu, covariance = exact(kind, y)
    anew = heads(OTHERS)(u) + SIGMA / 10 * torch.randn(N, 6, generator=generator, dtype=torch.float64)
    found = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (anew - mu).T, upper=False)  # (6, N)
    assert abs(float(N * found.mean(dim=1).square().sum()) - 6) < 4 * 12**0.5
    assert abs(float(found.square().mean()) - 1) < 4 * (2 / (6 * N)) ** 0.5
