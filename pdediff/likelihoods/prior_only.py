"""No physics: a and u are whatever the joint prior says they are.

Sensors see the fields as x_0 holds them, and boundary conditions fix u on the walls. Nothing ties u to a but the prior,
which has learnt the equation from examples, as well as it has.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pdediff.likelihoods.physics import DarcyPhysics, Fields, LinearisedPhysics, gather_walls, replicate_walls
from pdediff.parametrisations import Parametrisation
from pdediff.solvers.walls import Walls
from pdediff.spaces import Space


class PriorOnly(DarcyPhysics):
    """a = parametrisation(x_a), u = solution(x_u)."""

    def fields(self, x_0: Tensor, rtol: float | None = None) -> Fields:
        """Coefficient a and solution u on the cells, (B, ny, nx) each, as x_0 has them; differentiable."""
        return {"a": self.coefficient(x_0), "u": self._joint().field(self.space.unflatten(x_0)["u"])}

    def linearise(self, zeta: Tensor, tolerance: float, near: Any = None) -> LinearisedPhysics:
        """The fields of x_0 = zeta and their derivative, both exact."""
        return self.linearised(zeta)

    def linearised(self, zeta: Tensor) -> "LinearisedPrior":
        """The fields of x_0 = zeta and their derivative."""
        fields = self.fields(zeta)
        return LinearisedPrior(self.space, self.parametrisation, self._joint(), self.darcy.walls(fields["a"]), **fields)


@dataclass(frozen=True)
class LinearisedPrior:
    """Derivative of (a, u) with respect to x_0.

    Parameters
    ----------
    space: the space of x_0.
    parametrisation, solution: from x_a to a, from x_u to u.
    walls: the values of u on the walls.
    a, u: the fields on the cells.

    """

    space: Space
    parametrisation: Parametrisation
    solution: Parametrisation
    walls: Walls
    a: Tensor
    u: Tensor

    @property
    def fields(self) -> Fields:
        """Coefficient a and solution u on cells and walls at the point of linearisation."""
        return {"a": replicate_walls(self.a), "u": self.walls.pad(self.a, self.u)}

    def tangent(self, dzeta: Tensor) -> Fields:
        """Changes of a and u under dx_0 (B, D)."""
        dx = self.space.unflatten(dzeta)
        da, du = self.parametrisation.tangent(self.a, dx["a"]), self.solution.tangent(self.u, dx["u"])
        return {"a": replicate_walls(da), "u": self.walls.tangent(self.a, da, du)}

    def adjoint(self, fields_bar: Fields) -> Tensor:
        """Gradient (B, D) from gradients of the padded fields."""
        a_bar, u_bar = torch.zeros_like(self.a), torch.zeros_like(self.u)
        if "u" in fields_bar:
            a_bar, u_bar = self.walls.cotangent(self.a, fields_bar["u"])
        if "a" in fields_bar:
            a_bar = a_bar + gather_walls(fields_bar["a"])
        return self.space.flatten(
            {"a": self.parametrisation.adjoint(self.a, a_bar), "u": self.solution.adjoint(self.u, u_bar)}
        )
