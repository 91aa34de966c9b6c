"""What a network learns: functions drawn from a recipe's law, scaled to numbers of unit size.

A prior of the coefficient alone has one channel, x_a. A joint prior has a second one for the solution of the same
coefficient, x_u = (u − mean)/scale; the solver that ties the two is the one that inference uses, so that its residual
vanishes on every function that the network sees.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pdediff.datasets.coefficients import TwoPhaseLaw
from pdediff.datasets.random_fields import benchmark_field
from pdediff.solvers.boundary import SIDES, Boundary, Value
from pdediff.solvers.darcy import Darcy
from pdediff.solvers.grid import Grid
from pdediff.training.recipe import Recipe, Solution, TwoPhase

SCALING_DRAWS = 1024  # functions from which the solution's mean and standard deviation are measured
SOLVE_RTOL = 1e-5  # far below what a network resolves


class Functions(ABC):
    """Functions to learn."""

    @property
    @abstractmethod
    def card(self) -> dict[str, Any]:
        """What the weights' card says of them: fields, parametrisation, preconditioning."""

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Functions x_0 (count, channels, ny, nx), on the generator's device."""


@dataclass(frozen=True)
class Coefficients(Functions):
    """The coefficient alone."""

    law: TwoPhaseLaw

    @property
    def card(self) -> dict[str, Any]:
        """One field; x = ±1, either phase with probability one half."""
        return {
            "fields": ["a"],
            "parametrisation": {"kind": "two-phase", "low": self.law.low, "high": self.law.high},
            "preconditioning": {"sigma_data": 1.0, "mean": 0.0},
        }

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """x_a (count, 1, ny, nx)."""
        return self.law.sample_x(count, generator)[:, None]


@dataclass(frozen=True)
class Pairs(Functions):
    """Coefficient and solution.

    Parameters
    ----------
    law: of the coefficient.
    solution: the equation, and the amplitude of x_u.
    darcy: its solver on the law's cells.
    mean, scale: u = mean + scale·x_u.

    """

    law: TwoPhaseLaw
    solution: Solution
    darcy: Darcy
    mean: float
    scale: float

    @property
    def card(self) -> dict[str, Any]:
        """Two fields, the equation that ties them, and its scaling."""
        return {
            "fields": ["a", "u"],
            "parametrisation": {
                "kind": "two-phase", "low": self.law.low, "high": self.law.high, "u": [self.mean, self.scale],
            },
            "solution": self.solution.model_dump(mode="json"),
            "preconditioning": {"sigma_data": [1.0, self.solution.amplitude], "mean": [0.0, 0.0]},
        }  # fmt: skip

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(x_a, x_u): (count, 2, ny, nx)."""
        x = self.law.sample_x(count, generator)
        u = self.darcy.solve(self.law.coefficient(x), rtol=SOLVE_RTOL)
        return torch.stack([x, (u - self.mean) / self.scale], dim=1)


def functions_of(recipe: Recipe) -> Functions:
    """The functions that a recipe names."""
    law = law_of(recipe.law)
    if recipe.solution is None:
        return Coefficients(law)
    sides = {side: Value(recipe.solution.boundary) for side in SIDES}
    darcy = Darcy(Grid(law.shape), Boundary(**sides), recipe.solution.source)
    generator = torch.Generator().manual_seed(recipe.training.seed)
    u = darcy.solve(law.sample(SCALING_DRAWS, generator), rtol=SOLVE_RTOL)
    mean, scale = (float(f"{float(v):.4g}") for v in (u.mean(), u.std() / recipe.solution.amplitude))
    return Pairs(law, recipe.solution, darcy, mean, scale)


def law_of(section: TwoPhase) -> TwoPhaseLaw:
    """The coefficient law that a recipe names."""
    return TwoPhaseLaw(benchmark_field(section.shape, section.alpha, section.tau), section.low, section.high)
