"""The strong residual where −∇·(a∇u) is known: by hand, by finite differences, and where it must fail. Float64.

The smooth problem is ln a = 0.8 sin(2x + 1) cos 3y and u = sin(2x) e^y, with f = −a (∇ln a · ∇u + Δu) by hand.
"""

import numpy as np
import pytest
import torch

from pdediff.likelihoods.scatter import scatter
from pdediff.likelihoods.strong_residual import StrongResidual, darcy_residual
from pdediff.solvers.boundary import Boundary, Flux, Value
from pdediff.solvers.darcy import Darcy
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid


def log_a(x, y):
    return 0.8 * np.sin(2 * x + 1) * np.cos(3 * y)


def u(x, y):
    return np.sin(2 * x) * np.exp(y)


def minus_divergence(x, y):
    """−∇·(a∇u)."""
    slope_x, slope_y = 1.6 * np.cos(2 * x + 1) * np.cos(3 * y), -2.4 * np.sin(2 * x + 1) * np.sin(3 * y)
    u_x, u_y, laplacian = 2 * np.cos(2 * x) * np.exp(y), np.sin(2 * x) * np.exp(y), -3 * np.sin(2 * x) * np.exp(y)
    return -np.exp(log_a(x, y)) * (slope_x * u_x + slope_y * u_y + laplacian)


def cells(grid, function):
    """A function on the cells (1, ny, nx)."""
    x, y = grid.mesh()
    return torch.as_tensor(function(x, y))[None]


def framed(grid, function):
    """A function on cells and walls (1, ny + 2, nx + 2)."""
    x, y = grid.centres()
    x, y = np.concatenate([grid.x[:1], x, grid.x[1:]]), np.concatenate([grid.y[:1], y, grid.y[1:]])
    return torch.as_tensor(function(x, y[:, None]))[None]


def everywhere(grid, count=500, seed=0):
    """Points in the closed domain, corners and walls among them."""
    points = scatter(grid, count, seed, margin=0)
    points[:4] = [(x, y) for x in grid.x for y in grid.y]
    points[4:8, 0] = grid.x[1]
    return points


def order(sizes, errors):
    return -np.polyfit(np.log(sizes), np.log(errors), 1)[0]


def test_polynomials_by_hand():
    """ln a = 1 + x − y²/2 + x³/3 and u = x³ + 2xy² − y³: exact up to the walls, to the rounding of second derivatives.

    ∇ln a = (1 + x², −y), ∇u = (3x² + 2y², 4xy − 3y²), Δu = 10x − 6y. Domain and cells are not square.
    """
    grid = Grid((5, 7), x=(-1.0, 1.0), y=(0.5, 1.0))
    points = everywhere(grid)
    x, y = points.T
    a = np.exp(1 + x - y**2 / 2 + x**3 / 3)
    by_hand = -a * ((1 + x**2) * (3 * x**2 + 2 * y**2) - y * (4 * x * y - 3 * y**2) + 10 * x - 6 * y) - (x - y)
    found = StrongResidual(grid, "x - y", points)(
        cells(grid, lambda x, y: np.exp(1 + x - y**2 / 2 + x**3 / 3)),
        framed(grid, lambda x, y: x**3 + 2 * x * y**2 - y**3),
    )
    torch.testing.assert_close(found[0], torch.as_tensor(by_hand), rtol=1e-9, atol=1e-9)


def test_any_functions_of_position():
    """`darcy_residual` differentiates what it is given: the smooth problem's own functions, in torch, to rounding."""
    points = torch.as_tensor(everywhere(Grid((4, 4))))
    a, solution = (
        lambda p: torch.exp(0.8 * torch.sin(2 * p[:, 0] + 1) * torch.cos(3 * p[:, 1]))[None],
        lambda p: (torch.sin(2 * p[:, 0]) * torch.exp(p[:, 1]))[None],
    )
    f = torch.as_tensor(minus_divergence(*points.numpy().T))
    assert float(darcy_residual(a, solution, f, points).abs().max()) < 1e-12


