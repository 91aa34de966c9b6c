"""Support averages: each datum is the mean of the field over a block of cells. Inverting them is super-resolution.

An instrument that sees a volume, a satellite's pixel, a model on a coarser grid.
"""

import math

from torch import Tensor

from pdediff.likelihoods.operators.base import FieldOperator, cell_places
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid


class SupportAverage(FieldOperator):
    """Cells (B, ny, nx) -> the image (ny/k_y, nx/k_x) of the means over blocks of k_y × k_x cells.

    Parameters
    ----------
    grid: the cells.
    factor: k, or (k_y, k_x).

    Attributes
    ----------
    coarse: the grid of the image.

    Raises
    ------
    InputError: a factor that does not divide the grid, or leaves fewer than two blocks along an axis; the message names
        the nearest one that fits.

    """

    def __init__(self, grid: Grid, factor: int | tuple[int, int]) -> None:
        self.factor = (factor, factor) if isinstance(factor, int) else factor
        if any(k < 1 or n % k or n < 2 * k for n, k in zip(grid.shape, self.factor, strict=True)):
            if isinstance(factor, int):
                fitting = f"{_nearest(factor, *grid.shape)}"
            else:
                fitting = f"{_nearest(factor[0], grid.ny)} × {_nearest(factor[1], grid.nx)}"
            raise InputError(
                f"blocks of {self.factor[0]} × {self.factor[1]} cells do not fit a grid of {grid.ny} × {grid.nx} at "
                f"least twice along each axis; the nearest factor that does is {fitting}"
            )
        ny, nx = (n // k for n, k in zip(grid.shape, self.factor, strict=True))
        self.coarse = Grid((ny, nx), grid.x, grid.y, grid.unit)
        self.in_shape, self.out_shape, self.places = grid.shape, self.coarse.shape, cell_places(self.coarse)

    def __call__(self, field: Tensor) -> Tensor:
        """Means over the blocks, flat: (B, ny, nx) -> (B, m)."""
        blocks = field.unflatten(-1, (-1, self.factor[1])).unflatten(-3, (-1, self.factor[0]))
        return blocks.mean(dim=(-3, -1)).flatten(-2)

    def adjoint(self, data: Tensor) -> Tensor:
        """Each datum spread evenly over its block: (B, m) -> (B, ny, nx)."""
        share = data.unflatten(-1, self.out_shape) / math.prod(self.factor)
        return share.repeat_interleave(self.factor[0], dim=-2).repeat_interleave(self.factor[1], dim=-1)


def _nearest(factor: int, *lengths: int) -> int:
    """The factor nearest to the wanted one that fits all the lengths twice or more; the smaller one of two."""
    fitting = (k for k in range(1, min(lengths) // 2 + 1) if all(n % k == 0 for n in lengths))
    return min(fitting, key=lambda k: abs(k - factor))
