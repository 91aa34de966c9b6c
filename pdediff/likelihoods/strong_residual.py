"""The strong residual −∇·(a∇u) − f at scattered points, by automatic differentiation (eq. 57, with the missing − f).

The fields are made functions of position (`splines`) and differentiated with respect to it, as eq. 57 does with
denoisers that answer at query points. That is for smooth coefficients only: where a jumps, ∇·(a∇u) of an interpolant is
a spike of height 1/h, and the residual of a right solution grows as the grid is refined. The finite-volume residual is
right there.

The spline of a positive coefficient may overshoot below zero, that of ln a may not: a = exp(spline of ln a).

Beside a wall a finite-volume solution errs by O(h²) like everywhere, but not smoothly, so that its second derivatives
err by O(1); values on walls with a flux, and in corners, do the same. A spline carries that inwards, 0.27 times as much
in each further cell. Points at which a discrete solution is to be judged should keep MARGIN cells away from the walls,
as `scatter` does. Further inside the residual of a discrete solution is of second order in h.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.func import jvp

from pdediff.likelihoods.splines import TensorSpline
from pdediff.solvers.errors import InputError
from pdediff.solvers.expressions import Expression
from pdediff.solvers.grid import Grid
from pdediff.solvers.source import SourceLike, source_field

Function = Callable[[Tensor], Tensor]  # of points (Q, 2), as (x, y): (B, Q), each value of its own point only

MARGIN = 3.0


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

    def __call__(self, a: Tensor, u: Tensor) -> Tensor:
        """The residual (B, Q), in units of f; differentiable in both fields.

        Parameters
        ----------
        a: coefficient on the cells (B, ny, nx), positive.
        u: solution on cells and walls (B, ny + 2, nx + 2), as `Darcy.with_walls` makes it.

        """
        points, log_a = self.points.to(a), a.log()
        return darcy_residual(lambda p: self.cells(log_a, p).exp(), lambda p: self.framed(u, p), self.f.to(a), points)

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


def scatter(grid: Grid, count: int, seed: int, margin: float = MARGIN) -> NDArray[np.float64]:
    """Uniform random points (count, 2) that keep `margin` cells away from the walls.

    Raises InputError for a grid that has no cell so far inside.
    """
    if min(grid.shape) <= 2 * margin:
        raise InputError(f"a grid of {grid.ny} × {grid.nx} cells has no point {margin:g} cells away from its walls")
    low = np.array([grid.x[0] + margin * grid.dx, grid.y[0] + margin * grid.dy])
    high = np.array([grid.x[1] - margin * grid.dx, grid.y[1] - margin * grid.dy])
    return low + (high - low) * np.random.default_rng(seed).random((count, 2))
