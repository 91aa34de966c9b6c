"""Soft physics: the finite-volume residual r = A(a) u − b is independent noise of standard deviation sigma_r (eq. 57).

The joint prior supplies u, and the equation is a further datum of (a, u) that holds to within a stated model error:

    log p = −½ Σ (r/sigma_r)² + const.

A gradient of this is stiff: A amplifies the shortest waves of u by the square of the number of cells. In the unknowns
zeta = (x_a, r) it is not. There u = A(a)⁻¹ (b + r) and r is white noise: the weak-constraint form of data assimilation
(Trémolet 2006). sigma_r = 0 is the exact solve. Each product with the derivative costs one solve, as there.

What is sampled in these unknowns is p(a) N(r; 0, sigma_r²) p(y | u(a, r)), where p(a) is the denoiser's law of x_a at
each level. A trained joint prior has used x_u for its prediction of x_a, and its own error in u, much wider than the
equation's, is not counted a second time. A prior of u that is independent of a is not used at all: it has a say only
where u is among the unknowns (`prior_only`, `collocation`). `log_prob`, for methods that follow gradients, is a density
in (a, u) and not in (a, r); the two differ by the determinant of A(a).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pdediff.denoisers.base import BlockErrorLaw, ErrorLaw, WhiteErrorLaw
from pdediff.likelihoods.physics import DarcyPhysics, Fields, gather_walls, replicate_walls
from pdediff.likelihoods.solver import LinearisedSolver
from pdediff.parametrisations import Parametrisation
from pdediff.solvers.darcy import Darcy
from pdediff.spaces import Space


class ResidualPhysics(DarcyPhysics):
    """a and u from x_0; A(a) u − b is noise.

    Parameters
    ----------
    space, parametrisation, darcy, solution, bounds: as of `DarcyPhysics`; the prior is a joint one.
    sigma: standard deviation of the residual in each cell, in the unit of the source per unit area.

    """

    def __init__(
        self,
        space: Space,
        parametrisation: Parametrisation,
        darcy: Darcy,
        solution: Parametrisation,
        sigma: float,
        bounds: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(space, parametrisation, darcy, solution, bounds)
        self.sigma = sigma

    def fields(self, x_0: Tensor, rtol: float | None = None) -> Fields:
        """Coefficient a and solution u on the cells, (B, ny, nx) each, as x_0 has them; differentiable."""
        return {"a": self.coefficient(x_0), "u": self._joint().field(self.space.unflatten(x_0)["u"])}

    def log_prob(self, x_0: Tensor) -> Tensor:
        """−½ Σ (r/sigma_r)² for each sample: (B, D) -> (B,), differentiable."""
        return -0.5 * (self.darcy.residual(**self.fields(x_0)) / self.sigma).square().sum(dim=(-2, -1))

    def restrict(self, x_0: Tensor, law: ErrorLaw) -> tuple[Tensor, ErrorLaw]:
        """The law of (x_a, r): r is centred white noise, whatever x_u is predicted."""
        part = self.space.part("a")
        cells = self.darcy.grid.shape[0] * self.darcy.grid.shape[1]
        x_a = x_0[:, part]
        blocks = BlockErrorLaw((law.marginal(part), WhiteErrorLaw(self.sigma, cells)), (x_a.shape[1], cells))
        return torch.cat([x_a, x_a.new_zeros(len(x_a), cells)], dim=1), blocks

    def clamp(self, zeta: Tensor) -> Tensor:
        """x_a inside its bounds, and r."""
        x_a, r = self._split(zeta)
        return torch.cat([self._clamp_a(x_a), r], dim=1)

    def complete(self, zeta: Tensor) -> Tensor:
        """x_0 (B, D) with u = A(a)⁻¹ (b + r)."""
        x_a, r = self._split(self.clamp(zeta))
        u = self.darcy.solve(self.parametrisation.field(self._x_a(x_a)), forcing=r)
        return self.space.flatten({"a": self._x_a(x_a), "u": self._joint().inverse(u)})

    def linearise(
        self, zeta: Tensor, tolerance: float, near: "LinearisedResidual | None" = None
    ) -> "LinearisedResidual":
        """The fields of (x_a, r), to the solver's own tolerance, and their derivative to `tolerance`."""
        x_a, r = self._split(zeta)
        a = self.parametrisation.field(self._x_a(x_a))
        solution = self.darcy.linearise(a, u0=None if near is None else near.solution.u, forcing=r)
        return LinearisedResidual(self.space.shape_of("a"), self.parametrisation, solution, tolerance)

    def _split(self, zeta: Tensor) -> tuple[Tensor, Tensor]:
        ny, nx = self.space.shape_of("a")
        return zeta[:, : ny * nx], zeta[:, ny * nx :]


@dataclass(frozen=True)
class LinearisedResidual(LinearisedSolver):
    """Derivative of (a, u) with respect to (x_a, r): that of an exact solve, with r among the sources."""

    def tangent(self, dzeta: Tensor) -> Fields:
        """Changes of a and u under (dx_a, dr)."""
        points = self.shape[0] * self.shape[1]
        da = self.parametrisation.tangent(self.solution.a, dzeta[:, :points].unflatten(-1, self.shape))
        du = self.solution.tangent_walls(da, rtol=self.tolerance, df=dzeta[:, points:])
        return {"a": replicate_walls(da), "u": du}

    def adjoint(self, fields_bar: Fields) -> Tensor:
        """Gradient of (x_a, r) from gradients of the padded fields."""
        a_bar, r_bar = torch.zeros_like(self.solution.a), torch.zeros_like(self.solution.u)
        if "u" in fields_bar:
            a_bar, r_bar = self.solution.gradients_walls(fields_bar["u"], rtol=self.tolerance)
        if "a" in fields_bar:
            a_bar = a_bar + gather_walls(fields_bar["a"])
        x_bar = self.parametrisation.adjoint(self.solution.a, a_bar).flatten(1)
        return torch.cat([x_bar, r_bar.flatten(1)], dim=1)
