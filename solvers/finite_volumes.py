"""Darcy flow −∇·(a∇u) = f on cells: what leaves a cell through its faces is what its sources put in.

The flux density through the face between cells i and i+1 is −(u_{i+1} − u_i)/(h R) with the resistance

    R = ρ_i + ρ_{i+1},    ρ = 1/(2a),

two half-cells in series: 1/R is the harmonic mean of a, exact when a jumps at a face. A wall that fixes u lies half
a cell away, so R = ρ there; a wall that fixes the flux lets nothing through but its given inflow, so 1/R = 0. With
the transmissibility T = 1/(h² R), the differences δu across all faces and the discrete divergence D,

    A(a) u − b = −D(T δu) − (sources and inflow),

and since dR = −da/(2a²), every derivative in a has one form on all faces:

    dT = T² h² (da/(2a²) on one side + da/(2a²) on the other).

Shapes: a cell field is ``(..., ny, nx)``; faces across x are ``(..., ny, nx + 1)``, across y ``(..., ny + 1, nx)``.
A diagonal tensor coefficient is ``(..., 2, ny, nx)``: a_x, then a_y.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from pdediff.solvers.boundary import SIDES, Boundary
from pdediff.solvers.grid import Grid
from pdediff.solvers.source import SourceLike, Well, source_field


class Faces(NamedTuple):
    """Numbers on the faces across x ``(..., ny, nx + 1)`` and across y ``(..., ny + 1, nx)``."""

    x: Tensor
    y: Tensor


class FiniteVolumes:
    """The discrete operator, right-hand side and their derivatives, in plain differentiable tensor operations.

    Parameters
    ----------
    grid : the cells.
    boundary : what holds on the walls.
    source, wells : see ``source_field``.
    anisotropic : whether coefficients are ``(..., 2, ny, nx)`` and not ``(..., ny, nx)``.
    dtype, device : of the fields.

    Raises
    ------
    InputError : data that does not fit the grid, or an all-flux boundary whose sources and inflow do not balance.
    """

    def __init__(
        self, grid: Grid, boundary: Boundary, source: SourceLike, wells: Iterable[Well], anisotropic: bool,
        dtype: torch.dtype, device: torch.device | str,
    ) -> None:  # fmt: skip
        self.grid = grid
        self.anisotropic = anisotropic
        self.values = tuple(boundary.is_value(side) for side in SIDES)  # left, right, bottom, top
        self.singular = boundary.all_flux
        f = source_field(grid, source, wells)
        boundary.check_compatible(grid, f)
        self.f = torch.as_tensor(f, dtype=dtype, device=device)
        data = boundary.evaluate(grid)
        as_cells = {"left": (-1, 1), "right": (-1, 1), "bottom": (1, -1), "top": (1, -1)}  # a column or a row
        walls = [torch.as_tensor(data[side].reshape(as_cells[side]), dtype=dtype, device=device) for side in SIDES]
        self.wall_values = [w if fixed else torch.zeros_like(w) for w, fixed in zip(walls, self.values, strict=True)]
        self.inflow = [torch.zeros_like(w) if fixed else w for w, fixed in zip(walls, self.values, strict=True)]
        left, right, bottom, top = self.inflow
        self._sources = self.f.clone()
        self._sources[:, :1] += left / grid.dx
        self._sources[:, -1:] += right / grid.dx
        self._sources[:1] += bottom / grid.dy
        self._sources[-1:] += top / grid.dy
        self._zeros = [torch.zeros_like(w) for w in walls]
        open_x, open_y = torch.ones(grid.nx + 1), torch.ones(grid.ny + 1)
        open_x[0], open_x[-1], open_y[0], open_y[-1] = map(float, self.values)
        self._open = Faces(open_x.to(device, dtype), open_y[:, None].to(device, dtype))
        self.unit_transmissibilities = self.transmissibilities(self._unit_coefficient())

    def _unit_coefficient(self) -> Tensor:
        return torch.ones((2, *self.grid.shape) if self.anisotropic else self.grid.shape).to(self.f)

    def components(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """The coefficient across x and across y, each ``(..., ny, nx)``."""
        return (a[..., 0, :, :], a[..., 1, :, :]) if self.anisotropic else (a, a)

    def join(self, in_x: Tensor, in_y: Tensor) -> Tensor:
        """Transpose of ``components``: two cell fields to one like the coefficient."""
        return torch.stack((in_x, in_y), dim=-3) if self.anisotropic else in_x + in_y

    def transmissibilities(self, a: Tensor) -> Faces:
        """T = 1/(h² R) on all faces; 0 on walls that fix the flux."""
        a_x, a_y = self.components(a)
        return Faces(
            self._open.x / (self.grid.dx**2 * _sum_x(0.5 / a_x)),
            self._open.y / (self.grid.dy**2 * _sum_y(0.5 / a_y)),
        )

    def differences(self, u: Tensor, homogeneous: bool) -> Faces:
        """δu across all faces, with the wall's value (0 if ``homogeneous``) outside.

        On a wall that fixes the flux it means nothing, but T is 0 there.
        """
        left, right, bottom, top = self._zeros if homogeneous else self.wall_values
        batch = u.shape[:-2]
        column, row = (*batch, self.grid.ny, 1), (*batch, 1, self.grid.nx)
        return Faces(
            torch.cat((left.expand(column), u, right.expand(column)), -1).diff(dim=-1),
            torch.cat((bottom.expand(row), u, top.expand(row)), -2).diff(dim=-2),
        )

    def minus_divergence(self, flow: Faces) -> Tensor:
        """−(difference of x faces + difference of y faces) in every cell; the transpose of homogeneous differences."""
        return -(flow.x.diff(dim=-1) + flow.y.diff(dim=-2))

    def apply(self, t: Faces, u: Tensor) -> Tensor:
        """A u: differences first, so that large nearly equal terms cancel exactly."""
        d = self.differences(u, homogeneous=True)
        return self.minus_divergence(Faces(t.x * d.x, t.y * d.y))

    def right_hand_side(self, t: Faces) -> Tensor:
        """b = f + inflow/h + T g, the last two in the cells at the walls ``(..., ny, nx)``."""
        zero = self.f.new_zeros(()).expand(*t.x.shape[:-1], self.grid.nx)
        d = self.differences(zero, homogeneous=False)
        return self._sources - self.minus_divergence(Faces(t.x * d.x, t.y * d.y))

    def fluxes(self, a: Tensor, u: Tensor) -> Faces:
        """Flux densities −a ∂u/∂x and −a ∂u/∂y on all faces, positive towards larger x and y."""
        t, d = self.transmissibilities(a), self.differences(u, homogeneous=False)
        left, right, bottom, top = self.inflow
        q_x, q_y = -self.grid.dx * t.x * d.x, -self.grid.dy * t.y * d.y
        pad_x, pad_y = q_x.new_zeros(self.grid.ny, self.grid.nx - 1), q_y.new_zeros(self.grid.ny - 1, self.grid.nx)
        return Faces(q_x + torch.cat((left, pad_x, -right), -1), q_y + torch.cat((bottom, pad_y, -top), -2))

    def residual(self, a: Tensor, u: Tensor) -> Tensor:
        """A(a) u − b: net outflow less the sources, per unit area, of every cell."""
        q = self.fluxes(a, u)
        return q.x.diff(dim=-1) / self.grid.dx + q.y.diff(dim=-2) / self.grid.dy - self.f

    def derivative_faces(self, t: Faces, u: Tensor, homogeneous: bool) -> Faces:
        """T² h² δu: what a change of da/(2a²) beside a face adds to T δu there."""
        d = self.differences(u, homogeneous)
        return Faces(t.x.square() * d.x * self.grid.dx**2, t.y.square() * d.y * self.grid.dy**2)

    def tangent(self, a: Tensor, faces: Faces, da: Tensor) -> Tensor:
        """(∂(A u − b)/∂a) da ``(..., ny, nx)`` for ``faces = derivative_faces(t, u)``."""
        w_x, w_y = self.components(da / (2 * a.square()))
        return self.minus_divergence(Faces(faces.x * _sum_x(w_x), faces.y * _sum_y(w_y)))

    def cotangent(self, a: Tensor, faces: Faces, v: Tensor) -> Tensor:
        """Transpose of ``tangent``: the gradient of v · (A u − b) in a, shaped like a."""
        d = self.differences(v, homogeneous=True)
        p_x, p_y = faces.x * d.x, faces.y * d.y
        return self.join(p_x[..., :-1] + p_x[..., 1:], p_y[..., :-1, :] + p_y[..., 1:, :]) / (2 * a.square())


def _sum_x(v: Tensor) -> Tensor:
    """Sum of the cells on both sides of each face across x; a wall has one."""
    return torch.cat((v[..., :1], v[..., :-1] + v[..., 1:], v[..., -1:]), -1)


def _sum_y(v: Tensor) -> Tensor:
    """Sum of the cells on both sides of each face across y; a wall has one."""
    return torch.cat((v[..., :1, :], v[..., :-1, :] + v[..., 1:, :], v[..., -1:, :]), -2)
