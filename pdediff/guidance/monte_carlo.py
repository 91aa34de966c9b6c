"""A Monte-Carlo estimate of p(y | x_t) (eqs. 36–40) as a posterior denoiser.

p(y | x_t) is the mean of p(y | x_0) over x_0 | x_t. With draws from another law q, each has a weight (eq. 39):

    p(y | x_t) ≈ (1/K) Σ_k p(y | x_0^k) w_k,        x_0^k ~ q(x_0 | x_t),        w_k = p(x_0^k | x_t)/q(x_0^k | x_t).

(Eq. 40 leaves the weights out, which is right only if q is p.) The weights need the density p(x_0 | x_t), which no
denoiser has. So here p(x_0 | x_t) itself is taken to be a law that can be drawn from, N(x̂_0, L Lᵀ), with the denoiser's
own error law or r_t² I: q is p and the weights are 1. With x_0^k = x̂_0(x_t) + L w_k the gradient goes through the
denoiser, L held fixed. One draw of no width, L = 0, is DPS.

The gradient of the logarithm of a mean is one of self-normalised weights, and so is biased at finite K, towards the
data. For Gaussian laws, with κ_i the eigenvalues of H L Lᵀ Hᵀ and d_i the misfits of x̂_0 along them, in units of the
noise, the shift that should be κ_i d_i/(1 + κ_i) is too large by the relative amount, to first order in 1/K,

    (1/K) κ_i/(1 + 2κ_i) · Π_j (1 + κ_j)/√(1 + 2κ_j) · exp(d_j²/(1 + κ_j) − d_j²/(1 + 2κ_j));

on average over the draws the shift of K = 1 is that of DPS. The product grows exponentially with the number of data
that are more precise than the prediction: a K of thousands does for two or three of them, and for a hundred none does.
There one draw has all the weight, and what is left is noise.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pdediff.denoisers.base import Denoiser, ErrorLaw, white_error_law
from pdediff.guidance.base import PosteriorDenoiser, condition, differentiate, inside
from pdediff.likelihoods.base import Likelihood
from pdediff.noise import Generators
from pdediff.schedules import noise_to_signal


@dataclass(frozen=True)
class MonteCarlo(PosteriorDenoiser):
    """x̂_0 + (sigma_t²/alpha_t) C ∇ log (1/K) Σ_k p(y | x̂_0 + L w_k).

    Parameters
    ----------
    denoiser: the prior, differentiable.
    likelihood: log p(y | x_0), asked for K functions a sample at once.
    generators: one for each sample; every call draws anew.
    draws: K.
    law: of x_0 | x_t: "denoiser", its error law, or "white", r_t² I with r_t² = s²/(1 + s²/sigma_data²).
    sigma_data: standard deviation of x_0, for the white law.

    Raises
    ------
    ValueError: an unknown law, or no draw.

    """

    denoiser: Denoiser
    likelihood: Likelihood
    generators: Generators
    draws: int = 64
    law: Literal["denoiser", "white"] = "denoiser"
    sigma_data: float = 1.0

    def __post_init__(self) -> None:
        if self.law not in ("denoiser", "white"):
            raise ValueError(f"the law of x_0 given x_t is 'denoiser' or 'white', not {self.law!r}")
        if self.draws < 1:
            raise ValueError(f"a mean over draws needs at least one, got {self.draws}")

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """The posterior mean (B, D) of x_0 given x_t (B, D) at time t, one for all of the batch."""

        def log_mean(x_0: Tensor) -> Tensor:
            law = self._law(x_0.detach(), float(t))
            w = self.generators.normal(self.draws, law.dimension, dtype=x_0.dtype, device=x_0.device)
            x_k = inside(self.denoiser, x_0 + law.root(w.transpose(0, 1)))  # (K, B, D)
            log_prob = self.likelihood.log_prob(x_k.flatten(0, 1)).unflatten(0, x_k.shape[:2])
            return torch.logsumexp(log_prob, dim=0) - math.log(self.draws)

        x_0, _, gradient = differentiate(self.denoiser, log_mean, x_t, t)
        return condition(self.denoiser, x_0, gradient, t)

    def _law(self, x_0: Tensor, t: float) -> ErrorLaw:
        if self.law == "denoiser":
            return self.denoiser.error_law(x_0, t)
        return white_error_law(noise_to_signal(self.schedule, t), self.sigma_data, x_0.shape[1])
