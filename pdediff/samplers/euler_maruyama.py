"""Euler–Maruyama for the reverse stochastic differential equation (eq. 22; Anderson 1982; Song et al. 2021).

The noising process dx = f x dt + g dw has x_t = alpha_t x_0 + sigma_t · noise for its law if

    f = d ln alpha_t/dt,        g² = dsigma_t²/dt − 2 f sigma_t².

Backwards in time it is dx = (f x − g² C ∇ log p(x_t)) dt + g dw̄, with dt < 0: the sign of the score in eq. 22 is to be
read so. C is the covariance of the noise law, of w too. A step of length h = t − s, with C ∇ log p from x̂_0:

    x_s = x_t − h (f x_t − g² C ∇ log p(x_t)) + √h g ξ.

f and g are derivatives of the schedule at t, by autograd. In the exploding schedule f = 0 and
g² = 2 t; in a preserving one f = −g²/2, with g² = beta(t) for `VPSchedule`. All schedules have the same reverse process
in x_t/alpha_t and s, but Euler's rule is not the same in all: it takes the coefficients as constant over a step of t.

Weak order 1: mean and covariance err by O(1/levels). In the exploding schedule and on a ladder of constant ratio
s_t/s_s = e^κ a mode of a Gaussian prior, of variance λ, gets Var(x_0)/λ − 1 → κ/2: half of `DDIM(eta=1)`'s, and of the
other sign.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pdediff.noise import Generators
from pdediff.samplers.base import ConditionalMean, StepwiseSampler, noise_like
from pdediff.schedules import Schedule, score_from_x0


@dataclass(frozen=True)
class EulerMaruyama(StepwiseSampler):
    """Reverse diffusion by Euler's rule in the schedule's own time: stochastic, weak order 1."""

    def step(self, denoiser: ConditionalMean, x_t: Tensor, t: Tensor, s: Tensor, generators: Generators) -> Tensor:
        """From t to s with the coefficients at t."""
        f, g2 = coefficients(denoiser.schedule, t)
        score = score_from_x0(denoiser.schedule, x_t, denoiser(x_t, t), t)
        h = t - s
        return x_t - h * (f * x_t - g2 * score) + (h * g2).sqrt() * noise_like(denoiser, x_t, generators)


def coefficients(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """f = d ln alpha/dt and g² = dsigma²/dt − 2 f sigma² of eq. 21, at times t of any shape."""
    with torch.inference_mode(False), torch.enable_grad():
        t = t.detach().clone().requires_grad_()  # a clone: autograd refuses tensors that were made in inference mode
        alpha_t, sigma_t = schedule(t)
        (alpha_dot,) = torch.autograd.grad(alpha_t.sum(), t, retain_graph=True)
        (sigma_dot,) = torch.autograd.grad(sigma_t.sum(), t)
    f = alpha_dot / alpha_t.detach()
    return f, 2 * sigma_t.detach() * (sigma_dot - f * sigma_t.detach())