def test_is_the_automatic_derivative_of_the_splines():
    """The closed form with derivatives of the basis is what differentiating the splines by position gives, to rounding;
    its tangent is what differentiating it by the fields gives."""
    grid = Grid((9, 11), x=(0.0, 2.0))
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2, 9, 11, generator=generator, dtype=torch.float64).exp()
    u, du = torch.randn(2, 2, 11, 13, generator=generator, dtype=torch.float64)
    da = torch.randn(2, 9, 11, generator=generator, dtype=torch.float64)
    residual = StrongResidual(grid, "1 + x*y", scatter(grid, 30, seed=1))
    log_a = a.log()
    expected = darcy_residual(
        lambda p: residual.cells(log_a, p).exp(), lambda p: residual.framed(u, p), residual.f, residual.points
    )
    torch.testing.assert_close(residual(a, u), expected, rtol=1e-10, atol=1e-9)
    change = torch.func.jvp(residual, (a, u), (da, du))[1]
    torch.testing.assert_close(residual.tangent(a, u, da, du), change, rtol=1e-10, atol=1e-9)


def test_vanishes_on_a_smooth_solution():
    """Exact values of a and u on the grid: the residual falls at second order (1.9 or more), up to the walls."""
    sizes, errors = [16, 32, 64, 128], []
    for n in sizes:
        grid = Grid((n, n))
        points = everywhere(grid)
        residual = StrongResidual(grid, 0.0, points)(cells(grid, lambda x, y: np.exp(log_a(x, y))), framed(grid, u))
        errors.append(float((residual[0] - torch.as_tensor(minus_divergence(*points.T))).square().mean().sqrt()))
    assert order(sizes, errors) > 1.9
    assert errors[-1] < 2e-3  # f is of order 5


@pytest.mark.parametrize(
    "boundary",
    [Boundary(), Boundary(left=Value("y*y"), right=Flux(0.3), bottom=Flux("x"), top=Value(1.0))],
    ids=["values", "values and fluxes"],
)
def test_vanishes_on_the_solvers_solution(boundary):
    """Second order in the middle of the domain (1.9 or more); at points of `scatter`, less than 0.5 % of f = 1 + x."""
    sizes, middle = [16, 32, 64], []
    for n in sizes:
        grid = Grid((n, n))
        a = cells(grid, lambda x, y: np.exp(log_a(x, y)))
        darcy = Darcy(grid, boundary, source="1 + x", rtol=1e-11)
        solution = darcy.with_walls(a, darcy.solve(a))
        centre = 0.25 + 0.5 * everywhere(grid)
        middle.append(float(StrongResidual(grid, "1 + x", centre)(a, solution).square().mean().sqrt()))
        kept = float(StrongResidual(grid, "1 + x", scatter(grid, 500, 0))(a, solution).square().mean().sqrt())
    assert order(sizes, middle) > 1.9
    assert kept < 0.005 * 1.5


def test_does_not_converge_where_the_coefficient_jumps():
    """Two phases side by side, and the exact solution, of constant flux: the finite-volume residual is 0 to rounding.

    The strong residual is a spike of height 1/h and width h: its root mean square grows like h^(−1/2) (within 0.15).
    """

    def permeability(x, y):
        return np.where(x + 0 * y < 0.5, 1.0, 4.0)

    def solution(x, y):
        return np.where(x < 0.5, x, 0.5 + (x - 0.5) / 4) + 0 * y

    sizes, errors = [16, 32, 64, 128], []
    for n in sizes:
        grid = Grid((8, n))
        a = cells(grid, permeability)
        darcy = Darcy(grid, Boundary(left=Value(0.0), right=Value(0.625), bottom=Flux(0.0), top=Flux(0.0)))
        assert float(darcy.residual(a, cells(grid, solution)).abs().max()) < 1e-9
        points = scatter(grid, 20_000, 0)
        errors.append(float(StrongResidual(grid, 0.0, points)(a, framed(grid, solution)).square().mean().sqrt()))
    assert order(sizes, errors) == pytest.approx(-0.5, abs=0.15)
    assert errors[0] > 0.5  # of a flux of 1


