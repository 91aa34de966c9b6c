"""Annealed Langevin dynamics (Song & Ermon 2019, Algorithm 1): a few Langevin steps at each falling noise level.

At the noise-to-signal ratio s_i of the i-th of L levels the step is ε_i = ε s_i²/s_L², so that the dynamics looks the
same at all of them: in units of s_i² the steps are one number, δ = ε/s_L² (see `langevin`),

    x̄ ← x̄ + (δ/2) (E[x_0 | x_t] − x̄) + √δ s_i g,        K times at each level i = 2, …, L.

(Song & Ermon: L = 10, K = 100, and ε = 2e-5 at s_L = 0.01, so δ = 0.2.) High levels see the law of x_0 blurred into
one mode, and settle the shares of what become separate modes further down. At the first level nothing is done, for x_T
is a draw of it. x̄ is handed on from level to level as it is, with more noise than belongs to the next: this is the
predictor–corrector method with a predictor that does nothing.

Bias. A mode of a Gaussian prior, of variance λ, is followed down to s² ≈ 2 κ λ/(δ K), where it freezes with what it has
too much. On a ladder of constant ratio s_t/s_s = e^κ that goes deeper than this,

    Var(x_0)/λ − 1  →  (1 + δ/4)/(δ K/(2κ) − 1)  ≈  κ (2 + δ/2)/(δ K):

first order in the number of levels, and smaller for large δ: 1 + δ/4 holds what the finite step adds, too. Shares of
modes lag likewise: of two modes 14 standard deviations apart, one with a share of 0.25 got 0.277 (80 levels, K = 5,
δ = 1).
"""

from dataclasses import dataclass

from torch import Tensor

from pdediff.noise import Generators
from pdediff.samplers.base import ConditionalMean, StepwiseSampler
from pdediff.samplers.langevin import check_steps, langevin_step


@dataclass(frozen=True)
class AnnealedLangevin(StepwiseSampler):
    """Langevin dynamics down the ladder: stochastic, first order in the number of levels.

    Parameters
    ----------
    steps: K, Langevin steps at each level.
    delta: δ, the step in units of the noise variance of the level.

    Raises
    ------
    ValueError: delta outside (0, 4), or no steps.

    """

    steps: int = 5
    delta: float = 1.0

    def __post_init__(self) -> None:
        check_steps(self.delta, self.steps)

    def step(self, denoiser: ConditionalMean, x_t: Tensor, t: Tensor, s: Tensor, generators: Generators) -> Tensor:
        """x̄ as it is from t to s, and K Langevin steps there."""
        x_s = denoiser.schedule(s)[0] / denoiser.schedule(t)[0] * x_t
        for _ in range(self.steps):
            x_s = langevin_step(denoiser, x_s, s, self.delta, generators)
        return x_s

    def evaluations(self, levels: int) -> int:
        """K at each level but the first, one at the end."""
        return self.steps * (levels - 1) + 1
