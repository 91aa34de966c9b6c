"""Predictor–corrector sampling (Song et al. 2021, Algorithms 1, 2 and 4).

A predictor takes x_t to the next level s; there a corrector makes K Langevin steps (see `langevin`), which leave
p(x_s) as it is, and pull towards it what the predictor has missed. The step is set by a signal-to-noise ratio r: the
drift is to be r times as long as the noise, so that, with ε̂ = (x_s − alpha_s x̂_0)/sigma_s, score = −ε̂/sigma_s,

    x_s ← x_s − (δ/2) sigma_s ε̂ + √δ sigma_s g,        δ = (2 r ‖g‖/‖ε̂‖)²        (their ε is δ sigma_s²/2).

Published code takes the norms' average over the batch, which makes a sample depend on its company. Here each sample
has its own. δ is not allowed above 2, where a step leads to the denoised mean: it is stable for every prior then, also
where ε̂ happens to vanish. A step that depends on g and x no longer leaves p(x_s) quite as it is: for white Gaussians
of D values and r → 0 the corrector alone, if repeated, tends to a variance that is too large by about 4/D. With few
values take `AnnealedLangevin`, whose δ is fixed.

What it buys. For a fixed δ, a mode of variance λ of a Gaussian prior, the predictor `DDIM(eta=1)` and a ladder of
constant ratio s_t/s_s = e^κ,

    Var(x_0)/λ − 1  →  −2κ/(2 + p) + (δ/4) p/((2 + p)(1 + p)),        p = δ K/(2κ),

where the predictor alone has −κ. For p ≫ 1 that is κ/(2K): first order still, for K + 1 evaluations a level. As a
remedy for the error of discretisation a finer ladder is as good. A corrector also forgets what else has led x_t astray,
which a deterministic predictor alone carries to the end: of an error of x_T it leaves about (λ/(λ + s_max²))^(p/2).
"""

from dataclasses import dataclass, field

from torch import Tensor

from pdediff.noise import Generators
from pdediff.samplers.base import ConditionalMean, StepwiseSampler, noise_like
from pdediff.samplers.ddim import DDIM
from pdediff.schedules import epsilon_from_x0

LONGEST_STEP = 2.0  # δ at which a Langevin step leads to E[x_0 | x_t]


@dataclass(frozen=True)
class PredictorCorrector(StepwiseSampler):
    """A sampler's step, then Langevin steps at the level that it leads to.

    Parameters
    ----------
    r: signal-to-noise ratio of a corrector step.
    steps: K, corrector steps a level.
    predictor: any stepwise sampler.

    Raises
    ------
    ValueError: r that is not positive, or no steps.

    """

    r: float = 0.16
    steps: int = 1
    predictor: StepwiseSampler = field(default_factory=lambda: DDIM(eta=1.0))

    def __post_init__(self) -> None:
        if not (self.r > 0 and self.steps >= 1):
            raise ValueError(f"a corrector needs r > 0 and steps ≥ 1, not {self.r=:g}, {self.steps=}")

    def step(self, denoiser: ConditionalMean, x_t: Tensor, t: Tensor, s: Tensor, generators: Generators) -> Tensor:
        """The predictor from t to s, then K corrections at s."""
        x_s = self.predictor.step(denoiser, x_t, t, s, generators)
        for _ in range(self.steps):
            x_s = self.correct(denoiser, x_s, s, generators)
        return x_s

    def correct(self, denoiser: ConditionalMean, x_t: Tensor, t: Tensor, generators: Generators) -> Tensor:
        """One Langevin step at time t, each sample with its own length: (B, D) -> (B, D)."""
        epsilon = epsilon_from_x0(denoiser.schedule, x_t, denoiser(x_t, t), t)
        sigma_t, g = denoiser.schedule(t)[1], noise_like(denoiser, x_t, generators)
        ratio = g.norm(dim=-1, keepdim=True) / epsilon.norm(dim=-1, keepdim=True)
        delta = (2 * self.r * ratio).square().clamp(max=LONGEST_STEP)
        return x_t - delta / 2 * sigma_t * epsilon + delta.sqrt() * sigma_t * g

    def evaluations(self, levels: int) -> int:
        """The predictor's, and K more after each of its steps."""
        return self.predictor.evaluations(levels) + self.steps * (levels - 1)
