"""Values on the walls."""

import itertools

import torch

from pdediff.solvers.boundary import Boundary, Flux, Value
from pdediff.solvers.darcy import Darcy
from pdediff.solvers.grid import Grid


def test_every_corner_rule_is_exact_for_linear_solutions():
    """u = 1 + 2x − 3y with a = 1, any mixture of values and exact fluxes: all walls and corners are exact."""
    grid = Grid((3, 4))
    x = torch.tensor([0.0, 0.125, 0.375, 0.625, 0.875, 1.0], dtype=torch.float64)
    y = torch.tensor([0.0, 1 / 6, 0.5, 5 / 6, 1.0], dtype=torch.float64)[:, None]
    inflow = {"left": -2.0, "right": 2.0, "bottom": 3.0, "top": -3.0}
    a = torch.ones(3, 4, dtype=torch.float64)
    for mixture in itertools.product((True, False), repeat=4):
        sides = zip(inflow, mixture, strict=True)
        boundary = Boundary(**{s: Value("1 + 2*x - 3*y") if fixed else Flux(inflow[s]) for s, fixed in sides})
        darcy = Darcy(grid, boundary, rtol=1e-13)
        mean = 0.0 if any(mixture) else 0.5  # all-flux: u is the solution of mean 0, and 1 + 2x − 3y has mean 1/2
        torch.testing.assert_close(darcy.with_walls(a, darcy.solve(a)), 1 + 2 * x - 3 * y - mean)


def test_zero_walls_have_zero_corners():
    """Where both walls give 0 the corner is 0, whatever u is."""
    framed = Darcy(Grid((2, 2))).with_walls(torch.ones(2, 2), torch.ones(2, 2))
    assert torch.equal(framed, torch.nn.functional.pad(torch.ones(2, 2), (1, 1, 1, 1)))


def test_gradient_of_the_walls():
    """u_wall = u + F h/(2a) is differentiated in a and u (gradcheck)."""
    darcy = Darcy(Grid((3, 4)), Boundary(left=Value("y"), right=Flux(2.0), top=Flux(-1.0)), anisotropic=True)
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(2, 2, 3, 4, generator=generator, dtype=torch.float64).add(0.5).requires_grad_()
    u = torch.rand(2, 3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(darcy.with_walls, (a, u))
