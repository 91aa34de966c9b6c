"""What samplers have in common: what they are given, and what they give.

A sampler goes from x_T to x_0 along falling times, and all it sees of the law that it draws from is the conditional
mean: E[x_0 | x_t] from a denoiser, E[x_0 | x_t, y] from a posterior denoiser, which has the same face. So guidance and
sampler are chosen apart.

    times = levels(schedule, s_max, s_min, count)
    x_T = pure_noise(denoiser, times[0], generators)
    x_0 = DDIM(eta=1.0)(denoiser, x_T, times, generators)

The last move is from times[-1] to the clean function, where alpha = 1 and sigma = 0: there every sampler gives
E[x_0 | x_t]. Most of them are one rule for the way from a level to the next, a `StepwiseSampler`. Other places to
start from than pure noise are in `start`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from pdediff.guidance.base import finite
from pdediff.noise import Generators
from pdediff.schedules import Schedule
from pdediff.spaces import Space

Progress = Callable[[int, int], None]  # level done, number of levels


class ConditionalMean(Protocol):
    """`mean(x_t, t) -> E[x_0 | x_t]`, of a prior or of a posterior."""

    @property
    def space(self) -> Space:
        """The space of x_0, with the law of the noise."""
        ...

    @property
    def schedule(self) -> Schedule:
        """The schedule in which t is given."""
        ...

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The mean of x_0 (B, D) given x_t (B, D) at time t, a scalar."""
        ...


class Sampler(Protocol):
    """`sampler(denoiser, x_T, times, generators) -> x_0`."""

    def __call__(
        self, denoiser: ConditionalMean, x_T: Tensor, times: Tensor, generators: Generators, progress: Progress = ...
    ) -> Tensor:
        """Draw x_0.

        Parameters
        ----------
        denoiser: E[x_0 | x_t] of the law to draw from.
        x_T: where to start, at times[0]: (B, D).
        times: falling times (N,), float64, as `schedules.levels` makes them.
        generators: one for each sample; deterministic samplers leave them alone.
        progress: called as progress(level, N) after each level; `Langevin`, which has one level, counts its steps.

        Returns
        -------
        x_0 (B, D), in the dtype and on the device of x_T.

        Raises
        ------
        ConvergenceError: a sample is not finite.

        """
        ...

    def evaluations(self, levels: int) -> int:
        """Calls of the denoiser on a ladder of N levels."""
        ...


def silent(level: int, count: int) -> None:
    """Tell nobody."""


class StepwiseSampler(ABC):
    """A sampler that is one rule, from each level of the ladder to the next. It fulfils `Sampler`."""

    @abstractmethod
    def step(self, denoiser: ConditionalMean, x_t: Tensor, t: Tensor, s: Tensor, generators: Generators) -> Tensor:
        """x_s (B, D) from x_t (B, D); t and the earlier s are scalars, neighbours on the ladder."""

    def __call__(
        self,
        denoiser: ConditionalMean,
        x_T: Tensor,
        times: Tensor,
        generators: Generators,
        progress: Progress = silent,
    ) -> Tensor:
        """Draw x_0 (B, D) from x_T (B, D); see `Sampler`."""
        x_t = x_T
        for level, (t, s) in enumerate(pairwise(times)):
            x_t = self.step(denoiser, x_t, t, s, generators)
            progress(level + 1, len(times))
        x_0 = denoiser(x_t, times[-1])
        progress(len(times), len(times))
        return finite(x_0)

    def evaluations(self, levels: int) -> int:
        """One a level, unless a sampler says otherwise."""
        return levels


def noise_like(denoiser: ConditionalMean, x_t: Tensor, generators: Generators) -> Tensor:
    """A draw g (B, D) of the space's noise law, one for each generator, in the dtype and on the device of x_t."""
    return denoiser.space.noise.sample(generators, denoiser.space.dimension, x_t.dtype, x_t.device)


def pure_noise(
    denoiser: ConditionalMean,
    t: Tensor,
    generators: Generators,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Tensor:
    """x_T = sigma_T g (B, D), one for each generator: where the ladder starts when nothing is known.

    It leaves out alpha_T x_0. A mode of the prior of variance λ then starts with a standard deviation that is too small
    by the factor √(1 + λ/s_max²), s_max = sigma_T/alpha_T. Deterministic samplers keep that to the end, stochastic ones
    forget it. `start.corrected_noise` puts most of it back.
    """
    space = denoiser.space
    g = space.noise.sample(generators, space.dimension, dtype, torch.device(device))
    return denoiser.schedule(t)[1] * g
