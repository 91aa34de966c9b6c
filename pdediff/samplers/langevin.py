"""Langevin dynamics at one noise level (eqs. 15 and 16), on the score of p(x_t).

    x ← x + (ε/2) C ∇ log p(x) + √ε g,        g ~ N(0, C)        (eq. 16, stochastic gradient Langevin dynamics, SGLD)

has p for its law in the limit of many small steps; C is the covariance of the noise law. Without the noise (eq. 15) it
climbs log p, and all samples end on modes: a sampler only by name, kept here because it shows what the noise is for.

The score is that of a noisy x_t, and the step is measured in the variance of its noise, ε = δ sigma_t². With Tweedie's
formula, in x̄ = x_t/alpha_t and s = sigma_t/alpha_t,

    x̄ ← x̄ + (δ/2) (E[x_0 | x_t] − x̄) + √δ s g:

a step goes the share δ/2 of the way to the denoised mean. As −∇² log p(x_t) ≤ C⁻¹/sigma_t² for every law of x_0, the
iteration is stable for δ < 4 whatever the prior.

Discretisation. For x_0 ~ N(m, λ) and Λ = λ + s², x̄ − m is multiplied by 1 − δ s²/(2 Λ) at each step, and

    the mean is right,        Var(x̄) = Λ/(1 − δ s²/(4 Λ)),        memory e^−1 after 2 Λ/(δ s²) steps.

So a mode of the prior needs 1 + λ/s² times as many steps as the noise: at a level small enough to see x_0, one level
alone is slow even for a Gaussian. And between separate modes of p it crosses hardly ever: their shares remain what the
start makes them. Falling levels are the remedy (`annealed_langevin`).

The level is the ladder's last. x̄ keeps the noise of that level, so as in all samplers the last move is E[x_0 | x_t],
which takes it out: of a Gaussian mode λ²/(λ + s²) is left, where x̄ itself has λ + s².
"""

from dataclasses import dataclass

from torch import Tensor

from pdediff.noise import Generators
from pdediff.samplers.base import ConditionalMean, Progress, finite, noise_like, silent


def check_steps(delta: float, steps: int) -> None:
    """Raise ValueError unless 0 < delta < 4, the range of stability, and steps ≥ 1."""
    if not (0 < delta < 4 and steps >= 1):
        raise ValueError(f"Langevin dynamics needs 0 < delta < 4 and steps ≥ 1, not {delta=}, {steps=}")


@dataclass(frozen=True)
class Langevin:
    """Langevin dynamics at the last level of the ladder, from x_T scaled to it. The other levels are not used.

    Parameters
    ----------
    steps: number of steps.
    delta: δ = ε/sigma_t², the step in units of the noise variance of the level.
    noise: SGLD (True), or ascent of log p without noise (False).

    Raises
    ------
    ValueError: delta outside (0, 4), or no steps.

    """

    steps: int
    delta: float = 0.5
    noise: bool = True

    def __post_init__(self) -> None:
        check_steps(self.delta, self.steps)

    def __call__(
        self,
        denoiser: ConditionalMean,
        x_T: Tensor,
        times: Tensor,
        generators: Generators,
        progress: Progress = silent,
    ) -> Tensor:
        """Draw x_0 (B, D) from x_T (B, D); see `base.Sampler`."""
        t, count = times[-1], self.steps + 1
        x_t = denoiser.schedule(t)[0] / denoiser.schedule(times[0])[0] * x_T
        for done in range(self.steps):
            x_t = langevin_step(denoiser, x_t, t, self.delta, generators, self.noise)
            progress(done + 1, count)
        x_0 = denoiser(x_t, t)
        progress(count, count)
        return finite(x_0)

    def evaluations(self, levels: int) -> int:
        """One a step and one at the end, however many levels."""
        return self.steps + 1


def langevin_step(
    denoiser: ConditionalMean, x_t: Tensor, t: Tensor, delta: float, generators: Generators, noise: bool = True
) -> Tensor:
    """eq. 16 at time t with ε = delta · sigma_t², or eq. 15 without noise: (B, D) -> (B, D)."""
    alpha_t, sigma_t = denoiser.schedule(t)
    drifted = x_t + delta / 2 * (alpha_t * denoiser(x_t, t) - x_t)
    return drifted + delta**0.5 * sigma_t * noise_like(denoiser, x_t, generators) if noise else drifted
