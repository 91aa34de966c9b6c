"""Soft physics, point by point: the strong residual at collocation points is noise of deviation sigma_r (eq. 57).

The source documents' own form. a and u are as the prior has them, and the equation adds a datum at each point,

    0 = −∇·(a∇u)(x_q) − f(x_q) + sigma_r e_q,

which Gauss–Newton steps fit like any other. Between the points holds what the prior knows of u. For smooth
coefficients.
"""

from typing import Any

import torch
from torch import Tensor
from torch.func import vjp

from pdediff.likelihoods.operators import Identity
from pdediff.likelihoods.physics import Fields, Group, LinearisedPhysics
from pdediff.likelihoods.prior_only import LinearisedPrior, PriorOnly
from pdediff.likelihoods.strong_residual import StrongResidual
from pdediff.parametrisations import Parametrisation
from pdediff.solvers.darcy import Darcy
from pdediff.spaces import Space

RESIDUAL = "residual"  # the name of what the collocation points see, beside the fields a and u


class CollocationPhysics(PriorOnly):
    """a and u from x_0; −∇·(a∇u) − f is noise at points.

    Parameters
    ----------
    space, parametrisation, darcy, solution, bounds: as of `DarcyPhysics`; the prior is a joint one.
    residual: the strong residual at the points.
    sigma: standard deviation of the residual at a point, in the unit of the source per unit area.

    """

    def __init__(
        self,
        space: Space,
        parametrisation: Parametrisation,
        darcy: Darcy,
        solution: Parametrisation,
        residual: StrongResidual,
        sigma: float,
        bounds: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(space, parametrisation, darcy, solution, bounds)
        self.residual = residual
        zeros = torch.zeros_like(residual.f)
        self.penalties = [Group(RESIDUAL, Identity(), zeros, zeros + sigma)]

    def observables(self, x_0: Tensor) -> Fields:
        """Coefficient a and solution u on cells and walls, and the residual at the points (B, Q); differentiable."""
        fields = self.fields(x_0)
        framed = self.frame(**fields)
        return framed | {RESIDUAL: self.residual(fields["a"], framed["u"])}

    def linearise(self, zeta: Tensor, tolerance: float, near: Any = None) -> LinearisedPhysics:
        """The fields and the residual of x_0 = zeta, and their derivative, all exact."""
        return LinearisedCollocation(self.linearised(zeta), self.residual)


class LinearisedCollocation:
    """Derivative of a, u and the residual with respect to x_0.

    Parameters
    ----------
    prior: that of a and u.
    residual: the strong residual.

    """

    def __init__(self, prior: LinearisedPrior, residual: StrongResidual) -> None:
        self.prior, self.residual = prior, residual
        self._value, self._pullback, *_ = vjp(residual, prior.a, prior.fields["u"])

    @property
    def fields(self) -> Fields:
        """a and u on cells and walls, and the residual (B, Q)."""
        return self.prior.fields | {RESIDUAL: self._value}

    def tangent(self, dzeta: Tensor) -> Fields:
        """Changes of the fields and of the residual under dx_0 (B, D)."""
        framed = self.prior.tangent(dzeta)
        da, du = framed["a"][:, 1:-1, 1:-1], framed["u"]
        change = self.residual.tangent(self.prior.a, self.prior.fields["u"], da, du)
        return framed | {RESIDUAL: change}

    def adjoint(self, fields_bar: Fields) -> Tensor:
        """Gradient (B, D) from gradients of the fields and of the residual."""
        framed_bar = {name: bar for name, bar in fields_bar.items() if name != RESIDUAL}
        if RESIDUAL in fields_bar:
            a_bar, u_bar = self._pullback(fields_bar[RESIDUAL])
            a_bar = torch.nn.functional.pad(a_bar, (1, 1, 1, 1))
            for name, bar in (("a", a_bar), ("u", u_bar)):
                framed_bar[name] = framed_bar[name] + bar if name in framed_bar else bar
        return self.prior.adjoint(framed_bar)
