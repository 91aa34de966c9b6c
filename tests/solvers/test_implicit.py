"""Automatic differentiation through the solver, in every mode."""

import pytest
import torch

from pdediff.solvers.boundary import Boundary, Flux, Value
from pdediff.solvers.darcy import Darcy
from pdediff.solvers.grid import Grid

MIXED = Boundary(left=Value("1 + y"), right=Flux(0.5), bottom=Flux(0.0))


def coefficient(*shape):
    """A rough positive coefficient."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).exp()


@pytest.mark.parametrize("backend", ["cg", "lu"])
@pytest.mark.parametrize("anisotropic", [False, True])
def test_first_derivatives(anisotropic, backend):
    """Reverse and forward mode against finite differences (gradcheck), mixed walls."""
    darcy = Darcy(Grid((4, 5)), MIXED, source="x", anisotropic=anisotropic, backend=backend, rtol=1e-13)
    a = coefficient(2, *([2] if anisotropic else []), 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(darcy.solve, (a,), check_forward_ad=True)


def test_second_derivatives():
    """Reverse over reverse against finite differences (gradgradcheck)."""
    darcy = Darcy(Grid((3, 4)), MIXED, source=1.0, rtol=1e-13)
    assert torch.autograd.gradgradcheck(darcy.solve, (coefficient(1, 3, 4).requires_grad_(),))


def test_derivatives_of_the_mean_free_solution():
    """All-flux walls: the derivative of the zero-mean solution has zero mean, and is right."""
    boundary = Boundary(left=Flux(1.0), right=Flux(-1.0), bottom=Flux(0.0), top=Flux(0.0))
    darcy = Darcy(Grid((4, 5)), boundary, rtol=1e-13)
    a = coefficient(1, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(darcy.solve, (a,), check_forward_ad=True)
    (gradient,) = torch.autograd.grad(darcy.solve(a).sum(), a)
    assert gradient.abs().max() < 1e-12


def test_function_transforms():
    """torch.func: jvp, vjp, vmap, and Jacobians built both ways, all against one another."""
    darcy = Darcy(Grid((3, 4)), MIXED, source=1.0, rtol=1e-13)
    a, da = coefficient(3, 4), coefficient(2, 3, 4)[1]
    by_rows, by_columns = torch.func.jacrev(darcy.solve)(a), torch.func.jacfwd(darcy.solve)(a)
    torch.testing.assert_close(by_rows, by_columns, rtol=1e-9, atol=1e-11)
    u, du = torch.func.jvp(darcy.solve, (a,), (da,))
    torch.testing.assert_close(u, darcy.solve(a))
    torch.testing.assert_close(du, torch.einsum("abij,ij->ab", by_rows, da), rtol=1e-9, atol=1e-11)
    _, pullback = torch.func.vjp(darcy.solve, a)
    torch.testing.assert_close(pullback(da)[0], torch.einsum("ab,abij->ij", da, by_rows), rtol=1e-9, atol=1e-11)
    batch = coefficient(5, 3, 4)
    torch.testing.assert_close(torch.func.vmap(darcy.solve)(batch), darcy.solve(batch), rtol=1e-9, atol=1e-11)


def test_the_residuals_gradient():
    """The residual is differentiable in a and u, with exact derivatives of first order."""
    darcy = Darcy(Grid((4, 5)), MIXED, source="x")
    a, u = coefficient(2, 2, 4, 5)
    assert torch.autograd.gradcheck(darcy.residual, (a.requires_grad_(), u.requires_grad_()))


def test_backward_is_one_more_solve():
    """A solution and its gradient cost two solves a sample."""
    darcy = Darcy(Grid((4, 5)), MIXED, source="x")
    a = coefficient(3, 4, 5).requires_grad_()
    darcy.solve(a).square().sum().backward()
    assert darcy.solves == 6
