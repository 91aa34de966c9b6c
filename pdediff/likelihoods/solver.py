"""Exact physics: u = S(a), the solution of the discrete equation, with the derivative of the discrete solution map.

A posterior sample satisfies the PDE to the solver's tolerance, by construction. With a joint prior the data are fitted
in x_a alone, under the marginal law of its error, and x_u follows: what a network made of x_u it has used already for
its prediction of x_a. (Of independent priors of a and u, that of u has no say.)
"""

from dataclasses import dataclass

from torch import Tensor

from pdediff.denoisers.base import ErrorLaw
from pdediff.likelihoods.physics import DarcyPhysics, Fields, gather_walls, replicate_walls
from pdediff.parametrisations import Parametrisation
from pdediff.solvers.darcy import Linearisation

COMPLETION_RTOL = 1e-4  # of the u that goes back among the noise


class SolverPhysics(DarcyPhysics):
    """a = parametrisation(x_a), u = S(a)."""

    def fields(self, x_0: Tensor, rtol: float | None = None) -> Fields:
        """Coefficient a and solution u on the cells, (B, ny, nx) each, in the dtype of x_0; differentiable."""
        a = self.coefficient(x_0)
        return {"a": a, "u": self.darcy.solve(a, rtol=rtol)}

    def restrict(self, x_0: Tensor, law: ErrorLaw) -> tuple[Tensor, ErrorLaw]:
        """The law of x_a."""
        if self.solution is None:
            return x_0, law
        part = self.space.part("a")
        return x_0[:, part], law.marginal(part)

    def clamp(self, zeta: Tensor) -> Tensor:
        """x_a inside its bounds."""
        return self._clamp_a(zeta)

    def complete(self, zeta: Tensor) -> Tensor:
        """x_0 (B, D) with u = S(a) where the prior is a joint one."""
        if self.solution is None:
            return zeta
        u = self.darcy.solve(self.parametrisation.field(self._x_a(self.clamp(zeta))), rtol=COMPLETION_RTOL)
        return self.space.flatten({"a": self._x_a(zeta), "u": self.solution.inverse(u)})

    def linearise(self, zeta: Tensor, tolerance: float, near: "LinearisedSolver | None" = None) -> "LinearisedSolver":
        """The fields of x_a (B, D_a), to the solver's own tolerance, and their derivative to `tolerance`.

        The solve starts from the solution of `near`: along the noise levels a changes slowly.
        """
        a = self.parametrisation.field(self._x_a(zeta))
        solution = self.darcy.linearise(a, u0=None if near is None else near.solution.u)
        return LinearisedSolver(self.space.shape_of("a"), self.parametrisation, solution, tolerance)


@dataclass(frozen=True)
class LinearisedSolver:
    """Derivative of (a, u) with respect to x_a: one solve for each product.

    Parameters
    ----------
    shape: points of x_a.
    parametrisation: from x_a to a.
    solution: the solution map, linearised.
    tolerance: relative, of the solves in products.

    """

    shape: tuple[int, int]
    parametrisation: Parametrisation
    solution: Linearisation
    tolerance: float

    @property
    def fields(self) -> Fields:
        """Coefficient a and solution u on cells and walls at the point of linearisation."""
        return {"a": replicate_walls(self.solution.a), "u": self.solution.u_walls}

    def tangent(self, dzeta: Tensor) -> Fields:
        """Changes of a and u under dx_a (B, D_a)."""
        da = self.parametrisation.tangent(self.solution.a, dzeta.unflatten(-1, self.shape))
        return {"a": replicate_walls(da), "u": self.solution.tangent_walls(da, rtol=self.tolerance)}

    def adjoint(self, fields_bar: Fields) -> Tensor:
        """Gradient (B, D_a) from gradients of the padded fields."""
        a_bar = self.solution.adjoint_walls(fields_bar["u"], rtol=self.tolerance) if "u" in fields_bar else 0.0
        if "a" in fields_bar:
            a_bar = a_bar + gather_walls(fields_bar["a"])
        assert isinstance(a_bar, Tensor)
        return self.parametrisation.adjoint(self.solution.a, a_bar).flatten(1)
