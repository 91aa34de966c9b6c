"""ΠGDM, pseudoinverse guidance (Song, Vahdat, Mardani & Kautz 2023; second source document) as a posterior denoiser.

What the data say of x_t depends on how uncertain x_0 is when x_t is known. With x_0 | x_t ~ N(x̂_0, r_t² I) and linear
data y = H x_0 + e, in units of the noise, p(y | x_t) = N(H x̂_0, I + r_t² H Hᵀ), and its gradient with H x̂_0 as the only
thing that depends on x_t gives

    E[x_0 | x_t, y] ≈ x̂_0 + (sigma_t²/alpha_t) C (∂x̂_0/∂x_t)ᵀ Hᵀ (I + r_t² H Hᵀ)⁻¹ (y − H x̂_0),

C the covariance of the noise law. The solve takes conjugate gradients on the data, the Jacobian one vector–Jacobian
product. r_t = 0 is DPS; r_t² = s²/(1 + s²/sigma_data²) with s = sigma_t/alpha_t is right where the prior is white noise
of deviation sigma_data, and there the method is exact. For a Gaussian mode of another variance λ that the data see with
gain h, the shift is wrong by the factor (1 + V h²)/(1 + r_t² h²), V = s² λ/(λ + s²): too timid where λ < sigma_data²,
too bold where it is larger. sigma_data² = ∞ gives r_t = s; the paper's own is sigma_data = 1.

Linear data are what it is made for. Nonlinear least squares are linearised about x̂_0 here: an extension.
"""

from dataclasses import dataclass, field

from torch import Tensor

from pdediff.denoisers.base import Denoiser
from pdediff.guidance.base import PosteriorDenoiser, WhiteCovariance, inside, white_variance
from pdediff.guidance.moments import JacobianCovariance
from pdediff.guidance.proximal import InnerSolve, data_space_cg
from pdediff.likelihoods.base import LeastSquares


@dataclass(frozen=True)
class PiGDM(PosteriorDenoiser):
    """E[x_0 | x_t, y] under p(y | x_t) = N(H x̂_0, I + r_t² H Hᵀ).

    Parameters
    ----------
    denoiser: the prior, differentiable.
    likelihood: Gaussian noise; linear, or linearised about x̂_0.
    sigma_data: standard deviation of x_0, for r_t.
    inner: accuracy of the solve in the space of the data.

    """

    denoiser: Denoiser
    likelihood: LeastSquares
    sigma_data: float = 1.0
    inner: InnerSolve = field(default_factory=lambda: InnerSolve(iterations=50, reduction=1e-3))

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """The posterior mean (B, D) of x_0 given x_t (B, D) at time t, a number or (B,)."""
        jacobian = JacobianCovariance(self.denoiser, x_t, t)
        about = inside(self.denoiser, jacobian.x_0)
        misfit = self.likelihood.linearise(about, self.inner.solve_tolerance)
        law = WhiteCovariance(white_variance(self.denoiser, x_t, t, self.sigma_data))
        rhs = misfit.residual + misfit.tangent(jacobian.x_0 - about)
        return jacobian.x_0 - jacobian.covariance(misfit.adjoint(data_space_cg(misfit, law, rhs, self.inner)))
