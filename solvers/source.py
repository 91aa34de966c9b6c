"""What enters the domain per unit area: a source field and point wells.

A well is a point source: a rate spread evenly over the cell that holds it, rate / cell_area. Under refinement the field
converges to the delta function and u to the Green's function away from the well.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pdediff.solvers.errors import InputError
from pdediff.solvers.expressions import Expression
from pdediff.solvers.grid import Grid

SourceLike: TypeAlias = float | str | Expression | NDArray[np.float64]


@dataclass(frozen=True)
class Well:
    """A point source at (x, y); ``rate`` is the volume injected per unit time, negative for pumping."""

    x: float
    y: float
    rate: float

    def __post_init__(self) -> None:
        if not np.isfinite([self.x, self.y, self.rate]).all():
            raise InputError(f"a well needs finite x, y and rate, got x={self.x}, y={self.y}, rate={self.rate}")


def source_field(grid: Grid, source: SourceLike = 0.0, wells: Iterable[Well] = ()) -> NDArray[np.float64]:
    """The source per unit area ``(ny, nx)``: a number, an array ``(ny, nx)`` or an expression in x, y, plus the wells.

    Raises InputError for an array of another shape, values that are not finite, or a well outside the domain.
    """
    if isinstance(source, str):
        source = Expression(source)
    if isinstance(source, Expression):
        f = source(*grid.mesh())
    else:
        try:
            given = np.asarray(source, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(f"source must be a number, an array or an expression, got {source!r}") from None
        if given.shape not in ((), grid.shape):
            raise InputError(f"source has shape {given.shape}, but the grid is {grid.shape}")
        f = np.array(np.broadcast_to(given, grid.shape))
    if not np.isfinite(f).all():
        raise InputError(f"source is not finite in {int((~np.isfinite(f)).sum())} of {f.size} cells")
    for well in wells:
        try:
            f[grid.cell_of(well.x, well.y)] += well.rate / grid.cell_area
        except InputError as error:
            raise InputError(f"well: {error}") from None
    return f
