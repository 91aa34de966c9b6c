"""Gradient search without a prior: argmax_x p(y | x) from noise (§1.1), the cautionary baseline.

Maximum likelihood by ascent on x itself meets the data and learns nothing else. Gradients of p(y | x) lie in the
directions that the data see; what they do not see stays what it was at the start, noise. For linear data y = H x + e,
L-BFGS (like steepest descent) ends in

    x = x_start + H⁺ (y − H x_start),

the solution nearest to where it started, and different starts agree on nothing but H x. Adam rescales each coordinate
by the size of its own gradients and so leaves the range of Hᵀ: it ends in yet another solution.

It has the interface of a posterior sampler, for comparison; its draws are of no posterior.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pdediff.likelihoods.base import Likelihood
from pdediff.noise import Generators
from pdediff.samplers.base import finite
from pdediff.spaces import Space


@dataclass(frozen=True)
class GradientSearch:
    """x of the largest log p(y | x) that a local search from noise finds.

    Parameters
    ----------
    space: the space of x; its noise law, of unit variance, gives the starts.
    likelihood: log p(y | x), differentiable.
    optimiser: "lbfgs" (a search for each row, with a line search) or "adam".
    steps: iterations of the optimiser.
    learning_rate: of Adam.
    device, dtype: of x.

    Raises
    ------
    ValueError: an unknown optimiser.

    """

    space: Space
    likelihood: Likelihood
    optimiser: Literal["lbfgs", "adam"] = "lbfgs"
    steps: int = 200
    learning_rate: float = 0.05
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.optimiser not in ("lbfgs", "adam"):
            raise ValueError(f"the optimiser is 'lbfgs' or 'adam', not {self.optimiser!r}")

    @property
    def levels(self) -> int:
        """How often progress is told: once a step."""
        return self.steps

    @property
    def evaluations(self) -> int:
        """Network evaluations of one draw: there is no network."""
        return 0

    def __call__(
        self, generators: Generators, progress: Callable[[int, int], None] = lambda level, count: None
    ) -> Tensor:
        """One x for each generator: (B, D). Raises ConvergenceError when one is not finite."""
        start = self.space.noise.sample(generators, self.space.dimension, self.dtype, torch.device(self.device))
        with torch.inference_mode(False), torch.enable_grad():
            rows = [row[None].clone().requires_grad_() for row in start]
            searches = [self._search(row) for row in rows]
            for step in range(self.steps):
                for search in searches:
                    search()
                progress(step + 1, self.steps)
        return finite(torch.cat(rows).detach())

    def _search(self, x: Tensor) -> Callable[[], object]:
        """One step of an optimiser of x (1, D), which knows of no other row."""
        optimiser: torch.optim.Optimizer
        if self.optimiser == "adam":
            optimiser = torch.optim.Adam([x], self.learning_rate)
        else:
            optimiser = torch.optim.LBFGS([x], max_iter=1, max_eval=25, line_search_fn="strong_wolfe")

        def loss() -> float:
            optimiser.zero_grad(set_to_none=True)
            misfit = -self.likelihood.log_prob(x).sum()
            misfit.backward()
            return float(misfit.detach())

        return lambda: optimiser.step(loss)
