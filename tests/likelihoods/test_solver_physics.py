"""Exact physics: a and u as functions of x_0, and the derivative of the discrete solution map. Solves to 1e-13."""

import pytest
import torch

from pdediff.likelihoods.physics import gather_walls, replicate_walls
from pdediff.likelihoods.solver import SolverPhysics
from pdediff.parametrisations import LogNormal, TwoPhase
from pdediff.solvers.boundary import Boundary, Flux, Value
from pdediff.solvers.darcy import Darcy, Well
from pdediff.solvers.grid import Grid
from pdediff.spaces import FunctionSpace

GRID = Grid((6, 8), x=(0.0, 2.0))
MIXED = Boundary(left=Value("y"), right=Flux(0.3), bottom=Flux("x"), top=Value(1.0))
PRIORS = {
    "two-phase": (TwoPhase(3.0, 12.0), GRID.shape),
    "log-normal on a torus": (LogNormal(0.5, GRID.shape, (12, 18)), (12, 18)),
}
every_prior = pytest.mark.parametrize("prior", PRIORS)


def physics(prior, rtol=1e-13):
    """The physics, and the dimension of its x_0."""
    parametrisation, shape = PRIORS[prior]
    darcy = Darcy(GRID, MIXED, source="1 + x", wells=[Well(0.7, 0.4, 0.5)], rtol=rtol)
    space = FunctionSpace(("a",), shape)
    return SolverPhysics(space, parametrisation, darcy), space.dimension


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@every_prior
def test_fields_solve_the_equation(prior):
    """a is the parametrisation of x_0, u its solution; framed, a repeats its outer cells and u has its wall values."""
    model, d = physics(prior)
    x_0 = normal(3, d)
    fields = model.fields(x_0)
    assert torch.equal(fields["a"], model.coefficient(x_0))
    assert float(model.darcy.relative_residual(fields["a"], fields["u"]).max()) < 1e-12
    framed = model.observables(x_0)
    for name in ("a", "u"):
        assert framed[name].shape == (3, 8, 10)
        torch.testing.assert_close(framed[name][:, 1:-1, 1:-1], fields[name])
    torch.testing.assert_close(framed["a"][:, 0, 1:-1], fields["a"][:, 0])
    torch.testing.assert_close(framed["u"][:, -1, 1:-1], torch.ones(3, 8, dtype=torch.float64))  # the value on top
    torch.testing.assert_close(framed["u"], model.darcy.with_walls(fields["a"], fields["u"]))


@every_prior
def test_linearisation_is_at_the_solution(prior):
    """The fields of the linearisation are those of x_0; an earlier one nearby only saves iterations."""
    model, d = physics(prior)
    x_0 = normal(2, d)
    near = model.linearise(x_0 + 1e-4 * normal(2, d, seed=1), 1e-13)
    expected, iterations = model.observables(x_0), []
    for start in (None, near):
        before = model.darcy.iterations
        linear = model.linearise(x_0, 1e-13, start)
        iterations.append(model.darcy.iterations - before)
        for name, field in linear.fields.items():
            torch.testing.assert_close(field, expected[name], rtol=1e-10, atol=1e-10)
    assert iterations[1] < iterations[0]


@every_prior
def test_tangent_is_the_derivative(prior):
    """Central differences of a and of u, walls included, agree with the tangent to their h² (1e-7, relative)."""
    model, d = physics(prior)
    x_0, dx, h = normal(2, d), normal(2, d, seed=1), 1e-5
    tangent = model.linearise(x_0, 1e-13).tangent(dx)
    after, before = model.observables(x_0 + h * dx), model.observables(x_0 - h * dx)
    for name in ("a", "u"):
        difference = (after[name] - before[name]) / (2 * h)
        assert float((tangent[name] - difference).norm() / difference.norm()) < 1e-7


@every_prior
@pytest.mark.parametrize("names", [("a",), ("u",), ("a", "u")])
def test_adjoint_is_the_transpose(prior, names):
    """⟨J dx, v⟩ = ⟨dx, Jᵀ v⟩ for each sample, with data on a, on u, and on both; and autograd's gradient is Jᵀ v."""
    model, d = physics(prior)
    x_0, dx = normal(2, d).requires_grad_(), normal(2, d, seed=1)
    v = {name: normal(2, 8, 10, seed=2 + i) for i, name in enumerate(names)}
    linear = model.linearise(x_0.detach(), 1e-13)
    back, tangent = linear.adjoint(v), linear.tangent(dx)
    left = sum((tangent[name] * v[name]).sum((-2, -1)) for name in names)
    torch.testing.assert_close((back * dx).sum(-1), left, rtol=1e-9, atol=1e-9)
    fields = model.observables(x_0)
    gradient = torch.autograd.grad(sum((fields[name] * v[name]).sum() for name in names), x_0)[0]
    torch.testing.assert_close(back, gradient, rtol=1e-8, atol=1e-9)


@every_prior
def test_rows_are_samples(prior):
    """A direction in one sample changes no other; a row alone has the fields and products that it has in the batch."""
    model, d = physics(prior)
    x_0, dx = normal(3, d), torch.zeros(3, d, dtype=torch.float64)
    dx[1] = normal(d, seed=1)
    linear = model.linearise(x_0, 1e-13)
    tangent = linear.tangent(dx)
    assert not tangent["u"][[0, 2]].any()
    alone = model.linearise(x_0[1:2], 1e-13)
    torch.testing.assert_close(alone.fields["u"][0], linear.fields["u"][1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(alone.tangent(dx[1:2])["u"][0], tangent["u"][1], rtol=1e-9, atol=1e-9)


def test_tolerance_of_the_products():
    """Products at tolerance 1e-3 differ from exact ones, by no more than a few times that; the fields stay exact."""
    model, d = physics("two-phase")
    x_0, dx = normal(2, d), normal(2, d, seed=1)
    loose, tight = model.linearise(x_0, 1e-3), model.linearise(x_0, 1e-13)
    torch.testing.assert_close(loose.fields["u"], tight.fields["u"], rtol=1e-10, atol=1e-10)
    difference = loose.tangent(dx)["u"] - tight.tangent(dx)["u"]
    assert 1e-12 < float(difference.norm() / tight.tangent(dx)["u"].norm()) < 1e-2


def test_single_precision():
    """x_0 in float32 gives fields and gradients in float32, within 1e-4 of those in float64."""
    model, d = physics("two-phase", rtol=None)
    x_0, dx, v = normal(2, d), normal(2, d, seed=1), {"u": normal(2, 8, 10, seed=2)}
    single, double = model.linearise(x_0.float(), 1e-6), model.linearise(x_0, 1e-10)
    for found, expected in [
        (single.fields["u"], double.fields["u"]),
        (single.tangent(dx.float())["u"], double.tangent(dx)["u"]),
        (single.adjoint({"u": v["u"].float()}), double.adjoint(v)),
    ]:
        assert found.dtype == torch.float32
        assert float((found.double() - expected).norm() / expected.norm()) < 1e-4


def test_gather_is_the_transpose_of_replicate():
    """⟨replicate(v), w⟩ = ⟨v, gather(w)⟩, corners included (each corner cell is seen in four places)."""
    v, w = normal(2, 3, 4), normal(2, 5, 6, seed=1)
    left = (replicate_walls(v) * w).sum((-2, -1))
    torch.testing.assert_close(left, (v * gather_walls(w)).sum((-2, -1)), rtol=1e-13, atol=1e-13)
    assert torch.equal(gather_walls(torch.ones(1, 5, 6))[0, 0, 0], torch.tensor(4.0))
