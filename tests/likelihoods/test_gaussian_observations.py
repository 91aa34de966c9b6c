"""Gaussian observations of a and u through an exact solver with mixed walls: values, derivatives, single samples."""

import math

import numpy as np
import pytest
import torch

from pdediff.likelihoods.gaussian import GaussianObservations
from pdediff.likelihoods.operators import PointSensors
from pdediff.likelihoods.physics import Group
from pdediff.likelihoods.solver import SolverPhysics
from pdediff.parametrisations import TwoPhase
from pdediff.solvers.boundary import Boundary, Flux, Value
from pdediff.solvers.darcy import Darcy, Well
from pdediff.solvers.grid import Grid
from pdediff.spaces import FunctionSpace

GRID = Grid((6, 8), x=(0.0, 2.0))
MIXED = Boundary(left=Value("y"), right=Flux(0.3), bottom=Flux("x"), top=Value(1.0))
D = 48


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def group(field, count, sigma, seed):
    """Sensors all over the domain, on the flux walls and in a corner too; sigma differs from datum to datum."""
    points = np.random.default_rng(seed).random((count, 2)) * [2.0, 1.0]
    points[0], points[1], points[2] = (2.0, 0.4), (0.9, 0.0), (2.0, 0.0)
    spread = sigma * torch.linspace(0.5, 2, count, dtype=torch.float64)
    return Group(field, PointSensors(GRID, points), normal(count, seed=seed), spread)


GROUPS = {
    "u": [group("u", 9, 0.05, 1)],
    "a": [group("a", 5, 0.3, 2)],
    "a and u": [group("a", 5, 0.3, 2), group("u", 9, 0.05, 1)],
    "u twice": [group("u", 4, 0.05, 3), group("a", 5, 0.3, 2), group("u", 9, 0.1, 1)],
}
every_group = pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)


def likelihood(groups):
    darcy = Darcy(GRID, MIXED, source="1 + x", wells=[Well(0.7, 0.4, 0.5)], rtol=1e-13)
    return GaussianObservations(SolverPhysics(FunctionSpace(("a",), GRID.shape), TwoPhase(3.0, 12.0), darcy), groups)


@every_group
def test_log_prob_is_the_gaussian_exponent(groups):
    """log p − Σ ln(1/(σ√2π)) of independent normals with means `predict(x_0)`, in the order of the groups."""
    model, x_0 = likelihood(groups), normal(3, D)
    value, sigma = (torch.cat([getattr(g, name) for g in groups]) for name in ("value", "sigma"))
    law = torch.distributions.Normal(model.predict(x_0), sigma)
    constant = float((sigma * math.sqrt(2 * math.pi)).log().sum())
    torch.testing.assert_close(model.log_prob(x_0), law.log_prob(value).sum(-1) + constant, rtol=1e-10, atol=1e-10)
    assert model.size == len(value)
    torch.testing.assert_close(model.predict(x_0), model.read(model.physics.observables(x_0)))


@every_group
def test_residual_is_the_standardised_misfit(groups):
    """r = (predict(x_0) − y)/sigma, and log p = −‖r‖²/2."""
    model, x_0 = likelihood(groups), normal(3, D)
    value, sigma = (torch.cat([getattr(g, name) for g in groups]) for name in ("value", "sigma"))
    residual = model.linearise(x_0, 1e-13).residual
    torch.testing.assert_close(residual, (model.predict(x_0) - value) / sigma, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(-residual.square().sum(-1) / 2, model.log_prob(x_0), rtol=1e-8, atol=1e-8)


@every_group
def test_tangent_is_the_derivative(groups):
    """Central differences of the misfit agree with J dx to their h² (1e-7, relative)."""
    model, x_0, dx, h = likelihood(groups), normal(2, D), normal(2, D, seed=1), 1e-5
    sigma = torch.cat([g.sigma for g in groups])
    difference = (model.predict(x_0 + h * dx) - model.predict(x_0 - h * dx)) / (2 * h * sigma)
    tangent = model.linearise(x_0, 1e-13).tangent(dx)
    assert float((tangent - difference).norm() / difference.norm()) < 1e-7


@every_group
def test_adjoint_is_the_transpose(groups):
    """⟨J dx, d⟩ = ⟨dx, Jᵀ d⟩ for each sample."""
    model, dx = likelihood(groups), normal(2, D, seed=1)
    linear, d = model.linearise(normal(2, D), 1e-13), normal(2, model.size, seed=2)
    left = (linear.tangent(dx) * d).sum(-1)
    torch.testing.assert_close((linear.adjoint(d) * dx).sum(-1), left, rtol=1e-9, atol=1e-8)


@every_group
def test_gradient_of_log_prob(groups):
    """Autograd through parametrisation, solver and sensors gives ∇ log p = −Jᵀ r."""
    model, x_0 = likelihood(groups), normal(2, D).requires_grad_()
    gradient = torch.autograd.grad(model.log_prob(x_0).sum(), x_0)[0]
    linear = model.linearise(x_0.detach(), 1e-13)
    expected = -linear.adjoint(linear.residual)
    assert float((gradient - expected).norm() / expected.norm()) < 1e-9


def test_samples_do_not_mix():
    """Another row in the batch, however wild, changes neither log p nor the gradient of a row (to solver tolerance)."""
    model = likelihood(GROUPS["a and u"])
    x_0 = normal(3, D)
    x_0[1] *= 3
    batch = model.linearise(x_0, 1e-13)
    gradients = batch.adjoint(batch.residual)
    for i in range(3):
        alone = model.linearise(x_0[i : i + 1], 1e-13)
        torch.testing.assert_close(alone.residual[0], batch.residual[i], rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(alone.adjoint(alone.residual)[0], gradients[i], rtol=1e-7, atol=1e-6)
        torch.testing.assert_close(model.log_prob(x_0[i : i + 1])[0], model.log_prob(x_0)[i], rtol=1e-9, atol=1e-9)


def test_single_precision():
    """Data are kept in float64 and used in the precision of x_0; float32 misfits agree to 1e-3 standard deviations."""
    model, x_0 = likelihood(GROUPS["a and u"]), normal(2, D)
    single = model.linearise(x_0.float(), 1e-6)
    assert single.residual.dtype == single.adjoint(single.residual).dtype == torch.float32
    torch.testing.assert_close(single.residual.double(), model.linearise(x_0, 1e-13).residual, rtol=1e-4, atol=1e-3)
