"""Physics: from x_0 to the fields that sensors see.

`SolverPhysics` is the exact mode: the coefficient a comes from x_0 through its parametrisation, the solution
is u = S(a), and every derivative is that of the discrete solution map. A posterior sample then satisfies the PDE to the
solver's tolerance, by construction.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from pdediff.likelihoods.gaussian import Fields
from pdediff.parametrisations import Parametrisation
from pdediff.solvers.darcy import Darcy, Linearisation
from pdediff.spaces import FunctionSpace


class SolverPhysics:
    """a = parametrisation(x_0), u = S(a).

    Parameters
    ----------
    space: the space of x_0, with the one field "a".
    parametrisation: from x_0 to the coefficient on the solver's grid.
    darcy: the solver S.

    """

    def __init__(self, space: FunctionSpace, parametrisation: Parametrisation, darcy: Darcy) -> None:
        self.space, self.parametrisation, self.darcy = space, parametrisation, darcy

    def coefficient(self, x_0: Tensor) -> Tensor:
        """The coefficient a (B, ny, nx) of x_0 (B, D)."""
        return self.parametrisation.field(self.space.grid_view(x_0)[:, 0])

    def fields(self, x_0: Tensor) -> Fields:
        """Coefficient a and solution u on the cells, (B, ny, nx) each, in the dtype of x_0; differentiable."""
        a = self.coefficient(x_0)
        return {"a": a, "u": self.darcy.solve(a)}

    def observables(self, x_0: Tensor) -> Fields:
        """Coefficient a and solution u on cells and walls, (B, ny + 2, nx + 2) each; differentiable."""
        return self.frame(**self.fields(x_0))

    def frame(self, a: Tensor, u: Tensor) -> Fields:
        """Fields a and u on the cells (B, ny, nx), with their values on the walls; a is constant across a half-cell."""
        return {"a": replicate_walls(a), "u": self.darcy.with_walls(a, u)}

    def linearise(self, x_0: Tensor, tolerance: float, near: "LinearisedSolver | None" = None) -> "LinearisedSolver":
        """The fields of x_0 (B, D), to the solver's own tolerance, and their derivative to `tolerance`.

        The solve starts from the solution of `near`: along the noise levels a changes slowly.
        """
        solution = self.darcy.linearise(self.coefficient(x_0), u0=None if near is None else near.solution.u)
        return LinearisedSolver(self.space, self.parametrisation, solution, tolerance)


@dataclass(frozen=True)
class LinearisedSolver:
    """Derivative of (a, u) with respect to x_0: one solve for each product."""

    space: FunctionSpace
    parametrisation: Parametrisation
    solution: Linearisation
    tolerance: float

    @property
    def fields(self) -> Fields:
        """Coefficient a and solution u on cells and walls at the point of linearisation."""
        return {"a": replicate_walls(self.solution.a), "u": self.solution.u_walls}

    def tangent(self, dx: Tensor) -> Fields:
        """Changes of a and u under dx (B, D)."""
        da = self.parametrisation.tangent(self.solution.a, self.space.grid_view(dx)[:, 0])
        return {"a": replicate_walls(da), "u": self.solution.tangent_walls(da, rtol=self.tolerance)}

    def adjoint(self, fields_bar: Fields) -> Tensor:
        """Gradient (B, D) from gradients of the padded fields."""
        a_bar = self.solution.adjoint_walls(fields_bar["u"], rtol=self.tolerance) if "u" in fields_bar else 0.0
        if "a" in fields_bar:
            a_bar = a_bar + gather_walls(fields_bar["a"])
        assert isinstance(a_bar, Tensor)
        return self.parametrisation.adjoint(self.solution.a, a_bar)[:, None].flatten(1)


def replicate_walls(field: Tensor) -> Tensor:
    """Cells (B, ny, nx) framed by the values next to the walls, (B, ny + 2, nx + 2)."""
    return functional.pad(field[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]


def gather_walls(framed: Tensor) -> Tensor:
    """Transpose of `replicate_walls`: (B, ny + 2, nx + 2) to (B, ny, nx)."""
    rows = framed[:, 1:-1].clone()
    rows[:, 0] += framed[:, 0]
    rows[:, -1] += framed[:, -1]
    columns = rows[..., 1:-1].clone()
    columns[..., 0] += rows[..., 0]
    columns[..., -1] += rows[..., -1]
    return columns
