"""The proximal step: one draw of x_0 given x_t and the data, when x_0 given x_t is (nearly) Gaussian.

The denoiser says x_0 | x_t ~ N(x̂_0, L Lᵀ). With data y = F(x_0) + noise, in units of the noise,
randomise-then-optimise (Bardsley et al. 2014) draws from the posterior by minimising over z = x̂_0 + L w

    ½‖F(z) − (y + e)‖² + ½‖w − w_0‖²,        e ~ N(0, I), w_0 ~ N(0, I),

which is exact where F is linear: the minimiser has the posterior's mean and covariance. Without the perturbations e and
w_0 it is the posterior's mode, and a sampler built on it is too sure of itself.

One Gauss–Newton step linearises F about any point z̄, F(z) ≈ F(z̄) + J (z − z̄), and solves in the space of the data,
which is small:

    w = w_0 − (J L)ᵀ λ,        (I + J L (J L)ᵀ) λ = F(z̄) − y − e + J (x̂_0 + L w_0 − z̄).

The point z̄ need not be of the form x̂_0 + L w, so the last level's z serves, and along the levels one step each is
enough. Conjugate gradients on λ cost one adjoint and one tangent solve an iteration.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pdediff.denoisers.base import ErrorLaw
from pdediff.likelihoods.base import LeastSquares, LinearisedMisfit


@dataclass(frozen=True)
class InnerSolve:
    """How well the proximal problem is solved at each noise level.

    Parameters
    ----------
    iterations: most conjugate-gradient iterations of a Gauss–Newton step.
    reduction: a sample's iterations end when the residual has fallen by this factor.
    solve_tolerance: relative tolerance of the PDE solves inside an iteration.

    """

    iterations: int = 10
    reduction: float = 1e-2
    solve_tolerance: float = 1e-4


def proximal_step(
    x_0: Tensor,
    law: ErrorLaw,
    likelihood: LeastSquares,
    about: Tensor,
    w_0: Tensor,
    e: Tensor,
    inner: InnerSolve,
) -> Tensor:
    """One Gauss–Newton step for the perturbed proximal problem.

    Parameters
    ----------
    x_0: the denoiser's prediction x̂_0 (B, D).
    law: L, the law of x_0 about it.
    likelihood: the misfit F(x) − y in units of the noise.
    about: z̄ (B, D), where the misfit is linearised.
    w_0, e: perturbations (B, K) and (B, m); zeros give the mode instead of a draw.
    inner: accuracy.

    Returns
    -------
    z (B, D).

    """
    misfit = likelihood.linearise(about, inner.solve_tolerance)
    z_0 = x_0 + law.root(w_0)
    rhs = misfit.residual - e + misfit.tangent(z_0 - about)
    multiplier = data_space_cg(misfit, law, rhs, inner)
    return z_0 - law.root(law.root_transposed(misfit.adjoint(multiplier)))


def data_space_cg(misfit: LinearisedMisfit, law: ErrorLaw, rhs: Tensor, inner: InnerSolve) -> Tensor:
    """Solve (I + J L Lᵀ Jᵀ) λ = rhs (B, m) by conjugate gradients, each sample with its own step lengths."""
    multiplier = torch.zeros_like(rhs)
    residual = rhs.clone()
    direction = residual.clone()
    square = _dot(residual, residual)
    target = square * inner.reduction**2
    for _ in range(inner.iterations):
        if bool((square <= target).all()):
            break
        spread = law.root(law.root_transposed(misfit.adjoint(direction)))
        image = direction + misfit.tangent(spread)
        active = square > target
        length = torch.where(active, square / _dot(direction, image).clamp(min=1e-30), 0.0)
        multiplier += length * direction
        residual -= length * image
        previous, square = square, _dot(residual, residual)
        direction = residual + torch.where(active, square / previous.clamp(min=1e-30), 0.0) * direction
    return multiplier


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=-1, keepdim=True)
