"""The strong residual −∇·(a∇u) − f at scattered points (eq. 57, with the missing − f).

The fields are made functions of position (`splines`) and differentiated with respect to it, as eq. 57 does with
denoisers that answer at query points: `darcy_residual` does so for any functions, by automatic differentiation. Splines
are linear in the fields and the points stay where they are, so that here the basis' derivatives are computed once.

All this is for smooth coefficients only: where a jumps, ∇·(a∇u) of an interpolant is a spike of height 1/h, and the
residual of a right solution grows as the grid is refined. The finite-volume residual is right there.

The spline of a positive coefficient may overshoot below zero, that of ln a may not: a = exp(spline of ln a).
Points at which a discrete solution is to be judged should keep away from the walls (`scatter`).
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.func import jvp

from pdediff.likelihoods.splines import TensorSpline
from pdediff.solvers.errors import InputError
from pdediff.solvers.expressions import Expression
from pdediff.solvers.grid import Grid
from pdediff.solvers.source import SourceLike, source_field

Function = Callable[[Tensor], Tensor]  # of points (Q, 2), as (x, y): (B, Q), each value of its own point only


class StrongResidual:
    """−∇·(a∇u) − f at points, for a on the cells and u on cells and walls.

    Parameters
    ----------
    grid: the cells, at least 4 each way.
    source: f: a number, an expression in x and y, or values on the cells (ny, nx), which are interpolated like u. Wells
        have no place in it: there the strong form has no value.
    points: (Q, 2) coordinates x, y, in the grid's unit.

    Raises
    ------
    InputError: a point outside the domain, or a source that does not fit the grid.

    """

    def __init__(self, grid: Grid, source: SourceLike, points: ArrayLike, device: str | torch.device = "cpu") -> None:
        where = np.asarray(points, dtype=float).reshape(-1, 2)
        outside = ~grid.contains(where)
        if outside.any():
            x, y = where[outside][0]
            raise InputError(f"point ({x:g}, {y:g}) is outside the domain {list(grid.x)} × {list(grid.y)}")
        x, y = grid.centres()
        self.points = torch.as_tensor(where, device=device)
        self.cells = TensorSpline(x, y, device)
        framed_x, framed_y = np.concatenate([grid.x[:1], x, grid.x[1:]]), np.concatenate([grid.y[:1], y, grid.y[1:]])
        self.framed = TensorSpline(framed_x, framed_y, device)
        self.f = self._source(grid, source)
        self._of_a, self._of_u = self._basis(self.cells, 1), self._basis(self.framed, 2)

    def __call__(self, a: Tensor, u: Tensor) -> Tensor:
        """The residual (B, Q), in units of f; differentiable in both fields.

        Parameters
        ----------
        a: coefficient on the cells (B, ny, nx), positive.
        u: solution on cells and walls (B, ny + 2, nx + 2), as `Darcy.with_walls` makes it.

        """
        a_q, (slope_x, slope_y) = self._coefficient(a)
        u_x, u_y, laplacian = self._solution(u)
        return -a_q * (slope_x * u_x + slope_y * u_y + laplacian) - self.f.to(a)

    def tangent(self, a: Tensor, u: Tensor, da: Tensor, du: Tensor) -> Tensor:
        """Change of the residual (B, Q) under da (B, ny, nx) and du (B, ny + 2, nx + 2)."""
        a_q, (slope_x, slope_y) = self._coefficient(a)
        u_x, u_y, laplacian = self._solution(u)
        du_x, du_y, dlaplacian = self._solution(du)
        dlog_a, dslope_x, dslope_y = (self._at(self._of_a, da / a, order) for order in ((0, 0), (1, 0), (0, 1)))
        change = dslope_x * u_x + dslope_y * u_y + slope_x * du_x + slope_y * du_y + dlaplacian
        return -a_q * (change + dlog_a * (slope_x * u_x + slope_y * u_y + laplacian))

    def _coefficient(self, a: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """a and ∇ ln a at the points."""
        log_a = a.log()
        value, slope_x, slope_y = (self._at(self._of_a, log_a, order) for order in ((0, 0), (1, 0), (0, 1)))
        return value.exp(), (slope_x, slope_y)

    def _solution(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """∇u and Δu at the points."""
        u_x, u_y, u_xx, u_yy = (self._at(self._of_u, u, order) for order in ((1, 0), (0, 1), (2, 0), (0, 2)))
        return u_x, u_y, u_xx + u_yy

    @staticmethod
    def _at(basis: list[list[Tensor]], values: Tensor, order: tuple[int, int]) -> Tensor:
        """A derivative of the spline of values (B, ny, nx) at the points, of an order in x and one in y: (B, Q)."""
        along_x, along_y = (basis[axis][order[axis]].to(values) for axis in (0, 1))
        return ((along_x @ values.mT) * along_y).sum(dim=-1)

    def _basis(self, spline: TensorSpline, order: int) -> list[list[Tensor]]:
        """The splines' basis at the points and its derivatives up to an order, along either axis: (Q, n) each."""
        return [[spline.cardinal(axis, self.points[:, axis], k) for k in range(order + 1)] for axis in (0, 1)]

    def _source(self, grid: Grid, source: SourceLike) -> Tensor:
        x, y = self.points.cpu().numpy().T
        if isinstance(source, str):
            source = Expression(source)
        if isinstance(source, Expression):
            return torch.as_tensor(source(x, y), device=self.points.device)
        return self.cells(torch.as_tensor(source_field(grid, source), device=self.points.device)[None], self.points)[0]


def darcy_residual(a: Function, u: Function, f: Tensor, points: Tensor) -> Tensor:
    """−∇·(a∇u) − f (B, Q) at points (Q, 2), for a and u given as functions of position and f (Q,)."""

    def flux(axis: int) -> Function:
        return lambda p: a(p) * derivative(u, p, axis)

    return -derivative(flux(0), points, 0) - derivative(flux(1), points, 1) - f


def derivative(function: Function, points: Tensor, axis: int) -> Tensor:
    """∂/∂x (axis 0) or ∂/∂y (axis 1) of a function of position at all points at once: (B, Q)."""
    direction = torch.zeros_like(points)
    direction[:, axis] = 1
    return jvp(function, (points,), (direction,))[1]
