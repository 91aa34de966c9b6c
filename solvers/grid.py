"""A rectangle cut into equal cells.

Fields live at cell centres and are stored ``(..., y, x)`` with shape ``(ny, nx)``; row 0 is the bottom of the
domain (smallest y). A finite-volume solver balances fluxes over these cells, so nothing here is a node: the walls
lie half a cell outside the first and last centres.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pdediff.solvers.errors import InputError


@dataclass(frozen=True)
class Grid:
    """A regular cell-centred grid on ``[x0, x1] × [y0, y1]``.

    Parameters
    ----------
    shape : (ny, nx), numbers of cells, at least 2 each.
    x, y : ends of the domain, in ``unit``.
    unit : unit of length, for labels only.

    Raises
    ------
    InputError : a shape that is not two integers ≥ 2, or ends that are not finite and increasing.
    """

    shape: tuple[int, int]
    x: tuple[float, float] = (0.0, 1.0)
    y: tuple[float, float] = (0.0, 1.0)
    unit: str = "m"

    def __post_init__(self) -> None:
        shape = tuple(self.shape)
        if len(shape) != 2 or any(isinstance(n, bool) or n != int(n) or n < 2 for n in shape):
            raise InputError(f"grid shape must be [ny, nx] with at least 2 cells each, got {list(shape)}")
        object.__setattr__(self, "shape", (int(shape[0]), int(shape[1])))
        for name in ("x", "y"):
            try:
                ends = tuple(float(end) for end in getattr(self, name))
            except (TypeError, ValueError):
                raise InputError(f"domain {name} must be two numbers [low, high], got {getattr(self, name)}") from None
            if len(ends) != 2 or not all(map(math.isfinite, ends)) or ends[0] >= ends[1]:
                raise InputError(f"domain {name} must be two increasing numbers [low, high], got {list(ends)}")
            object.__setattr__(self, name, ends)

    @property
    def ny(self) -> int:
        """Number of cells in y (rows)."""
        return self.shape[0]

    @property
    def nx(self) -> int:
        """Number of cells in x (columns)."""
        return self.shape[1]

    @property
    def dx(self) -> float:
        """Width of a cell."""
        return (self.x[1] - self.x[0]) / self.nx

    @property
    def dy(self) -> float:
        """Height of a cell."""
        return (self.y[1] - self.y[0]) / self.ny

    @property
    def cell_area(self) -> float:
        """Area of a cell, in unit²."""
        return self.dx * self.dy

    def centres(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coordinates of the cell centres: x ``(nx,)`` and y ``(ny,)``, increasing."""
        x = self.x[0] + self.dx * (np.arange(self.nx, dtype=np.float64) + 0.5)
        y = self.y[0] + self.dy * (np.arange(self.ny, dtype=np.float64) + 0.5)
        return x, y

    def mesh(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coordinates of every centre as two fields ``(ny, nx)``: x and y."""
        x, y = self.centres()
        return np.broadcast_to(x, self.shape).copy(), np.broadcast_to(y[:, None], self.shape).copy()

    def refine(self, k: int) -> "Grid":
        """The same rectangle with every cell cut into ``k × k``."""
        if k != int(k) or k < 1:
            raise InputError(f"refine must be an integer of at least 1, got {k}")
        return Grid((self.ny * int(k), self.nx * int(k)), self.x, self.y, self.unit)

    def contains(self, points: ArrayLike) -> NDArray[np.bool_]:
        """Which of ``points (..., 2)``, given as (x, y), lie in the closed rectangle: ``(...)``."""
        points = np.asarray(points, dtype=np.float64)
        px, py = points[..., 0], points[..., 1]
        return (self.x[0] <= px) & (px <= self.x[1]) & (self.y[0] <= py) & (py <= self.y[1])

    def cell_of(self, x: float, y: float) -> tuple[int, int]:
        """Row and column ``(j, i)`` of the cell that holds the point; a point on the far wall is in the last cell.

        Raises InputError if the point is outside the domain.
        """
        if not self.contains((x, y)):
            raise InputError(
                f"point ({x:g}, {y:g}) is outside the domain x in [{self.x[0]:g}, {self.x[1]:g}], "
                f"y in [{self.y[0]:g}, {self.y[1]:g}]"
            )
        i = min(int((x - self.x[0]) / self.dx), self.nx - 1)
        j = min(int((y - self.y[0]) / self.dy), self.ny - 1)
        return j, i
