"""Where the equation holds and what drives it: grid, boundary conditions, sources and wells."""

from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from pdediff.cases.section import FaceData, Formula, Interval, Real, Section, Unit, as_tuple, key_error
from pdediff.solvers.boundary import SIDES, Boundary, Flux, Value
from pdediff.solvers.grid import Grid
from pdediff.solvers.source import Well, source_field

MOST_ELONGATED = 1e4  # a cell: beyond it solvers lose digits, and the two units are hardly meant to be the same
NARROWEST = 1e-9  # domain, relative to its coordinates: a thousand cells still have distinct centres
Cells = Annotated[int, Field(ge=4, le=4096)]


class DomainSection(Section):
    """The rectangle on which the equation holds."""

    x: Interval = Field(default=(0.0, 1.0), description="Left and right end [x0, x1], in `unit`.")
    y: Interval = Field(default=(0.0, 1.0), description="Lower and upper end [y0, y1], in `unit`.")
    unit: Unit = Field(
        default="m", description="Unit of length of every coordinate in the case; a label, nothing is converted."
    )

    @model_validator(mode="before")
    @classmethod
    def _no_mesh(cls, data: Any) -> Any:
        if isinstance(data, dict) and "mesh" in data:
            raise key_error(
                "mesh", "meshes are not available in this version; give the rectangle as x: [0, 1], y: [0, 1]"
            )
        return data

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        for name, (low, high) in (("x", self.x), ("y", self.y)):
            if not low < high:
                raise key_error(name, f"must increase, got [{low:g}, {high:g}]; write [{high:g}, {low:g}]")
            if high - low < NARROWEST * max(abs(low), abs(high), NARROWEST):
                raise key_error(name, f"[{low!r}, {high!r}] is too narrow to be resolved in double precision")
        return self


class GridSection(Section):
    """The regular grid of the unknown coefficient and of the solution."""

    shape: Annotated[tuple[Cells, Cells], BeforeValidator(as_tuple)] = Field(
        description="Numbers of cells [ny, nx]. Fields are stored (..., y, x); row 0 is the bottom."
    )
    domain: DomainSection = Field(default=DomainSection(), description="The rectangle; the unit square by default.")

    @model_validator(mode="after")
    def _cells_are_not_threads(self) -> Self:
        dy, dx = ((high - low) / n for (low, high), n in zip((self.domain.y, self.domain.x), self.shape, strict=True))
        if max(dx / dy, dy / dx) > MOST_ELONGATED:
            raise key_error(
                "domain",
                f"cells of {dx:g} × {dy:g} {self.domain.unit} are longer than {MOST_ELONGATED:g} times their width; "
                "change x, y or shape",
            )
        return self

    def build(self) -> Grid:
        """The solver's grid."""
        return Grid(self.shape, self.domain.x, self.domain.y, self.domain.unit)


class SideSection(Section):
    """The condition on one side: `value` fixes u there, `flux` lets a known amount in."""

    value: FaceData | None = Field(
        default=None, description="u on this side: a number, an expression in x, y, or a list, one a face."
    )
    flux: FaceData | None = Field(
        default=None,
        description="Inflow a ∂u/∂n (n outward) per unit length: a number, an expression, or a list; 0 is no flow.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if self.value is not None and self.flux is not None:
            raise key_error("flux", "contradicts value: a side has either a value or a flux")
        if self.value is None and self.flux is None:
            raise ValueError("needs either value (u is fixed) or flux (inflow; 0 for no flow)")
        return self

    def build(self) -> Value | Flux:
        """The solver's condition."""
        return Flux(self.flux) if self.flux is not None else Value(0.0 if self.value is None else self.value)


ZERO = SideSection(value=0.0)


class BoundarySection(Section):
    """Conditions on the four sides; u = 0 where nothing is said."""

    left: SideSection = Field(default=ZERO, description="Condition at the smallest x.")
    right: SideSection = Field(default=ZERO, description="Condition at the largest x.")
    bottom: SideSection = Field(default=ZERO, description="Condition at the smallest y.")
    top: SideSection = Field(default=ZERO, description="Condition at the largest y.")

    def build(self, refine: int = 1) -> Boundary:
        """The solver's boundary; on a ``refine`` times finer grid, a list has one value for all parts of a face."""
        return Boundary(**{side: _repeated(getattr(self, side).build(), refine) for side in SIDES})


def _repeated(condition: Value | Flux, refine: int) -> Value | Flux:
    if not isinstance(condition.data, tuple):
        return condition
    values = np.repeat(condition.data, refine)
    return Value(values) if isinstance(condition, Value) else Flux(values)


class WellSection(Section):
    """A point source."""

    x: Real = Field(description="Position, in the unit of the domain.")
    y: Real = Field(description="Position, in the unit of the domain.")
    rate: Real = Field(
        description="What the well puts in, in a-unit × u-unit: positive injects, negative pumps. That is volume per "
        "unit time if a is a transmissivity, and per unit thickness if a is a conductivity."
    )

    def build(self) -> Well:
        """The solver's well."""
        return Well(self.x, self.y, self.rate)


class SourceSection(Section):
    """The right-hand side f of −∇·(a∇u) = f."""

    value: Formula = Field(
        default=0.0,
        description="f: a number or an expression in x, y; inflow per unit area (recharge), a-unit × u-unit / length².",
    )
    wells: Annotated[tuple[WellSection, ...], BeforeValidator(as_tuple)] = Field(
        default=(), max_length=10_000, description="Point sources, added to f."
    )

    def build(self, grid: Grid) -> NDArray[np.float64]:
        """f at the cells of ``grid``, wells included: (ny, nx)."""
        return source_field(grid, self.value, [well.build() for well in self.wells])
