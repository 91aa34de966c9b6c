"""Masks: some cells are seen, the others are not.

Inpainting sees all but a hole, outpainting a part from which the rest is to be continued; all cells seen is denoising.
"""

from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pdediff.likelihoods.operators.base import FieldOperator, cell_places
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid


class Mask(FieldOperator):
    """Cells (B, ny, nx) -> the values (m,) of those that are seen, row by row.

    Parameters
    ----------
    grid: the cells.
    seen: which are seen (ny, nx), boolean.

    Raises
    ------
    InputError: an array of another shape, or no cell that is seen.

    """

    def __init__(self, grid: Grid, seen: ArrayLike, device: str | torch.device = "cpu") -> None:
        seen = np.asarray(seen, dtype=bool)
        if seen.shape != grid.shape:
            raise InputError(f"a mask for a grid of {grid.ny} × {grid.nx} has shape {seen.shape}")
        if not seen.any():
            raise InputError("a mask must leave at least one cell to see")
        with torch.inference_mode(False):  # a kept tensor must serve autograd too
            self.index = torch.as_tensor(np.flatnonzero(seen), device=device)
        self.in_shape, self.out_shape = grid.shape, (len(self.index),)
        self.places = cell_places(grid)[seen.ravel()]

    @classmethod
    def inside(
        cls, grid: Grid, x: tuple[float, float], y: tuple[float, float], device: str | torch.device = "cpu"
    ) -> Self:
        """See the cells whose centres lie in the box x[0] to x[1], y[0] to y[1]: outpainting.

        Raises InputError if there is none.
        """
        return cls(grid, _in_box(grid, x, y), device)

    @classmethod
    def outside(
        cls, grid: Grid, x: tuple[float, float], y: tuple[float, float], device: str | torch.device = "cpu"
    ) -> Self:
        """See all cells but those whose centres lie in the box: inpainting.

        Raises InputError if there is none in the box, or none outside.
        """
        return cls(grid, ~_in_box(grid, x, y), device)

    def __call__(self, field: Tensor) -> Tensor:
        """(B, ny, nx) -> (B, m)."""
        return field.flatten(-2)[..., self.index]

    def adjoint(self, data: Tensor) -> Tensor:
        """The data in their cells, zero in the others: (B, m) -> (B, ny, nx)."""
        ny, nx = self.in_shape
        return data.new_zeros(*data.shape[:-1], ny * nx).index_copy(-1, self.index, data).unflatten(-1, (ny, nx))


def _in_box(grid: Grid, x: tuple[float, float], y: tuple[float, float]) -> np.ndarray:
    centre_x, centre_y = grid.mesh()
    inside = (x[0] <= centre_x) & (centre_x <= x[1]) & (y[0] <= centre_y) & (centre_y <= y[1])
    if not inside.any():
        raise InputError(f"no cell of the domain has its centre in the box {list(x)} × {list(y)}")
    return inside
