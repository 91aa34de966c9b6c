"""The derivative of the solution map and its transpose, with and without values on the walls."""

import pytest
import torch

from pdediff.solvers.boundary import Boundary, Flux, Value
from pdediff.solvers.darcy import Darcy, Well
from pdediff.solvers.grid import Grid

GRID = Grid((7, 9), x=(0.0, 2.0))
WALLS = {
    "values": Boundary(left=Value("y"), top=Value(1.0)),
    "mixed": Boundary(left=Value("y"), right=Flux(0.3), bottom=Flux("x"), top=Value(1.0)),
    "one value": Boundary(left=Flux(1.0), right=Flux(-0.5), bottom=Flux(0.2), top=Value("x")),
    "fluxes": Boundary(left=Flux(1.0), right=Flux(-1.5), bottom=Flux(0.0), top=Flux(0.25)),
}


def problem(walls, anisotropic, backend):
    """The solver, a coefficient and a direction, in float64 to 1e-13."""
    wells = [] if walls == "fluxes" else [Well(0.5, 0.5, 2.0)]
    darcy = Darcy(GRID, WALLS[walls], wells=wells, anisotropic=anisotropic, backend=backend, rtol=1e-13)
    shape = (2, 2, *GRID.shape) if anisotropic else (2, *GRID.shape)
    a, da = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return darcy, a.exp(), da


every_problem = pytest.mark.parametrize(
    ("walls", "anisotropic", "backend"),
    [(walls, anisotropic, "cg") for walls in WALLS for anisotropic in (False, True)] + [("mixed", False, "lu")],
)


@every_problem
def test_tangent_is_the_derivative(walls, anisotropic, backend):
    """Central differences of u and of u with its walls along da agree with the tangents to their h²."""
    darcy, a, da = problem(walls, anisotropic, backend)
    linearisation = darcy.linearise(a)
    torch.testing.assert_close(linearisation.u, darcy.solve(a))
    h = 1e-5
    for product, function in (
        (linearisation.tangent, darcy.solve),
        (linearisation.tangent_walls, lambda a: darcy.with_walls(a, darcy.solve(a))),
    ):
        difference = (function(a + h * da) - function(a - h * da)) / (2 * h)
        assert float((product(da) - difference).norm() / difference.norm()) < 1e-7


@every_problem
def test_adjoint_is_the_transpose(walls, anisotropic, backend):
    """v · (du/da da) = ((du/da)ᵀ v) · da to rounding, with and without walls."""
    darcy, a, da = problem(walls, anisotropic, backend)
    linearisation = darcy.linearise(a)
    v = torch.randn(2, 9, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inner = v[:, 1:-1, 1:-1]
    for left, right in (
        ((linearisation.tangent(da) * inner).sum(), (linearisation.adjoint(inner) * da).sum()),
        ((linearisation.tangent_walls(da) * v).sum(), (linearisation.adjoint_walls(v) * da).sum()),
    ):
        assert float(left) == pytest.approx(float(right), rel=1e-9, abs=1e-10)


@every_problem
def test_adjoint_is_autograds_gradient(walls, anisotropic, backend):
    """The hot path and reverse-mode differentiation of with_walls(a, solve(a)) give the same gradient."""
    darcy, a, _ = problem(walls, anisotropic, backend)
    v = torch.randn(2, 9, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a.requires_grad_()
    (expected,) = torch.autograd.grad((darcy.with_walls(a, darcy.solve(a)) * v).sum(), a)
    torch.testing.assert_close(darcy.linearise(a).adjoint_walls(v), expected, rtol=1e-8, atol=1e-9)


def test_each_product_is_one_solve_and_records_no_graph():
    """Costs are counted by sample; nothing requires a gradient; tolerances and starts are the caller's."""
    darcy, a, da = problem("mixed", False, "cg")
    a.requires_grad_()
    linearisation = darcy.linearise(a)
    assert darcy.solves == 2
    du = linearisation.tangent(da)
    assert darcy.solves == 4
    a_bar = linearisation.adjoint(du)
    assert darcy.solves == 6
    linearisation.gradient(du)
    assert darcy.solves == 6
    assert not any(product.requires_grad for product in (linearisation.u, du, a_bar))
    assert linearisation.u_walls.shape == (2, 9, 11)
    before = darcy.iterations
    linearisation.tangent(da, rtol=1e-3)
    loose = darcy.iterations - before
    linearisation.tangent(da)
    tight = darcy.iterations - before - loose
    assert loose < tight
    before = darcy.iterations
    linearisation.tangent(da, start=du, rtol=1e-10)
    assert darcy.iterations == before


def test_a_given_solution_is_not_solved_again():
    """linearise(a, u) takes u as it is; its products are those of linearise(a)."""
    darcy, a, da = problem("mixed", False, "cg")
    u = darcy.solve(a)
    darcy.solves = 0
    linearisation = darcy.linearise(a, u)
    assert darcy.solves == 0
    torch.testing.assert_close(linearisation.tangent(da), darcy.linearise(a).tangent(da))


def test_single_precision_at_extreme_contrast_keeps_its_type():
    """Above contrast 1e6 the work is done in float64, but a caller in float32 sees float32 and leading axes."""
    darcy = Darcy(GRID, WALLS["mixed"])
    a = torch.ones(3, 1, *GRID.shape)
    a[..., :4] = 1e7
    linearisation = darcy.linearise(a)
    for product in (linearisation.u, linearisation.tangent(a), linearisation.adjoint(a)):
        assert product.dtype == torch.float32
        assert product.shape == a.shape
    assert linearisation.adjoint_walls(torch.ones(3, 1, 9, 11)).dtype == torch.float32
