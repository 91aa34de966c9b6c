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
enough. Conjugate gradients on λ cost one adjoint and one tangent solve an iteration. The eigenvalues of J L (J L)ᵀ span
many decades, one for each thing that the data can tell apart; so the iteration is preconditioned with the same matrix
for a J that was computed a few levels ago, row by row, at the price of an adjoint solve per datum.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pdediff.denoisers.base import Covariance, ErrorLaw
from pdediff.likelihoods.base import LinearisedMisfit
from pdediff.solvers.errors import ConvergenceError

Preconditioner = Callable[[Tensor], Tensor]

CHUNK = 2**19  # numbers transformed at once: what a processor keeps near
ROUNDING = 1e-3  # of vᵀ (I + J C Jᵀ) v ≥ |v|², with products to the tolerance of the solves


@dataclass(frozen=True)
class InnerSolve:
    """How well the proximal problem is solved at each noise level.

    Parameters
    ----------
    iterations: most conjugate-gradient iterations of a Gauss–Newton step.
    reduction: a sample's iterations end when the (preconditioned) residual has fallen by this factor.
    solve_tolerance: relative tolerance of the PDE solves inside an iteration.

    """

    iterations: int = 4
    reduction: float = 1e-2
    solve_tolerance: float = 1e-3


def proximal_step(
    z_0: Tensor,
    law: Covariance,
    misfit: LinearisedMisfit,
    about: Tensor,
    e: Tensor,
    inner: InnerSolve,
    precondition: Preconditioner | None = None,
) -> Tensor:
    """One Gauss–Newton step for the perturbed proximal problem.

    Parameters
    ----------
    z_0: x̂_0 + L w_0 (B, D), a draw of the denoiser's law; with x̂_0 itself and e = 0 the step gives the mode.
    law: the law of x_0 about x̂_0, with C = L Lᵀ.
    misfit: F(x) − y in units of the noise, linearised about z̄.
    about: z̄ (B, D).
    e: perturbation of the data (B, m).
    inner: accuracy.
    precondition: an approximate inverse of I + J L Lᵀ Jᵀ; see `Sensitivities`.

    Returns
    -------
    z (B, D).

    """
    rhs = misfit.residual - e + misfit.tangent(z_0 - about)
    multiplier = data_space_cg(misfit, law, rhs, inner, precondition)
    return z_0 - law.covariance(misfit.adjoint(multiplier))


def data_space_cg(
    misfit: LinearisedMisfit,
    law: Covariance,
    rhs: Tensor,
    inner: InnerSolve,
    precondition: Preconditioner | None = None,
) -> Tensor:
    """Solve (I + J C Jᵀ) λ = rhs (B, m) by conjugate gradients, each sample with its own step lengths.

    A sample stops where C is seen not to be a covariance (a network's Jacobian is one only approximately).
    """
    multiplier = torch.zeros_like(rhs)
    residual = rhs.clone()
    direction = shown = residual if precondition is None else precondition(residual)
    square = _dot(residual, shown)
    target = square * inner.reduction**2
    sound = torch.ones_like(square, dtype=torch.bool)
    for _ in range(inner.iterations):
        active = sound & (square > target)
        if not bool(active.any()):
            break
        image = direction + misfit.tangent(law.covariance(misfit.adjoint(direction)))
        curvature = _dot(direction, image)
        sound &= ~active | (curvature >= _dot(direction, direction) * (1 - ROUNDING))
        active &= sound
        length = torch.where(active, square / curvature.clamp(min=1e-30), 0.0)
        multiplier += length * direction
        residual = residual - length * image
        shown = residual if precondition is None else precondition(residual)
        previous, square = square, torch.where(active, _dot(residual, shown), square)
        direction = shown + square / previous.clamp(min=1e-30) * direction
    return multiplier


class Sensitivities:
    """The rows of J at one point, to precondition the proximal steps near it.

    Parameters
    ----------
    misfit: the linearised misfit; its adjoint is called once for each datum.

    """

    def __init__(self, misfit: LinearisedMisfit) -> None:
        batch, size = misfit.residual.shape
        units = torch.eye(size, dtype=misfit.residual.dtype, device=misfit.residual.device)
        self.rows = torch.stack([misfit.adjoint(unit.expand(batch, size)) for unit in units])  # (m, B, D)

    def preconditioner(self, law: ErrorLaw) -> Preconditioner:
        """v ↦ (I + J L Lᵀ Jᵀ)⁻¹ v on data (B, m), by a Cholesky factor for each sample."""
        chunks = self.rows.split(max(1, CHUNK // self.rows[0].numel()))
        spread = torch.cat([law.root_transposed(rows) for rows in chunks]).transpose(0, 1)
        matrix = (spread @ spread.mT).double()  # its eigenvalues span more than single precision has digits
        matrix.diagonal(dim1=-2, dim2=-1).add_(1.0)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if bool(failed.any()):  # rounding of the rows, in their own precision, has cost it its definiteness
            trace = matrix.diagonal(dim1=-2, dim2=-1).sum(dim=-1, keepdim=True)
            matrix.diagonal(dim1=-2, dim2=-1).add_(torch.finfo(spread.dtype).eps * trace)
            factor, failed = torch.linalg.cholesky_ex(matrix)
        if bool(failed.any()) or not bool(factor.isfinite().all()):
            raise ConvergenceError(
                "the sampler did not converge: the data are too many sigma from anything that the prior allows; check "
                "the units of the boundary, the source, sigma and the prior's mean"
            )
        return lambda v: torch.cholesky_solve(v[..., None].double(), factor)[..., 0].to(v.dtype)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=-1, keepdim=True)
