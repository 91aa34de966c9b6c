"""Gaussian blur: each pixel is the mean of the field around it, weighted by exp(−r²/(2 w²)).

The weight is a product of one of x and one of y, so the operator is a matrix for each axis, A f = K_y f K_xᵀ. What lies
beyond the walls is an assumption. By default it is the field's mirror image: K is then symmetric, keeps constants, and
keeps the integral of the field.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from pdediff.likelihoods.operators.base import FieldOperator, cell_places
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

Boundary = Literal["mirror", "periodic", "replicate", "zero"]

REACH = 9.0  # widths: what is beyond them weighs less than rounding, exp(−9²/2) = 3e-18


class GaussianBlur(FieldOperator):
    """Cells (B, ny, nx) -> the image (ny, nx), blurred.

    Parameters
    ----------
    grid: the cells.
    width: standard deviation w of the Gaussian, in the grid's unit. A tensor that requires a gradient passes it on, so
        that a width can be estimated: `GaussianBlur(grid, w)(field)` is differentiable in w.
    boundary: the field beyond the walls: its "mirror" image, its "periodic" copy, its outermost values ("replicate"),
        or "zero". Mirror and periodic images keep the integral; zero makes the image fade at the walls.

    Raises
    ------
    InputError: a width that is not positive or beyond ten domains, or an unknown boundary.

    """

    def __init__(
        self,
        grid: Grid,
        width: float | Tensor,
        boundary: Boundary = "mirror",
        device: str | torch.device = "cpu",
    ) -> None:
        if boundary not in get_args(Boundary):
            raise InputError(f"the boundary of a blur is one of {', '.join(get_args(Boundary))}, not {boundary!r}")
        width = torch.as_tensor(width, dtype=torch.float64, device=device)
        value, largest = width.item(), 10 * max(grid.x[1] - grid.x[0], grid.y[1] - grid.y[0])
        if not 0 < value <= largest:
            raise InputError(f"the width of a blur must be above 0, at most {largest:g} {grid.unit}, got {value:g}")
        self.in_shape = self.out_shape = grid.shape
        self.places = cell_places(grid)
        with torch.inference_mode(False):  # kept tensors must serve autograd too
            self.rows = _blur_matrix(grid.ny, width / grid.dy, boundary)
            self.columns = _blur_matrix(grid.nx, width / grid.dx, boundary)

    def __call__(self, field: Tensor) -> Tensor:
        """K_y f K_xᵀ, flat: (B, ny, nx) -> (B, ny·nx)."""
        return (self.rows.to(field) @ field @ self.columns.to(field).T).flatten(-2)

    def adjoint(self, data: Tensor) -> Tensor:
        """K_yᵀ d K_x: (B, ny·nx) -> (B, ny, nx)."""
        return self.rows.to(data).T @ data.unflatten(-1, self.out_shape) @ self.columns.to(data)


def gaussian_kernel(width: Tensor, reach: int) -> Tensor:
    """Weights of the offsets −reach … reach, in cells: (2·reach + 1,), positive, of sum 1; differentiable in the width.

    The width is a standard deviation in cells, a scalar tensor. A kernel in the plane is the outer product of two.
    """
    offsets = torch.arange(-reach, reach + 1, dtype=width.dtype, device=width.device)
    return torch.softmax(-0.5 * (offsets / width) ** 2, dim=0)


def _blur_matrix(n: int, width: Tensor, boundary: Boundary) -> Tensor:
    """K (n, n) of an axis of n cells: the kernel's offsets from each cell, folded back between the walls."""
    reach = math.ceil(REACH * width.item())
    offsets = torch.arange(-reach, reach + 1, device=width.device)
    beyond = torch.arange(n, device=width.device)[:, None] + offsets
    weight = gaussian_kernel(width, reach).expand(n, -1)
    if boundary == "mirror":
        turn = beyond % (2 * n)
        inside = torch.minimum(turn, 2 * n - 1 - turn)
    elif boundary == "periodic":
        inside = beyond % n
    else:
        inside = beyond.clamp(0, n - 1)
        if boundary == "zero":
            weight = weight * (inside == beyond)
    return weight.new_zeros(n, n).scatter_add(1, inside, weight)
