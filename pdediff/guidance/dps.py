"""Diffusion posterior sampling (DPS; Chung et al. 2023; eqs. 33–35 and Fig. 4) as a posterior denoiser.

The likelihood of a noisy function is taken to be that of the denoiser's prediction (eq. 34),

    p(y | x_t) ≈ p(y | x̂_0(x_t)),        E[x_0 | x_t, y] ≈ x̂_0 + (sigma_t²/alpha_t) C ∇_{x_t} log p(y | x̂_0(x_t)),

with the gradient through the denoiser. It leaves out that x_0 is uncertain given x_t: for Gaussian laws and linear
data y = H x_0 + sigma_y e the exact shift has H Cov[x_0 | x_t] Hᵀ + sigma_y² I where DPS has sigma_y² I. So DPS trusts
the data too much at large noise levels, and is biased even with infinitely many. For a mode of the prior of variance λ
that the data y see with gain h, R² = λ h²/sigma_y², the guided flow can be integrated:

                            mean · h/y                    variance / λ
    the posterior           R²/(1 + R²)                   1/(1 + R²)
    DPS, ancestral          1 − exp(−R²)                  (1 − exp(−2R²))/(2R²)
    DPS, deterministic      √2 R F(R/√2)                  exp(−R²)                       (F: Dawson's function).

Ancestral sampling leaves between all and half of the right variance; the probability flow collapses where data are
precise. And the steps are explicit: from t to s they are stable only if R² (1 − s_s/s_t)/4 < 2 (ancestral ones at half
that length), so that the number of levels must grow with the square of the data's precision.

step="sigma" is that, with ‖r‖²/2 = −log p(y | x̂_0), r the misfit in units of sigma_y (eq. 35, with its factor ½).

step="normalised" is the step that the paper takes instead: from the unguided x'_{t−1} of DDPM, with the length of the
gradient's denominator taken out,

    x_{t−1} = x'_{t−1} − ζ ∇_{x_t} ‖r(x̂_0)‖

(Fig. 4, line 7, with ζ_i = ζ/(2 ‖r‖); the gradient of a norm and not of its square, as in the authors' code). What does
it say of E[x_0 | x_t, y]? In line 6 of Fig. 4, x'_{t−1} contains x̂_0 with the factor alpha_{t−1} beta_t/sigma_t². The
result is that of the unguided step with a prediction shifted by −ζ sigma_t²/(alpha_{t−1} beta_t) ∇‖r‖: of the posterior
denoiser

    x̂_0 + (sigma_t²/alpha_t) ∇_{x_t} (−(ζ/beta_t) ‖r(x̂_0)‖),

as alpha_t = alpha_{t−1} √(1 − beta_t) with beta_t ≤ 0.02. It takes the data's law to be exp(−(ζ/beta_t)‖r‖) at time t.
Here (sigma_t²/alpha_t) ∇_{x_t} = s² ∇_{x_t/alpha_t} is the same in every schedule, and beta_t, the variance that one of
the N = 1000 steps of DDPM adds, belongs to the noise-to-signal ratio s: with beta_t = (0.1 + 19.9 t/N)/N in
ln(1 + s²) = Σ beta_i,

    beta(s) = √(0.1² + 39.8 ln(1 + s²))/1000.

So ζ means what it means in the paper, whatever the sampler, its schedule and its number of levels: they all integrate
one and the same guided flow. Two things to know of it. The paper measures r in the units of y; in units of a common
sigma_y its ζ is ours divided by sigma_y. And at a misfit of ‖r‖ = ζ/beta both steps are the same, which for m data that
are fitted as well as they should be, ‖r‖ = √m, is ζ = √m beta: smaller than a few hundredths times √m.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pdediff.denoisers.base import Denoiser, batch_times
from pdediff.guidance.base import PosteriorDenoiser, condition, differentiate
from pdediff.likelihoods.base import Likelihood
from pdediff.schedules import noise_to_signal


@dataclass(frozen=True)
class DPS(PosteriorDenoiser):
    """E[x_0 | x_t, y] ≈ x̂_0 + (sigma_t²/alpha_t) C ∇ log p(y | x̂_0).

    Parameters
    ----------
    denoiser: the prior, differentiable.
    likelihood: log p(y | x_0). For the normalised step it must be −‖r‖²/2 without a constant, zero where the data are
        met exactly: ‖r‖ = √(−2 log p). Gaussian observations are.
    step: "sigma", the likelihood's own gradient; or "normalised", the paper's step, of the length ζ.
    zeta: ζ of the normalised step, positive.

    Raises
    ------
    ValueError: an unknown step, a ζ for the step "sigma", or none that is positive for the normalised one.

    """

    denoiser: Denoiser
    likelihood: Likelihood
    step: Literal["sigma", "normalised"] = "sigma"
    zeta: float | None = None

    def __post_init__(self) -> None:
        if self.step not in ("sigma", "normalised"):
            raise ValueError(f"the step of DPS is 'sigma' or 'normalised', not {self.step!r}")
        if self.step == "sigma" and self.zeta is not None:
            raise ValueError(
                "zeta belongs to the normalised step; the step 'sigma' has the length that the noise gives"
            )
        if self.step == "normalised" and not (self.zeta is not None and self.zeta > 0):
            raise ValueError(f"the normalised step needs a positive zeta, got {self.zeta}")

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """The posterior mean (B, D) of x_0 given x_t (B, D) at time t, a number or (B,)."""
        x_0, log_prob, gradient = differentiate(self.denoiser, self.likelihood.log_prob, x_t, t)
        if self.zeta is not None:  # −(ζ/beta) ∇‖r‖ = (ζ/beta) ∇ log p / ‖r‖, without the root's infinite slope at 0
            norm = (-2 * log_prob).clamp(min=torch.finfo(log_prob.dtype).tiny).sqrt()
            s = noise_to_signal(self.schedule, batch_times(t, x_t))
            gradient = (self.zeta / (ddpm_beta(s) * norm))[:, None] * gradient
        return condition(self.denoiser, x_0, gradient, t)


def ddpm_beta(s: Tensor) -> Tensor:
    """beta of the step of DDPM's chain (1000 steps, 1e-4 to 0.02) that starts from the noise-to-signal ratio s."""
    return (0.1**2 + 39.8 * torch.log1p(s**2)).sqrt() / 1000
