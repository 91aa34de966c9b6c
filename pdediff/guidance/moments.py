"""The denoiser's own covariance, by its Jacobian; and moment matching, the posterior denoiser that is built on it.

For x_t = alpha_t x_0 + sigma_t g with g ~ N(0, C_g), differentiating E[x_0 | x_t] gives (second-order Tweedie)

    Cov[x_0 | x_t] = (sigma_t²/alpha_t) (∂D/∂x_t) C_g = (sigma_t²/alpha_t) C_g (∂D/∂x_t)ᵀ,

so that a product with the covariance is one vector–Jacobian product of the network (Boys et al. 2023; Rozet et al.
2024), or one Jacobian–vector product. It knows how errors of one field go with those of another, which no stationary
model does, but it has no root: with it the proximal step gives the mean of x_0 | x_t, y and not a draw.

Moment matching takes x_0 | x_t to be the Gaussian of the first two moments, N(x̂_0, V) with V = Cov[x_0 | x_t]. For
linear data y = H x_0 + e, in units of the noise, it follows that

    E[x_0 | x_t, y] ≈ x̂_0 + V Hᵀ (I + H V Hᵀ)⁻¹ (y − H x̂_0).

This is exact for every Gaussian prior. (The derivative of V with respect to x_t, zero for those, is left out of
∇ log p(y | x_t); so is whatever a third moment knows.) Nonlinear data are linearised, by Gauss–Newton steps from x̂_0 to
the mode of N(x̂_0, V) p(y | x_0), which stands in for the mean.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pdediff.denoisers.base import Denoiser, batch_times
from pdediff.guidance.base import PosteriorDenoiser, gauss_newton
from pdediff.guidance.proximal import InnerSolve
from pdediff.likelihoods.base import LeastSquares

Products = Literal["vjp", "jvp"]


class JacobianCovariance:
    """Cov[x_0 | x_t] of a denoiser at one x_t.

    Parameters
    ----------
    denoiser: differentiable in x_t.
    x_t: (B, D).
    t: time, a number or (B,).
    products: "vjp" keeps the denoiser's graph and goes back through it for each product; "jvp" goes forward through
        the denoiser anew for each, and keeps nothing. They are transposes of each other: the same for a conditional
        mean, not quite for a network that approximates one.

    Attributes
    ----------
    x_0: D(x_t, t) (B, D).

    Callers may have switched differentiation off (`no_grad`, `inference_mode`).

    """

    def __init__(self, denoiser: Denoiser, x_t: Tensor, t: Tensor | float, products: Products = "vjp") -> None:
        with torch.inference_mode(False), torch.set_grad_enabled(products == "vjp"):
            t = batch_times(t, x_t).clone()  # clones: autograd refuses tensors that were made in inference mode
            alpha_t, sigma_t = denoiser.schedule(t)
            self._scale, self._noise = (sigma_t**2 / alpha_t)[:, None], denoiser.space.noise
            self._denoise = lambda x: denoiser(x, t)
            self._products = products
            self._x_t = x_t.detach().clone().requires_grad_(products == "vjp")
            self._x_0 = self._denoise(self._x_t)
        self.x_0 = self._x_0.detach()

    def covariance(self, v: Tensor) -> Tensor:
        """C v: (B, D) -> (B, D), one product with the Jacobian."""
        with torch.inference_mode(False):
            if self._products == "jvp":
                direction = self._noise.covariance(v.clone())
                return self._scale * torch.func.jvp(self._denoise, (self._x_t,), (direction,))[1]
            (product,) = torch.autograd.grad(self._x_0, self._x_t, v.clone(), retain_graph=True)
            return self._scale * self._noise.covariance(product)


@dataclass(frozen=True)
class MomentMatching(PosteriorDenoiser):
    """E[x_0 | x_t, y] under N(x̂_0, Cov[x_0 | x_t]), the covariance from the denoiser's Jacobian.

    Parameters
    ----------
    denoiser: the prior, differentiable.
    likelihood: Gaussian noise; (nearly) linear.
    inner: accuracy of the solve in the space of the data. Each iteration costs a product with the Jacobian.
    steps: Gauss–Newton steps, where the data are not linear.
    products: how the Jacobian is applied; see `JacobianCovariance`.

    """

    denoiser: Denoiser
    likelihood: LeastSquares
    inner: InnerSolve = field(default_factory=lambda: InnerSolve(iterations=20, reduction=1e-3))
    steps: int = 2
    products: Products = "vjp"

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """The posterior mean (B, D) of x_0 given x_t (B, D) at time t, a number or (B,)."""
        jacobian = JacobianCovariance(self.denoiser, x_t, t, self.products)
        return gauss_newton(self.denoiser, self.likelihood, jacobian.x_0, jacobian, self.inner, self.steps)
