"""The solution with its values on the walls: one ring of numbers around the cells.

Between the outermost centres and the walls a sensor sees u go linearly to the wall's value. Where the boundary gives
a value that is it; where it gives the flux F (inflow), the half-cell's own law a (u_wall − u)/(h/2) = F gives

    u_wall = u + F h/(2a).

At a corner a wall that fixes u is extended linearly by half a cell, and two such walls are averaged; between two walls
with fluxes the corner is u_wall,x + u_wall,y − u. Every rule is exact for linear u.
"""

import torch
from torch import Tensor

from pdediff.solvers.finite_volumes import FiniteVolumes

LOW, HIGH = slice(0, 1), slice(-1, None)


class Walls:
    """Pads cell fields to ``(..., ny + 2, nx + 2)`` for one discretisation, with derivative and transpose."""

    def __init__(self, volumes: FiniteVolumes) -> None:
        self.volumes = volumes
        left, right, bottom, top = volumes.wall_values
        self._corners = []  # (row, column), its sides as numbers in SIDES, and its value if a wall gives one
        for row, side_y, along_y in ((LOW, 2, bottom), (HIGH, 3, top)):
            for column, side_x, along_x in ((LOW, 0, left), (HIGH, 1, right)):
                extended = [
                    _extend(along_x.view(-1), row) if volumes.values[side_x] else None,
                    _extend(along_y.view(-1), column) if volumes.values[side_y] else None,
                ]
                known = [value for value in extended if value is not None]
                self._corners.append(((row, column), (side_x, side_y), torch.stack(known).mean(0) if known else None))

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
        return self._assemble(u, walls, given=True)

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
        return self._assemble(du, walls, given=False)

    def cotangent(self, a: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Transpose of ``tangent``: ``v (..., ny + 2, nx + 2)`` to (a_bar by the walls alone, u_bar)."""
        u_bar = v[..., 1:-1, 1:-1].clone()
        edges = [v[..., 1:-1, LOW], v[..., 1:-1, HIGH], v[..., LOW, 1:-1], v[..., HIGH, 1:-1]]
        edges = [edge.clone() for edge in edges]
        for (row, column), (side_x, side_y), value in self._corners:
            if value is None:
                corner = v[..., row, column]
                edges[side_x][..., row, :] += corner
                edges[side_y][..., :, column] += corner
                u_bar[..., row, column] -= corner
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

    def _assemble(self, u: Tensor, walls: list[Tensor], given: bool) -> Tensor:
        """Cells, walls and corners in one field; known corners are 0 unless ``given``."""
        corners = []
        for (row, column), (side_x, side_y), value in self._corners:
            corner = walls[side_x][..., row, :] + walls[side_y][..., :, column] - u[..., row, column]
            if value is not None:
                corner = (value if given else torch.zeros_like(value)).expand_as(corner)
            corners.append(corner)
        left, right, bottom, top = walls
        return torch.cat(
            (
                torch.cat((corners[0], bottom, corners[1]), -1),
                torch.cat((left, u, right), -1),
                torch.cat((corners[2], top, corners[3]), -1),
            ),
            -2,
        )


def _extend(values: Tensor, end: slice) -> Tensor:
    """Values at face centres ``(n,)``, continued linearly to the wall's lower or upper end: ``(1, 1)``."""
    last, before = (values[0], values[1]) if end == LOW else (values[-1], values[-2])
    return (1.5 * last - 0.5 * before).view(1, 1)
