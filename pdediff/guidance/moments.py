"""The denoiser's own covariance, by its Jacobian.

For x_t = alpha_t x_0 + sigma_t g with g ~ N(0, C_g), differentiating E[x_0 | x_t] gives (second-order Tweedie)

    Cov[x_0 | x_t] = (sigma_t²/alpha_t) (∂D/∂x_t) C_g = (sigma_t²/alpha_t) C_g (∂D/∂x_t)ᵀ,

so that a product with the covariance is one vector–Jacobian product of the network (Boys et al. 2023; Rozet et al.
2024). It knows how errors of one field go with those of another, which no stationary model does, but it has no root:
with it the proximal step gives the mean of x_0 | x_t, y and not a draw.
"""

import torch
from torch import Tensor

from pdediff.denoisers.base import Denoiser


class JacobianCovariance:
    """Cov[x_0 | x_t] of a denoiser at one x_t.

    Parameters
    ----------
    denoiser: differentiable in x_t.
    x_t: (B, D).
    t: time.

    Attributes
    ----------
    x_0: D(x_t, t) (B, D).

    """

    def __init__(self, denoiser: Denoiser, x_t: Tensor, t: float) -> None:
        alpha_t, sigma_t = denoiser.schedule(t)
        self._scale, self._noise = sigma_t**2 / alpha_t, denoiser.space.noise
        with torch.enable_grad():
            self._x_t = x_t.detach().requires_grad_()
            self._x_0 = denoiser(self._x_t, t)
        self.x_0 = self._x_0.detach()

    def covariance(self, v: Tensor) -> Tensor:
        """C v: (B, D) -> (B, D), one vector–Jacobian product."""
        (product,) = torch.autograd.grad(self._x_0, self._x_t, v, retain_graph=True)
        return self._scale * self._noise.covariance(product)
