"""Where the strong residual is looked at: random points, away from the walls.

Beside a wall a finite-volume solution errs by O(h²) like everywhere, but not smoothly, so that its second derivatives
err by O(1); values on walls with a flux, and in corners, do the same. A spline carries that inwards, 0.27 times as much
in each further cell. Further inside, the residual of a discrete solution is of second order in h.
"""

import numpy as np
from numpy.typing import NDArray

from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

MARGIN = 3.0  # cells


def scatter(grid: Grid, count: int, seed: int, margin: float = MARGIN) -> NDArray[np.float64]:
    """Uniform random points (count, 2) that keep `margin` cells away from the walls.

    Raises InputError for a grid that has no cell so far inside.
    """
    if min(grid.shape) <= 2 * margin:
        raise InputError(f"a grid of {grid.ny} × {grid.nx} cells has no point {margin:g} cells away from its walls")
    low = np.array([grid.x[0] + margin * grid.dx, grid.y[0] + margin * grid.dy])
    high = np.array([grid.x[1] - margin * grid.dx, grid.y[1] - margin * grid.dy])
    return low + (high - low) * np.random.default_rng(seed).random((count, 2))