def test_gradients_by_finite_differences():
    """Derivatives in a and in u, reverse and forward, against central differences (`gradcheck`), on rough fields."""
    grid, generator = Grid((4, 5)), torch.Generator().manual_seed(0)
    residual = StrongResidual(grid, "x", scatter(grid, 3, 0, margin=0))
    a = torch.rand(1, 4, 5, generator=generator, dtype=torch.float64) + 0.5
    values = torch.randn(1, 6, 7, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(residual, (a.requires_grad_(), values.requires_grad_()), fast_mode=True)
    da, du = torch.randn_like(a), torch.randn_like(values)
    _, tangent = torch.func.jvp(residual, (a.detach(), values.detach()), (da, du))
    back = torch.autograd.grad((residual(a, values) * tangent).sum(), (a, values))
    torch.testing.assert_close((back[0] * da).sum() + (back[1] * du).sum(), tangent.square().sum(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_rows_are_samples_in_any_mode(mode):
    """A batch gives each sample's own residual, also where the caller differentiates nothing; float32 stays float32."""
    grid = Grid((8, 8))
    residual = StrongResidual(grid, 1.0, scatter(grid, 20, 0, margin=1))
    a = torch.cat([cells(grid, lambda x, y: np.exp(log_a(x, y))), cells(grid, lambda x, y: 1 + x * y)])
    solutions = torch.cat([framed(grid, u), framed(grid, log_a)])
    with mode():
        both = residual(a, solutions)
        torch.testing.assert_close(residual(a[1:], solutions[1:])[0], both[1], rtol=1e-12, atol=1e-12)
        single = residual(a.float(), solutions.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), both, rtol=1e-3, atol=1e-3)


def test_forms_of_the_source():
    """A number, an expression and values on the cells of the same smooth f give the same residual."""
    grid = Grid((32, 32))
    points, a, solution = everywhere(grid), cells(grid, lambda x, y: 1 + 0 * x), framed(grid, u)
    x, y = grid.mesh()
    by_text = StrongResidual(grid, "1 + sin(x)*y", points)(a, solution)
    by_values = StrongResidual(grid, 1 + np.sin(x) * y, points)(a, solution)
    torch.testing.assert_close(by_values, by_text, rtol=0, atol=1e-6)
    one, none = (StrongResidual(grid, f, points)(a, solution) for f in (1.0, 0.0))
    torch.testing.assert_close(one, none - 1)


def test_scatter_keeps_away_from_walls():
    """Uniform in the rectangle that lies three cells inside, the same for the same seed."""
    grid = Grid((10, 20), x=(0.0, 4.0), y=(1.0, 2.0))
    points = scatter(grid, 2000, 5)
    np.testing.assert_array_equal(points, scatter(grid, 2000, 5))
    np.testing.assert_allclose([points.min(0), points.max(0)], [[0.6, 1.3], [3.4, 1.7]], atol=0.01)
    np.testing.assert_allclose(points.mean(0), [2.0, 1.5], atol=0.08)


def test_refusals():
    """A point outside, a source that does not fit, a grid that is all margin."""
    grid = Grid((6, 8))
    with pytest.raises(InputError, match=r"point \(1.5, 0.5\) is outside the domain"):
        StrongResidual(grid, 0.0, [[0.5, 0.5], [1.5, 0.5]])
    with pytest.raises(InputError, match="source has shape"):
        StrongResidual(grid, np.ones((8, 6)), [[0.5, 0.5]])
    with pytest.raises(InputError, match="has no point 3 cells away from its walls"):
        scatter(grid, 5, 0)
