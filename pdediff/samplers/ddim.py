"""DDIM (Song, Meng & Ermon 2021; eqs. 28–32), with ancestral sampling (DDPM; Ho et al. 2020) as its other end.

To go from t to an earlier time s, split the noise that x_t holds, ε̂ = (x_t − alpha_t x̂_0)/sigma_t, into a part that is
kept and a part that is drawn anew (eq. 31):

    x_s = alpha_s x̂_0 + √(sigma_s² − tau²) ε̂ + tau g,        tau = eta sigma_s √(1 − (s_s/s_t)²),

in the noise-to-signal ratios s = sigma/alpha of the two times. Whatever tau is, x_s given x_0 has the right law,
alpha_s x_0 + sigma_s g, if x_t has (eq. 32). At eta = 1, tau² is the variance of x_s given x_t and x_0 in the Markov
chain of DDPM (β̃_t of eq. 3, the noise in line 6 of Fig. 4). At eta = 0 nothing is drawn, x_0 is a function of x_T, and
the rule is Euler's for the probability flow in x/alpha and s (see `heun`): there is no other "probability-flow Euler"
here. `ddpm` is eta = 1 as it was published. For data N(0, λ) and a ladder of constant ratio s_t/s_s = e^κ,

    Var(x_0)/λ − 1  →  −κ/2 at eta = 0,        −κ at eta = 1,        whatever λ: first order in the number of levels.

For any noise law: ε̂ and g have the covariance of the space.
"""

from dataclasses import dataclass

from torch import Tensor

from pdediff.noise import Generators
from pdediff.samplers.base import ConditionalMean, StepwiseSampler, noise_like
from pdediff.schedules import epsilon_from_x0


@dataclass(frozen=True)
class DDIM(StepwiseSampler):
    """Denoising diffusion implicit model: first order in the number of levels.

    Parameters
    ----------
    eta: 0 is deterministic, 1 is ancestral (DDPM), anything between them is both.

    Raises
    ------
    ValueError: eta outside [0, 1].

    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be between 0 and 1, got {self.eta:g}")

    def step(self, denoiser: ConditionalMean, x_t: Tensor, t: Tensor, s: Tensor, generators: Generators) -> Tensor:
        """eq. 31, from t to s. With eta = 0 it also leads upwards, from t to a later s (see `inversion`)."""
        x_0 = denoiser(x_t, t)
        epsilon = epsilon_from_x0(denoiser.schedule, x_t, x_0, t)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
        if self.eta == 0:
            return alpha_s * x_0 + sigma_s * epsilon
        tau = self.eta * sigma_s * (1 - (sigma_s * alpha_t / (sigma_t * alpha_s)) ** 2).sqrt()
        g = noise_like(denoiser, x_t, generators)
        return alpha_s * x_0 + (sigma_s**2 - tau**2).sqrt() * epsilon + tau * g
