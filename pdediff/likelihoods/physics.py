"""Physics: from x_0 to the fields that sensors see.

How is the solution u tied to the coefficient a? There is a class for each answer:

    solver      u = S(a), exactly                                       (`likelihoods.solver`)
    residual    A(a) u − b is noise of a stated standard deviation      (`likelihoods.residual`, `collocation`)
    none        only as the joint prior of a and u ties them            (`likelihoods.prior_only`)

and one for the problem that has no equation and no u (`likelihoods.direct`): a is seen itself, blurred or in part.

With a joint prior x_0 holds both fields, although in an exact solve u follows from a. So a physics also says in which
unknowns zeta the data are fitted (a alone; a and the residual; all of x_0) and how x_0 is completed from them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from torch.nn import functional

from pdediff.denoisers.base import ErrorLaw
from pdediff.likelihoods.operators import LinearOperator
from pdediff.parametrisations import Parametrisation
from pdediff.solvers.darcy import Darcy
from pdediff.spaces import Space

Fields = dict[str, Tensor]


@dataclass(frozen=True)
class Group:
    """Data of one field through one operator.

    Parameters
    ----------
    field: name of the field: "a", "u", or what else the physics computes.
    operator: from the field on cells and walls to data (B, m).
    value: data (m,), in the field's unit.
    sigma: standard deviation of the noise (m,), in the field's unit.

    """

    field: str
    operator: LinearOperator
    value: Tensor
    sigma: Tensor


class LinearisedPhysics(Protocol):
    """The fields at one zeta and their derivative."""

    @property
    def fields(self) -> Fields:
        """The fields on cells and walls."""
        ...

    def tangent(self, dzeta: Tensor) -> Fields:
        """Change of the fields under dzeta (B, K)."""
        ...

    def adjoint(self, fields_bar: Fields) -> Tensor:
        """Gradient (B, K) from gradients of the fields; a missing field counts as zero."""
        ...


class Physics(ABC):
    """What makes fields of x_0.

    Parameters
    ----------
    space: the space of x_0, with the field "a".
    parametrisation: from x_a to the coefficient.
    bounds: values (D,) of x_0 that the fields are not computed beyond; none by default.

    """

    def __init__(
        self, space: Space, parametrisation: Parametrisation, bounds: tuple[Tensor, Tensor] | None = None
    ) -> None:
        self.space, self.parametrisation, self.bounds = space, parametrisation, bounds
        self.penalties: list[Group] = []  # data that are not observed: the equation, where it is one

    def coefficient(self, x_0: Tensor) -> Tensor:
        """The coefficient a (B, ny, nx) of x_0 (B, D)."""
        return self.parametrisation.field(self.space.unflatten(x_0)["a"])

    @abstractmethod
    def fields(self, x_0: Tensor, rtol: float | None = None) -> Fields:
        """The fields on the cells, (B, ny, nx) each, in the dtype of x_0; differentiable.

        A solve, where there is one, is to `rtol` (the solver's own tolerance if None).
        """

    @abstractmethod
    def frame(self, **fields: Tensor) -> Fields:
        """Fields on the cells (B, ny, nx), with their values on the walls."""

    def observables(self, x_0: Tensor) -> Fields:
        """What sensors see: the fields on cells and walls, (B, ny + 2, nx + 2) each; differentiable."""
        return self.frame(**self.fields(x_0))

    @property
    def linear(self) -> bool:
        """Whether the fields are a linear function of x_0, up to a constant."""
        return False

    @property
    def solves(self) -> int:
        """Solutions of the equation that were computed so far, all samples counted."""
        return 0

    def relative_residual(self, fields: Fields) -> Tensor | None:
        """‖A(a) u − b‖₂/‖b‖₂ (B,) of fields on the cells; None where there is no equation."""
        return None

    def log_prob(self, x_0: Tensor) -> Tensor:
        """Logarithm of how credible the fields are as a solution: (B, D) -> (B,); 0 where they are one, or need not."""
        return x_0.new_zeros(len(x_0))

    def restrict(self, x_0: Tensor, law: ErrorLaw) -> tuple[Tensor, ErrorLaw]:
        """The law of the unknowns zeta, from that of x_0: its mean (B, K') and its error law."""
        return x_0, law

    def clamp(self, zeta: Tensor) -> Tensor:
        """Unknowns (B, K') that the physics is linearised at: zeta, inside the bounds."""
        return zeta if self.bounds is None else zeta.clamp(*(bound.to(zeta) for bound in self.bounds))

    def complete(self, zeta: Tensor) -> Tensor:
        """x_0 (B, D) of the unknowns zeta."""
        return zeta

    @abstractmethod
    def linearise(self, zeta: Tensor, tolerance: float, near: Any = None) -> LinearisedPhysics:
        """The fields and their derivative at zeta (B, K'); `near` is an earlier result of this method, or None.

        Solves inside the derivative may err by `tolerance`, relatively.
        """

    def _x_a(self, values: Tensor) -> Tensor:
        """Flat values of the field a as (B, ny', nx')."""
        return values.unflatten(-1, self.space.shape_of("a"))

    def _clamp_a(self, x_a: Tensor) -> Tensor:
        if self.bounds is None:
            return x_a
        low, high = (bound.to(x_a) for bound in self.bounds)
        part = self.space.part("a")
        return x_a.clamp(low[part] if low.dim() else low, high[part] if high.dim() else high)


class DarcyPhysics(Physics):
    """What ties u to a in a Darcy problem.

    Parameters
    ----------
    space: the space of x_0, with the field "a", and "u" if the prior is a joint one.
    parametrisation: from x_a to the coefficient on the solver's grid.
    darcy: the equation.
    solution: from x_u to u, if the prior is a joint one.
    bounds: values (D,) of x_0 that the fields are not computed beyond; none by default.

    """

    def __init__(
        self,
        space: Space,
        parametrisation: Parametrisation,
        darcy: Darcy,
        solution: Parametrisation | None = None,
        bounds: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(space, parametrisation, bounds)
        self.darcy, self.solution = darcy, solution

    def frame(self, **fields: Tensor) -> Fields:
        """Fields a and u on the cells (B, ny, nx), with their values on the walls; a is constant across a half-cell."""
        a, u = fields["a"], fields["u"]
        return {"a": replicate_walls(a), "u": self.darcy.with_walls(a, u)}

    @property
    def solves(self) -> int:
        """Solutions of the equation that were computed so far, all samples counted."""
        return self.darcy.solves

    def relative_residual(self, fields: Fields) -> Tensor:
        """‖A(a) u − b‖₂/‖b‖₂ (B,) of fields a and u on the cells."""
        return self.darcy.relative_residual(fields["a"], fields["u"])

    def _joint(self) -> Parametrisation:
        if self.solution is None:
            raise ValueError("this physics needs a joint prior, with fields a and u")
        return self.solution


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
