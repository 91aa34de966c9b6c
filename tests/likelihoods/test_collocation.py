"""The strong residual as data: derivative, transpose, likelihood; and that it says what u says of a.

Smooth fields on 12 × 10 cells, a log-normal, both on tori of their own, in double precision.
"""

import numpy as np
import pytest
import torch

from pdediff.likelihoods.collocation import CollocationPhysics
from pdediff.likelihoods.gaussian import GaussianObservations
from pdediff.likelihoods.operators import PointSensors
from pdediff.likelihoods.physics import Group
from pdediff.likelihoods.scatter import scatter
from pdediff.likelihoods.strong_residual import StrongResidual
from pdediff.parametrisations import LogNormal, Shifted
from pdediff.solvers.boundary import Boundary, Flux, Value
from pdediff.solvers.darcy import Darcy
from pdediff.solvers.grid import Grid
from pdediff.spaces import FunctionSpace, ProductSpace

GRID = Grid((12, 10))
TORUS_A, TORUS_U = (16, 15), (14, 12)
SIGMA, Q = 0.3, 17


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def physics():
    darcy = Darcy(GRID, Boundary(left=Value(1.0), right=Value("y"), bottom=Flux(0.0), top=Flux(0.2)), "1 + x")
    residual = StrongResidual(GRID, "1 + x", scatter(GRID, Q, seed=3))
    space = ProductSpace((FunctionSpace(("a",), TORUS_A), FunctionSpace(("u",), TORUS_U)))
    mean = torch.linspace(1, 0, GRID.nx, dtype=torch.float64).expand(*GRID.shape)
    return CollocationPhysics(
        space, LogNormal(0.1, GRID.shape, TORUS_A), darcy, Shifted(mean, TORUS_U), residual, SIGMA
    )


def smooth(physics, batch=2, seed=0):
    """Some x_0: noise with most of its short waves taken out."""
    parts = []
    for name in physics.space.fields:
        ny, nx = physics.space.shape_of(name)
        waves = torch.fft.rfft2(normal(batch, ny, nx, seed=seed))
        decay = 1 / (1 + torch.fft.fftfreq(ny)[:, None].abs() * ny + torch.fft.rfftfreq(nx) * nx) ** 3
        parts.append(torch.fft.irfft2(waves * decay.double(), s=(ny, nx)).flatten(1))
    return torch.cat(parts, dim=1)


def test_tangent_is_the_derivative(physics):
    """Central differences of a, u and the residual agree with the tangent to their h² (1e-6, relative)."""
    x_0, dx, h = smooth(physics), smooth(physics, seed=1), 1e-4
    tangent = physics.linearise(x_0, 1e-3).tangent(dx)
    after, before = physics.observables(x_0 + h * dx), physics.observables(x_0 - h * dx)
    assert tangent.keys() == after.keys() == {"a", "u", "residual"}
    for name, change in tangent.items():
        difference = (after[name] - before[name]) / (2 * h)
        assert float((change - difference).norm() / difference.norm()) < 1e-6


def test_adjoint_is_the_transpose(physics):
    """⟨J dx, v⟩ = ⟨dx, Jᵀ v⟩ for each sample, with gradients of any of the fields or of all."""
    x_0, dx = smooth(physics), smooth(physics, seed=1)
    linear = physics.linearise(x_0, 1e-3)
    shapes = {"a": (14, 12), "u": (14, 12), "residual": (Q,)}
    for names in (("residual",), ("u",), ("a", "u", "residual")):
        v = {name: normal(2, *shapes[name], seed=5) for name in names}
        tangent = linear.tangent(dx)
        left = sum((tangent[name] * v[name]).flatten(1).sum(dim=1) for name in names)
        torch.testing.assert_close((linear.adjoint(v) * dx).sum(dim=1), left, rtol=1e-10, atol=1e-10)


def test_the_equation_is_a_datum_that_nobody_observed(physics):
    """log p is that of the sensors and −½ Σ (r/sigma)² at the points; predictions are of the sensors alone."""
    points = np.array([[0.3, 0.4], [0.8, 0.1]])
    value, sigma = normal(2, seed=7), torch.tensor([0.1, 0.2], dtype=torch.float64)
    likelihood = GaussianObservations(physics, [Group("u", PointSensors(GRID, points), value, sigma)])
    x_0 = smooth(physics)
    fields = physics.observables(x_0)
    predicted = PointSensors(GRID, points)(fields["u"])
    torch.testing.assert_close(likelihood.predict(x_0), predicted)
    squares = ((predicted - value) / sigma).square().sum(dim=1) + (fields["residual"] / SIGMA).square().sum(dim=1)
    torch.testing.assert_close(likelihood.log_prob(x_0), -0.5 * squares)
    assert likelihood.size == 2 + Q
    assert likelihood.linearise(x_0, 1e-3).residual.shape == (2, 2 + Q)
