"""Posterior denoisers: conditional means given data, with the face of a denoiser, so that every sampler takes them.

With x_t = alpha_t x_0 + sigma_t g and g ~ N(0, C), Tweedie's formula holds under any law of x_0, under p(x_0 | y) too:

    E[x_0 | x_t, y] = (x_t + sigma_t² C ∇ log p(x_t | y))/alpha_t
                    = E[x_0 | x_t] + (sigma_t²/alpha_t) C ∇_{x_t} log p(y | x_t)                    (with eqs. 18–20).

So conditioning is a shift of the denoiser's prediction, and methods differ in what they take for the likelihood of a
noisy function, p(y | x_t) = ∫ p(y | x_0) p(x_0 | x_t) dx_0, which is known only where everything is Gaussian.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from pdediff.denoisers.base import Denoiser, batch_times
from pdediff.schedules import Schedule
from pdediff.spaces import Space


class PosteriorDenoiser(ABC):
    """E[x_0 | x_t, y]; what describes the space and the ladder is the prior denoiser's own."""

    denoiser: Denoiser

    @property
    def space(self) -> Space:
        """The space of x_0."""
        return self.denoiser.space

    @property
    def schedule(self) -> Schedule:
        """The schedule in which t is given."""
        return self.denoiser.schedule

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Values (D,) or () beyond which x_0 hardly ever goes under the prior."""
        return self.denoiser.bounds

    @property
    def noise_range(self) -> tuple[float, float]:
        """Noise-to-signal ratios between which x_t says something of x_0."""
        return self.denoiser.noise_range

    @abstractmethod
    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """The posterior mean (B, D) of x_0 given x_t (B, D) at time t, a number or (B,)."""


def condition(denoiser: Denoiser, x_0: Tensor, gradient: Tensor, t: Tensor | float) -> Tensor:
    """x̂_0 + (sigma_t²/alpha_t) C ∇ log p(y | x_t), from the prediction and the gradient (B, D) at time t: (B, D)."""
    alpha_t, sigma_t = denoiser.schedule(batch_times(t, x_0))
    return x_0 + (sigma_t**2 / alpha_t)[:, None] * denoiser.space.noise.covariance(gradient)


def differentiate(
    denoiser: Denoiser, log_prob: Callable[[Tensor], Tensor], x_t: Tensor, t: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """x̂_0 (B, D), log_prob(x̂_0) (B,) and its gradient with respect to x_t (B, D), through the denoiser.

    Each sample's own gradient: no sum over the batch enters it but one whose terms depend on a row each. Callers may
    have switched differentiation off (`no_grad`, `inference_mode`). Where x̂_0 is outside the denoiser's bounds, the
    likelihood is evaluated at the nearest point inside, and its gradient taken from there: nonlinear physics is not
    asked for what it cannot answer, and a function that has gone too far is still called back.
    """
    with torch.inference_mode(False), torch.enable_grad():
        low, high = (bound.to(x_t) for bound in denoiser.bounds)
        t = batch_times(t, x_t).clone()  # clones: autograd refuses tensors that were made in inference mode
        x_t = x_t.detach().clone().requires_grad_()
        x_0 = denoiser(x_t, t)
        inside = x_0 + (x_0.clamp(low, high) - x_0).detach()
        value = log_prob(inside)
        (gradient,) = torch.autograd.grad(value.sum(), x_t)
    return x_0.detach(), value.detach(), gradient
