"""Posterior denoisers: conditional means given data, with the face of a denoiser, so that every sampler takes them.

With x_t = alpha_t x_0 + sigma_t g and g ~ N(0, C), Tweedie's formula holds under any law of x_0, under p(x_0 | y) too:

    E[x_0 | x_t, y] = (x_t + sigma_t² C ∇ log p(x_t | y))/alpha_t
                    = E[x_0 | x_t] + (sigma_t²/alpha_t) C ∇_{x_t} log p(y | x_t)                    (with eqs. 18–20).

So conditioning is a shift of the denoiser's prediction, and methods differ in what they take for the likelihood of a
noisy function, p(y | x_t) = ∫ p(y | x_0) p(x_0 | x_t) dx_0, which is known only where everything is Gaussian.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pdediff.denoisers.base import Covariance, Denoiser, batch_times
from pdediff.guidance.proximal import InnerSolve, proximal_step
from pdediff.likelihoods.base import LeastSquares
from pdediff.schedules import Schedule, noise_to_signal
from pdediff.solvers.errors import ConvergenceError
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
        t = batch_times(t, x_t).clone()  # clones: autograd refuses tensors that were made in inference mode
        x_t = x_t.detach().clone().requires_grad_()
        x_0 = denoiser(x_t, t)
        value = log_prob(inside(denoiser, x_0))
        (gradient,) = torch.autograd.grad(value.sum(), x_t)
    return x_0.detach(), value.detach(), gradient


def inside(denoiser: Denoiser, x_0: Tensor) -> Tensor:
    """The nearest point to x_0 (..., D) inside the denoiser's bounds; differentiated like x_0 itself."""
    low, high = (bound.to(x_0) for bound in denoiser.bounds)
    nearest = x_0.clamp(low, high)
    return x_0 + (nearest - x_0).detach() if x_0.requires_grad else nearest


def gauss_newton(
    denoiser: Denoiser, likelihood: LeastSquares, x_0: Tensor, law: Covariance, inner: InnerSolve, steps: int
) -> Tensor:
    """The mode (B, D) of N(x̂_0, C) p(y | x_0), which is the mean for linear data: those need one step.

    The data are linearised inside the denoiser's bounds, first about x̂_0 (B, D), then about the last step's result.
    """
    z, misfit, e = x_0, None, x_0.new_zeros(len(x_0), likelihood.size)
    for _ in range(1 if likelihood.linear else steps):
        about = inside(denoiser, z)
        misfit = likelihood.linearise(about, inner.solve_tolerance, misfit)
        z = proximal_step(x_0, law, misfit, about, e, inner)
    return z


def white_variance(denoiser: Denoiser, x_t: Tensor, t: Tensor | float, sigma_data: float) -> Tensor:
    """r_t² = s²/(1 + s²/sigma_data²) at time t, a number or (B,): the conditional variance of white data, (B, 1)."""
    square = noise_to_signal(denoiser.schedule, batch_times(t, x_t)).square()
    return (square / (1 + square / sigma_data**2))[:, None]


@dataclass(frozen=True)
class WhiteCovariance:
    """C = r² I, with an r² for each sample.

    Parameters
    ----------
    variance: r² (B, 1).

    """

    variance: Tensor

    def covariance(self, v: Tensor) -> Tensor:
        """C v: (B, D) -> (B, D)."""
        return self.variance * v


def finite(x_0: Tensor) -> Tensor:
    """x_0 (B, D) itself. Raises ConvergenceError when a sample is not finite."""
    wrong = ~torch.isfinite(x_0).all(dim=-1)
    if bool(wrong.any()):
        raise ConvergenceError(f"{int(wrong.sum())} of {len(x_0)} samples are not finite")
    return x_0
