"""From the `guidance:` of a case to the algorithm that draws its samples."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from pdediff.cases.case import Case
from pdediff.cases.problem import Problem
from pdediff.guidance.base import PosteriorDenoiser
from pdediff.guidance.dps import DPS
from pdediff.guidance.renoise import ACCURACY, Annealing, renoise
from pdediff.noise import Generators
from pdediff.samplers.base import Sampler, pure_noise
from pdediff.samplers.ddim import DDIM
from pdediff.samplers.heun import Heun
from pdediff.schedules import levels

Progress = Callable[[int, int], None]  # level done, number of levels

LADDER = {"fast": 100, "normal": 500, "high": 2000}
"""Noise levels of samplers that are guided by a gradient: each of their steps is explicit, so they need many."""


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

    def __call__(self, generators: Generators, progress: Progress) -> Tensor:
        """One sample for each generator: (B, D). Raises ConvergenceError."""
        ...


@dataclass(frozen=True)
class Proximal:
    """The flagship, in the unknowns of the problem's physics."""

    problem: Problem
    annealing: Annealing
    device: torch.device

    @property
    def levels(self) -> int:
        """Number of noise levels."""
        return self.annealing.levels

    @property
    def evaluations(self) -> int:
        """One at each level; a Jacobian's products, backward passes through the network, are not counted."""
        return self.levels

    def __call__(self, generators: Generators, progress: Progress) -> Tensor:
        """See `renoise`."""
        prior, likelihood, physics = self.problem.prior, self.problem.likelihood, self.problem.physics
        unknowns = physics if self.annealing.covariance == "measured" else None
        return renoise(prior.denoiser, likelihood, generators, self.annealing, progress, self.device, unknowns)


@dataclass(frozen=True)
class Guided:
    """A posterior denoiser in a sampler."""

    posterior: PosteriorDenoiser
    sampler: Sampler
    levels: int
    device: torch.device

    @property
    def evaluations(self) -> int:
        """As many as the sampler makes."""
        return self.sampler.evaluations(self.levels)

    def __call__(self, generators: Generators, progress: Progress) -> Tensor:
        """From pure noise down the ladder."""
        s_min, s_max = self.posterior.noise_range
        times = levels(self.posterior.schedule, s_max, s_min, self.levels)
        x_T = pure_noise(self.posterior, times[0], generators, device=self.device)
        return self.sampler(self.posterior, x_T, times, generators, progress)


def build_method(case: Case, problem: Problem, device: str | torch.device = "cpu") -> Method:
    """The algorithm that a case names."""
    guidance, device = case.guidance, torch.device(device)
    if guidance.method == "dps":
        posterior = DPS(problem.prior.denoiser, problem.likelihood, guidance.step or "normalised", guidance.zeta)
        sampler = Heun() if guidance.sampler == "heun" else DDIM(eta=1.0 if guidance.eta is None else guidance.eta)
        return Guided(posterior, sampler, LADDER[guidance.accuracy], device)
    annealing = ACCURACY[guidance.accuracy]
    if guidance.covariance == "jacobian":  # gives the mean of x_0 | x_t, y, which is what ancestral sampling asks for
        annealing = replace(annealing, covariance="jacobian", perturb=False, churn=1.0)
    return Proximal(problem, annealing, device)
