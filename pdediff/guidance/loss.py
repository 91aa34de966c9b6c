"""Guidance by any differentiable loss L(x_0) (second source document, "custom guidance").

A loss stands for a likelihood, p(y | x_0) ∝ exp(−w L(x_0)), and is used as DPS uses one (eq. 34):

    E[x_0 | x_t, y] ≈ x̂_0 − w (sigma_t²/alpha_t) C ∇_{x_t} L(x̂_0(x_t)),

C the covariance of the noise law. So DPS is the case of the misfit, L = −log p(y | x_0) and w = 1, and a loss that is
no misfit (a style, an average that should have a value, a symmetry) needs a w that says how firmly it is held: two
fields whose losses differ by 1/w differ e-fold in probability. The bias and the limit on the step of DPS carry over.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from pdediff.denoisers.base import Denoiser
from pdediff.guidance.base import PosteriorDenoiser, condition, differentiate


@dataclass(frozen=True)
class LossGuidance(PosteriorDenoiser):
    """x̂_0 − w (sigma_t²/alpha_t) C ∇ L(x̂_0).

    Parameters
    ----------
    denoiser: the prior, differentiable.
    loss: x_0 (B, D) -> (B,), differentiable; row i of the result depends on row i alone.
    scale: w, in the reciprocal of the loss's unit.

    """

    denoiser: Denoiser
    loss: Callable[[Tensor], Tensor]
    scale: float = 1.0

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """The posterior mean (B, D) of x_0 given x_t (B, D) at time t, a number or (B,)."""
        x_0, _, gradient = differentiate(self.denoiser, lambda x: -self.scale * self.loss(x), x_t, t)
        return condition(self.denoiser, x_0, gradient, t)
