"""DDPM's ancestral sampling (Ho, Jain & Abbeel 2020; Algorithm 2 of Fig. 2).

From t to an earlier time s the noising process is x_t = √alpha x_s + √beta g. Its published chain is variance
preserving, where

    alpha = (alpha_t/alpha_s)²,        beta = sigma_t² − alpha sigma_s² = 1 − alpha,

so any neighbours on the ladder make a link of such a chain: a ladder of N levels is DDPM with N steps. Line 4 reads

    x_s = (x_t − (beta/sigma_t) ε̂)/√alpha + √variance g,        ε̂ = (x_t − alpha_t x̂_0)/sigma_t.

The first term is E[x_s | x_t] exactly: Tweedie's formula (eq. 34) for the one link, in any schedule. The variance of
x_s given x_t is not known, and two choices bound it (Ho et al., §3.2):

    "posterior"    β̃ = beta sigma_s²/sigma_t² (eq. 3), its value when x_0 is known:               too small,
    "beta"         beta, its value for x_0 ~ N(0, I) in a variance-preserving schedule:            too large.

With "posterior" the rule is `DDIM(eta=1)`, written in ε̂; it does not depend on the schedule. "beta" does: it belongs
to data of unit variance and to alpha_t² + sigma_t² = 1.

Both are first order in the number of levels. For data N(0, λ) the right variance of a step, in x_t/alpha_t and with s
for the noise-to-signal ratio, is (s_t² − s_s²)(λ + s_s²)/(λ + s_t²), and what it lacks reaches x_0 with the factor
(λ/(λ + s²))². On a ladder of constant ratio s_t/s_s = e^κ that adds up to Var(x_0)/λ − 1 →

    −κ                                            with "posterior", whatever λ,
    +κ                                            with "beta" and alpha_t = 1,
    κ (λ ≪ 1), 0 (λ = 1), −κ (λ ≫ 1)              with "beta" and alpha_t² + sigma_t² = 1.

The last move is noiseless, and is E[x_0 | x_t]. For any noise law: ε̂ and g have the covariance of the space.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from pdediff.noise import Generators
from pdediff.samplers.base import ConditionalMean, StepwiseSampler, noise_like
from pdediff.schedules import epsilon_from_x0


@dataclass(frozen=True)
class DDPM(StepwiseSampler):
    """Ancestral sampling: stochastic, first order in the number of levels.

    Parameters
    ----------
    variance: of the noise of a step, "posterior" (β̃) or "beta".

    Raises
    ------
    ValueError: another variance.

    """

    variance: Literal["posterior", "beta"] = "posterior"

    def __post_init__(self) -> None:
        if self.variance not in ("posterior", "beta"):
            raise ValueError(f"the variance is 'posterior' or 'beta', not {self.variance!r}")

    def step(self, denoiser: ConditionalMean, x_t: Tensor, t: Tensor, s: Tensor, generators: Generators) -> Tensor:
        """Line 4 of Algorithm 2, from t to s."""
        epsilon = epsilon_from_x0(denoiser.schedule, x_t, denoiser(x_t, t), t)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        alpha = (alpha_t / alpha_s) ** 2
        beta = sigma_t**2 - alpha * sigma_s**2
        variance = beta * (sigma_s / sigma_t) ** 2 if self.variance == "posterior" else beta
        g = noise_like(denoiser, x_t, generators)
        return (x_t - beta / sigma_t * epsilon) / alpha.sqrt() + variance.sqrt() * g
