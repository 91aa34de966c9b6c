"""What holds on the four walls of the rectangle, and what the rectangle holds inside.

Each wall carries either a value of u (Dirichlet) or a flux (Neumann). The flux is the *inflow* per unit length,
a ∂u/∂n with the outward normal n: positive brings water in, 0 is an impermeable wall.

Face arrays run with the coordinate: ``left`` and ``right`` from bottom to top ``(ny,)``, ``bottom`` and ``top`` from
left to right ``(nx,)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pdediff.solvers.errors import InputError
from pdediff.solvers.expressions import Expression
from pdediff.solvers.grid import Grid

SIDES = ("left", "right", "bottom", "top")
COMPATIBILITY = 1e-8  # relative imbalance that an all-flux boundary may have

Data: TypeAlias = float | tuple[float, ...] | Expression
DataLike: TypeAlias = float | str | Expression | Sequence[float] | NDArray[np.float64]


def _data(value: DataLike, what: str) -> Data:
    """A number, one number a face, or a formula, in a form that compares and hashes."""
    if isinstance(value, Expression):
        return value
    if isinstance(value, str):
        return Expression(value)
    numbers = _floats(value, what)
    if numbers.ndim > 1:
        raise InputError(f"{what} must be a number, one number a face, or an expression; got shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise InputError(f"{what} must be finite, got {value}")
    return float(numbers) if numbers.ndim == 0 else tuple(numbers.tolist())


def _floats(value: ArrayLike, what: str) -> NDArray[np.float64]:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what} must be a number, an array or an expression, got {value!r}") from None


@dataclass(frozen=True)
class Value:
    """u is given on the wall: a number, an array over the wall's faces, or an expression in x and y."""

    value: DataLike

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _data(self.value, "a boundary value"))

    @property
    def data(self) -> Data:
        """The number, tuple or Expression that was given."""
        return cast(Data, self.value)  # as `_data` made it


@dataclass(frozen=True)
class Flux:
    """The inflow a ∂u/∂n (outward n) per unit length is given: a number, an array over the faces, or an expression."""

    flux: DataLike = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "flux", _data(self.flux, "a boundary flux"))

    @property
    def data(self) -> Data:
        """The number, tuple or Expression that was given."""
        return cast(Data, self.flux)


@dataclass(frozen=True)
class Boundary:
    """Conditions on the four walls; u = 0 where nothing is said."""

    left: Value | Flux = field(default_factory=lambda: Value(0.0))
    right: Value | Flux = field(default_factory=lambda: Value(0.0))
    bottom: Value | Flux = field(default_factory=lambda: Value(0.0))
    top: Value | Flux = field(default_factory=lambda: Value(0.0))

    def __post_init__(self) -> None:
        for side in SIDES:
            if not isinstance(getattr(self, side), Value | Flux):
                raise InputError(f"boundary {side} must be a Value or a Flux, got {getattr(self, side)!r}")

    def is_value(self, side: str) -> bool:
        """Whether u (and not a flux) is given on ``side``."""
        return isinstance(getattr(self, side), Value)

    @property
    def all_flux(self) -> bool:
        """Whether no wall fixes u, so that u is known up to a constant only."""
        return not any(self.is_value(side) for side in SIDES)

    def evaluate(self, grid: Grid) -> dict[str, NDArray[np.float64]]:
        """The data of each wall at its face centres: left, right ``(ny,)``; bottom, top ``(nx,)``.

        Raises InputError for an array that does not fit the grid or an expression that is not finite on the wall.
        """
        x, y = grid.centres()
        points = {
            "left": (np.full_like(y, grid.x[0]), y),
            "right": (np.full_like(y, grid.x[1]), y),
            "bottom": (x, np.full_like(x, grid.y[0])),
            "top": (x, np.full_like(x, grid.y[1])),
        }
        values = {}
        for side, (px, py) in points.items():
            data = getattr(self, side).data
            if isinstance(data, Expression):
                values[side] = data(px, py)
            elif isinstance(data, tuple):
                if len(data) != px.size:
                    raise InputError(f"boundary {side} has {len(data)} numbers, but the wall has {px.size} faces")
                values[side] = np.array(data)
            else:
                values[side] = np.full(px.size, data)
        return values

    def check_compatible(self, grid: Grid, source: NDArray[np.float64]) -> None:
        """Refuse an all-flux boundary that has no steady state.

        Without a wall that fixes u, all that enters must leave: the integral of the source field ``(ny, nx)`` (wells
        included) plus the inflow through the walls must vanish, to 1e-8 of the sum of their magnitudes.

        Raises InputError otherwise.
        """
        if not self.all_flux:
            return
        flux = self.evaluate(grid)
        inflow = np.concatenate(
            [flux[s] * (grid.dy if s in ("left", "right") else grid.dx) for s in SIDES]
            + [source.ravel() * grid.cell_area]
        )
        net, size = float(inflow.sum()), float(np.abs(inflow).sum())
        if abs(net) > COMPATIBILITY * size:
            raise InputError(
                f"no steady state: every wall gives a flux, but sources and inflow add up to {net:.6g} and not 0; "
                f"balance them or give a value on one wall"
            )
