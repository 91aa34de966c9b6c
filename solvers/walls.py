"""The solution with its values on the walls: one ring of numbers around the cells.

Between the outermost centres and the walls a sensor sees u go linearly to the wall's value. Where the boundary gives
a value that is it; where it gives the flux F (inflow), the half-cell's own law a (u_wall − u)/(h/2) = F gives

    u_wall = u + F h/(2a).

A corner takes the value of the wall that fixes one, else the mean of its two walls.
"""

import torch
from torch import Tensor

from pdediff.solvers.finite_volumes import FiniteVolumes

LOW, HIGH = slice(0, 1), slice(-1, None)


class Walls:
    """Pads cell fields to ``(..., ny + 2, nx + 2)`` for one discretisation, with derivative and transpose."""

    def __init__(self, volumes: FiniteVolumes) -> None:
        self.volumes = volumes

    def pad(self, a: Tensor, u: Tensor) -> Tensor:
        """u and its wall values; differentiable in a and u."""
        a_x, a_y = self.volumes.components(a)
        inflow = self.volumes.inflow
        h_x, h_y = self.volumes.grid.dx, self.volumes.grid.dy
        implied = [
            u[..., LOW] + inflow[0] * h_x / (2 * a_x[..., LOW]),
            u[..., HIGH] + inflow[1] * h_x / (2 * a_x[..., HIGH]),
            u[..., LOW, :] + inflow[2] * h_y / (2 * a_y[..., LOW, :]),
            u[..., HIGH, :] + inflow[3] * h_y / (2 * a_y[..., HIGH, :]),
        ]
        given = self.volumes.wall_values
        walls = [
            g.expand_as(w) if fixed else w for g, w, fixed in zip(given, implied, self.volumes.values, strict=True)
        ]
        return self._assemble(u, *walls)

    def tangent(self, a: Tensor, da: Tensor, du: Tensor) -> Tensor:
        """Change of ``pad(a, u)`` under da and du."""
        slopes = self._slopes(a)
        da_x, da_y = self.volumes.components(da)
        free = [
            du[..., LOW] + slopes[0] * da_x[..., LOW],
            du[..., HIGH] + slopes[1] * da_x[..., HIGH],
            du[..., LOW, :] + slopes[2] * da_y[..., LOW, :],
            du[..., HIGH, :] + slopes[3] * da_y[..., HIGH, :],
        ]
        walls = [torch.zeros_like(w) if fixed else w for w, fixed in zip(free, self.volumes.values, strict=True)]
        return self._assemble(du, *walls)

    def cotangent(self, a: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Transpose of ``tangent``: ``v (..., ny + 2, nx + 2)`` to (a_bar by the walls alone, u_bar)."""
        u_bar = v[..., 1:-1, 1:-1].clone()
        edges = [v[..., 1:-1, LOW], v[..., 1:-1, HIGH], v[..., LOW, 1:-1], v[..., HIGH, 1:-1]]
        edges = [edge.clone() for edge in edges]
        for (row, column), (side_x, side_y), (weight_x, weight_y) in self._corners():
            corner = v[..., row, column]
            edges[side_x][..., row, :] += weight_x * corner
            edges[side_y][..., :, column] += weight_y * corner
        slopes = self._slopes(a)
        a_x_bar, a_y_bar = torch.zeros_like(u_bar), torch.zeros_like(u_bar)
        cells = [(..., LOW), (..., HIGH), (..., LOW, slice(None)), (..., HIGH, slice(None))]
        for k, (where, a_bar) in enumerate(zip(cells, (a_x_bar, a_x_bar, a_y_bar, a_y_bar), strict=True)):
            if not self.volumes.values[k]:
                u_bar[where] += edges[k]
                a_bar[where] += slopes[k] * edges[k]
        return self.volumes.join(a_x_bar, a_y_bar), u_bar

    def _slopes(self, a: Tensor) -> list[Tensor]:
        """∂u_wall/∂a = −F h/(2a²) in the cells along each wall."""
        a_x, a_y = self.volumes.components(a)
        left, right, bottom, top = self.volumes.inflow
        h_x, h_y = self.volumes.grid.dx, self.volumes.grid.dy
        return [
            -left * h_x / (2 * a_x[..., LOW].square()),
            -right * h_x / (2 * a_x[..., HIGH].square()),
            -bottom * h_y / (2 * a_y[..., LOW, :].square()),
            -top * h_y / (2 * a_y[..., HIGH, :].square()),
        ]

    def _corners(self) -> list[tuple[tuple[slice, slice], tuple[int, int], tuple[float, float]]]:
        """For each corner: row and column, its two sides (numbers in SIDES) and their weights."""
        corners = []
        for row, side_y in ((LOW, 2), (HIGH, 3)):
            for column, side_x in ((LOW, 0), (HIGH, 1)):
                fixed_x, fixed_y = self.volumes.values[side_x], self.volumes.values[side_y]
                weight_x = 0.5 if fixed_x == fixed_y else float(fixed_x)
                corners.append(((row, column), (side_x, side_y), (weight_x, 1 - weight_x)))
        return corners

    def _assemble(self, u: Tensor, *walls: Tensor) -> Tensor:
        """Cells, walls and corners in one field."""
        corners = [
            weight_x * walls[side_x][..., row, :] + weight_y * walls[side_y][..., :, column]
            for (row, column), (side_x, side_y), (weight_x, weight_y) in self._corners()
        ]
        left, right, bottom, top = walls
        return torch.cat(
            (
                torch.cat((corners[0], bottom, corners[1]), -1),
                torch.cat((left, u, right), -1),
                torch.cat((corners[2], top, corners[3]), -1),
            ),
            -2,
        )
