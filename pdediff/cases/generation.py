"""Recipes of data sets: which coefficients are drawn, what is solved for them, how many, and how they are stored.

A recipe has the sections of a case where it means the same (`pde`, `grid`, `boundary`, `source`), and is read with the
same care: unknown keys are errors, with their line and the nearest valid one.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

import pdediff.datasets
from pdediff.cases.choices import PDES, Choices
from pdediff.cases.files import shipped_recipe
from pdediff.cases.geometry import BoundarySection, GridSection, SourceSection
from pdediff.cases.messages import validate
from pdediff.cases.overrides import apply_set
from pdediff.cases.prior import LogNormalPrior
from pdediff.cases.reader import Node, read_yaml
from pdediff.cases.section import Positive, Section, Seed, Unit, as_number, as_tuple, key_error
from pdediff.cases.suggest import nearest
from pdediff.solvers.errors import InputError

LAWS = Choices(("two-phase", "log-normal"))
SOLVERS = Choices(("finite-volumes", "published"))
FIELDS = Choices(("a", "u", "mu"))


class TwoPhaseSection(Section):
    """Two materials, split by the sign of the Gaussian field mu of the published benchmark."""

    law: Annotated[str, LAWS] = Field(description="The law of a.")
    alpha: Annotated[float, Field(gt=0.5, le=20), BeforeValidator(as_number)] = Field(
        default=2.0, description="Smoothness of mu: its covariance is (−Δ + tau²)^(−alpha), up to a factor."
    )
    tau: Positive = Field(default=3.0, description="Inverse length scale of mu, in 1 / unit of the domain.")
    low: Positive = Field(default=3.0, description="a where mu < 0, in `units`.")
    high: Positive = Field(default=12.0, description="a where mu ≥ 0, in `units`.")
    units: Unit = Field(default="", description="Unit of a, for labels, such as m/d.")

    @model_validator(mode="after")
    def _phases_differ(self) -> Self:
        if not self.low < self.high:
            raise key_error("low", f"must be less than high, got {self.low:g} and {self.high:g}")
        return self


class SolverSection(Section):
    """What makes u of a."""

    kind: Annotated[str, SOLVERS] = Field(
        default="finite-volumes",
        description="finite-volumes: the solver of all inference. published: that of the published Darcy benchmark, "
        "spline overshoots included; on the unit square, u = 0 on every side, one number as source.",
    )
    refine: int = Field(
        default=1, ge=1, le=8, description="Finite volumes on cells this many times smaller, averaged afterwards."
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, data: Any) -> Any:
        return {"kind": data} if isinstance(data, str) else data


def _law(value: Any) -> str | None:
    """The law that a coefficient is meant to have; what is none of them is left to the first, to be refused there."""
    if not isinstance(value, dict):
        return type(value).__name__ if isinstance(value, Section) else None
    log_normal = nearest(str(value.get("law")), LAWS.available) == "log-normal"
    return LogNormalPrior.__name__ if log_normal else TwoPhaseSection.__name__


Coefficient = Annotated[
    Annotated[TwoPhaseSection, Tag(TwoPhaseSection.__name__)] | Annotated[LogNormalPrior, Tag(LogNormalPrior.__name__)],
    Discriminator(
        _law,
        custom_error_type="law",
        custom_error_message="must be {law: two-phase, …} or {law: log-normal, variogram: …}",
    ),
]


class DatasetRecipe(Section):
    """A recipe of a data set: samples of a and of the solution u of a PDE."""

    pde: Annotated[str, PDES] = Field(description="The equation. darcy: −∇·(a∇u) = f, for a and u.")
    grid: GridSection = Field(description="Domain and resolution.")
    boundary: BoundarySection = Field(
        default=BoundarySection(), description="Conditions on the four sides; u = 0 by default."
    )
    source: SourceSection = Field(default=SourceSection(), description="Sources and wells; none by default.")
    coefficient: Coefficient = Field(description="The law of a.")
    solver: SolverSection = Field(default=SolverSection(), description="What makes u of a.")
    fields: Annotated[
        tuple[Annotated[str, FIELDS], ...], Field(min_length=1, max_length=3), BeforeValidator(as_tuple)
    ] = Field(
        default=("a", "u"),
        description="What is stored: a, u, and mu, the Gaussian field behind a. Without u nothing is solved.",
    )
    samples: int = Field(ge=1, le=10_000_000, description="How many.")
    seed: Seed = Field(default=0, description="Sample i is determined by seed and i, and by nothing else.")
    precision: Literal["float32", "float64"] = Field(
        default="float32", description="Stored numbers; all is computed in float64."
    )
    units: Unit = Field(default="", description="Unit of u, for labels, such as m.")
    chunk: int = Field(
        default=50, ge=1, le=100_000, description="Samples written at a time: what a kill may lose. Changes no result."
    )

    @model_validator(mode="after")
    def _fields_differ(self) -> Self:
        if len(set(self.fields)) < len(self.fields):
            raise key_error("fields", f"names a field twice: {', '.join(self.fields)}")
        return self

    @model_validator(mode="after")
    def _as_published(self) -> Self:
        if self.solver.kind == "published":
            if self.solver.refine > 1:
                raise key_error("solver", "the published solver has no refine")
            if self.grid.domain.x != (0, 1) or self.grid.domain.y != (0, 1):
                raise key_error("grid", "the published solver works on the unit square, x: [0, 1] and y: [0, 1]")
            if self.boundary != BoundarySection():
                raise key_error("boundary", "the published solver has u = 0 on every side; leave boundary out")
            if self.source.wells or isinstance(self.source.value, str):
                raise key_error("source", "the published solver takes one number, source: {value: 1}")
        return self

    def resolved(self) -> dict[str, Any]:
        """All that determines the samples, as plain data, every default filled in."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"chunk"})


def load_recipe(name: str, overrides: Sequence[str] = ()) -> tuple[str, DatasetRecipe]:
    """A recipe and what to call it.

    Parameters
    ----------
    name : a recipe file, or the name of a shipped one.
    overrides : ``key=value`` each, as after ``--set``.

    Raises
    ------
    InputError : one line, ``FILE:LINE: what, and the nearest valid spelling``.
    """
    path = shipped_recipe(name, pdediff.datasets)
    tree = read_yaml(path, "recipe")
    for option in overrides:
        tree = apply_set(tree, option)
    recipe = validate(tree, DatasetRecipe)
    if "u" in recipe.fields:
        _check_equation(recipe, tree)
    return path.stem, recipe


def _check_equation(recipe: DatasetRecipe, tree: Node) -> None:
    """Boundary and source are finite on the grid that is solved on, wells are inside, and a steady state exists."""
    boundary, grid = recipe.boundary.build(recipe.solver.refine), recipe.grid.build().refine(recipe.solver.refine)
    checks: tuple[tuple[str, Callable[[], object]], ...] = (
        ("boundary", lambda: boundary.evaluate(grid)),
        ("source", lambda: recipe.source.build(grid)),
        ("boundary", lambda: boundary.check_compatible(grid, recipe.source.build(grid))),
    )
    for key, check in checks:
        try:
            check()
        except InputError as error:
            raise tree.error((key,), f"{key}: {error}") from None
