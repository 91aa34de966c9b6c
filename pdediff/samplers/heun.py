"""The probability flow by Heun's rule (Song et al. 2021; Karras et al. 2022, algorithm 1 without churn).

The marginals of the noising process are also those of an ordinary differential equation. In x̄ = x_t/alpha_t, which is
x_0 plus noise of standard deviation s = sigma_t/alpha_t whatever the schedule, it reads

    dx̄/ds = (x̄ − E[x_0 | x_t])/s = −s C ∇ log p(x̄; s),

C the covariance of the noise law. Heun's rule is second order in the number of levels for two evaluations a level. The
slope has no value at s = 0; there, at the last move, one Euler step gives E[x_0 | x_t]. No noise is drawn: x_0 is a
function of x_T. Euler's rule for the same equation, first order for one evaluation a level, is `DDIM(eta=0)`.
"""

from dataclasses import dataclass

from torch import Tensor

from pdediff.noise import Generators
from pdediff.samplers.base import ConditionalMean, StepwiseSampler
from pdediff.schedules import noise_to_signal


@dataclass(frozen=True)
class Heun(StepwiseSampler):
    """Deterministic, second order."""

    def step(self, denoiser: ConditionalMean, x_t: Tensor, t: Tensor, s: Tensor, generators: Generators) -> Tensor:
        """From t to s by the mean of the slopes at both ends; s may also be later than t (see `inversion`)."""
        schedule = denoiser.schedule

        def slope(x: Tensor, t: Tensor) -> Tensor:
            return (x - denoiser(schedule(t)[0] * x, t)) / noise_to_signal(schedule, t)

        x = x_t / schedule(t)[0]
        h = noise_to_signal(schedule, s) - noise_to_signal(schedule, t)
        first = slope(x, t)
        second = slope(x + h * first, s)
        return schedule(s)[0] * (x + h * (first + second) / 2)

    def evaluations(self, levels: int) -> int:
        """Two a level, one at the last."""
        return 2 * levels - 1
