"""Sources of each sample's own: u = A(a)⁻¹ (b + forcing), its derivative and its transpose."""

import torch

from pdediff.solvers.boundary import Boundary, Flux, Value
from pdediff.solvers.darcy import Darcy
from pdediff.solvers.grid import Grid

GRID = Grid((6, 7), x=(0.0, 2.0))
WALLS = Boundary(left=Value("y"), right=Flux(0.3), bottom=Flux("x"), top=Value(1.0))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


A, FORCING = normal(3, 6, 7).exp(), normal(3, 6, 7, seed=1)
DARCY = Darcy(GRID, WALLS, source="1 + x", rtol=1e-13)


def test_forcing_is_added_to_the_source():
    """Sample by sample the solution is that of a problem whose source is f + forcing; the residual is the forcing."""
    u = DARCY.solve(A, forcing=FORCING)
    x, _ = GRID.mesh()
    for i in range(3):
        other = Darcy(GRID, WALLS, source=1 + x + FORCING[i].numpy(), rtol=1e-13)
        torch.testing.assert_close(u[i], other.solve(A[i]), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(DARCY.residual(A, u), FORCING, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(DARCY.linearise(A, forcing=FORCING).u, u, rtol=1e-10, atol=1e-10)


def test_derivative_in_coefficient_and_forcing():
    """Central differences of u with its walls agree with the tangent under (da, df) to their h² (1e-7, relative)."""
    da, df, h = normal(3, 6, 7, seed=2), normal(3, 6, 7, seed=3), 1e-5

    def framed(sign):
        a = A + sign * h * da
        return DARCY.with_walls(a, DARCY.solve(a, forcing=FORCING + sign * h * df))

    difference = (framed(1) - framed(-1)) / (2 * h)
    linear = DARCY.linearise(A, forcing=FORCING)
    tangent = linear.tangent_walls(da, df=df)
    assert float((tangent - difference).norm() / difference.norm()) < 1e-7
    torch.testing.assert_close(linear.tangent(da, df=df), tangent[:, 1:-1, 1:-1], rtol=1e-9, atol=1e-9)


def test_gradients_are_the_transpose():
    """⟨J (da, df), v⟩ = ⟨da, a_bar⟩ + ⟨df, f_bar⟩, and autograd through `solve` finds the same two."""
    da, df, v = normal(3, 6, 7, seed=2), normal(3, 6, 7, seed=3), normal(3, 8, 9, seed=4)
    linear = DARCY.linearise(A, forcing=FORCING)
    a_bar, f_bar = linear.gradients_walls(v)
    left = (linear.tangent_walls(da, df=df) * v).sum((-2, -1))
    torch.testing.assert_close((a_bar * da + f_bar * df).sum((-2, -1)), left, rtol=1e-9, atol=1e-9)
    a, forcing = A.clone().requires_grad_(), FORCING.clone().requires_grad_()
    value = (DARCY.with_walls(a, DARCY.solve(a, forcing=forcing)) * v).sum()
    expected = torch.autograd.grad(value, (a, forcing))
    torch.testing.assert_close((a_bar, f_bar), expected, rtol=1e-8, atol=1e-9)
