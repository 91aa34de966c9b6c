"""What a method is to those who run it, and what it gives."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from pdediff.cases.problem import Problem
from pdediff.noise import Generators

Progress = Callable[[int, int], None]  # level done, number of levels


@dataclass(frozen=True)
class Outcome:
    """Samples, and the problem that they are samples of.

    Parameters
    ----------
    problem: with what was inferred along filled in.
    x_0: samples (B, D) of the problem's x_0.
    fields: further fields (B, ny, nx), by name, such as a kernel.
    parameters: what was inferred along (B,), by name.
    predicted: noise-free data (B, m), if they are not what the problem's instruments see of x_0.

    """

    problem: Problem
    x_0: Tensor
    fields: dict[str, Tensor] = field(default_factory=dict)
    parameters: dict[str, Tensor] = field(default_factory=dict)
    predicted: Tensor | None = None


class Method(Protocol):
    """Draws samples of x_0 given the data."""

    @property
    def levels(self) -> int:
        """Number of noise levels."""
        ...

    @property
    def evaluations(self) -> int:
        """Network evaluations a sample."""
        ...

    @property
    def solves(self) -> int:
        """Solutions of the equation that were computed so far."""
        ...

    def __call__(self, generators: Generators, progress: Progress) -> Tensor:
        """One sample for each generator: (B, D). Raises ConvergenceError."""
        ...

    def outcome(self, x_0: Tensor) -> Outcome:
        """What the samples mean."""
        ...
