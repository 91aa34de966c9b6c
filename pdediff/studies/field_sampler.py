"""From a recipe and a number to the fields of one sample."""

from collections.abc import Callable

import torch
from torch import Tensor

from pdediff.cases.generation import DatasetRecipe, TwoPhaseSection
from pdediff.datasets.coefficients import CoefficientLaw, LogNormalLaw, TwoPhaseLaw, prolong, restrict
from pdediff.datasets.embedding import embed
from pdediff.datasets.published import PublishedDarcy
from pdediff.datasets.random_fields import benchmark_field
from pdediff.datasets.seeds import sample_seed
from pdediff.solvers.darcy import Darcy
from pdediff.solvers.errors import ConvergenceError, InputError


class FieldSampler:
    """Draws the samples of a recipe, one by one: sample i depends on (seed, i) only.

    Raises InputError for a variogram that is too long for the domain.
    """

    def __init__(self, recipe: DatasetRecipe) -> None:
        self.recipe = recipe
        self.law = coefficient_law(recipe)
        self._solve = _solver(recipe) if "u" in recipe.fields else None

    def draw(self, index: int) -> dict[str, Tensor]:
        """The fields of sample `index`, (ny, nx) each, float64: a, mu, and u if the recipe has it.

        Raises ConvergenceError where the equation cannot be solved.
        """
        generator = torch.Generator().manual_seed(sample_seed(self.recipe.seed, index))
        mu = self.law.field.sample(1, generator, torch.float64)
        a = self.law.coefficient(self.law.normalise(mu))
        fields = {"a": a[0], "mu": mu[0]}
        if self._solve is not None:
            try:
                fields["u"] = self._solve(a)[0]
            except (InputError, ConvergenceError) as error:  # the recipe was right; this a is beyond the solver
                raise ConvergenceError(f"sample {index}: {error}") from error
        return fields


def coefficient_law(recipe: DatasetRecipe) -> CoefficientLaw:
    """The law of a on the recipe's grid."""
    grid, section = recipe.grid.build(), recipe.coefficient
    if isinstance(section, TwoPhaseSection):
        lengths = (grid.y[1] - grid.y[0], grid.x[1] - grid.x[0])
        field = benchmark_field(grid.shape, section.alpha, section.tau, lengths)
        return TwoPhaseLaw(field, section.low, section.high)
    return LogNormalLaw(embed(section.variogram.build(), grid), section.mean)


def _solver(recipe: DatasetRecipe) -> Callable[[Tensor], Tensor]:
    """From a to u, (n, ny, nx) both."""
    if recipe.solver.kind == "published":
        assert isinstance(recipe.source.value, float)  # the recipe was checked
        return PublishedDarcy(recipe.grid.shape, recipe.source.value).solve
    refine = recipe.solver.refine
    grid = recipe.grid.build().refine(refine)
    darcy = Darcy(grid, recipe.boundary.build(refine), recipe.source.build(grid))
    return lambda a: restrict(darcy.solve(prolong(a, refine)), refine)
