"""The probability flow by Heun's rule (Song et al. 2021; Karras et al. 2022, algorithm 1 without churn).

The marginals of the noising process are also those of an ordinary differential equation. In x̄ = x_t/alpha_t, which is
x_0 plus noise of standard deviation s = sigma_t/alpha_t whatever the schedule, it reads

    dx̄/ds = (x̄ − E[x_0 | x_t])/s = −s C ∇ log p(x̄; s),

C the covariance of the noise law. Heun's rule is second order in the number of levels for two evaluations a level. The
slope has no value at s = 0; there, at the last move, one Euler step gives E[x_0 | x_t]. No noise is drawn: x_0 is a
function of x_T.
"""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from pdediff.noise import Generators
from pdediff.samplers.base import ConditionalMean, Progress, finite, silent
from pdediff.schedules import noise_to_signal


@dataclass(frozen=True)
class Heun:
    """Deterministic, second order."""

    def __call__(
        self,
        denoiser: ConditionalMean,
        x_T: Tensor,
        times: Tensor,
        generators: Generators,
        progress: Progress = silent,
    ) -> Tensor:
        """Map x_T (B, D) to x_0 (B, D); see `base.Sampler`."""
        schedule = denoiser.schedule

        def slope(x: Tensor, t: Tensor) -> Tensor:
            return (x - denoiser(schedule(t)[0] * x, t)) / noise_to_signal(schedule, t)

        x = x_T / schedule(times[0])[0]
        for level, (t, s) in enumerate(pairwise(times)):
            h = noise_to_signal(schedule, s) - noise_to_signal(schedule, t)
            first = slope(x, t)
            second = slope(x + h * first, s)
            x = x + h * (first + second) / 2
            progress(level + 1, len(times))
        x_0 = denoiser(schedule(times[-1])[0] * x, times[-1])
        progress(len(times), len(times))
        return finite(x_0)

    def evaluations(self, levels: int) -> int:
        """Two a level, one at the last."""
        return 2 * levels - 1
