"""DiffPIR (Zhu et al. 2023) as a posterior denoiser: plug-and-play with a denoising diffusion prior.

Half-quadratic splitting alternates a denoiser with a proximal step towards the data. In units of the noise of the data,
y = F(x_0) + e,

    E[x_0 | x_t, y] ≈ argmin_z ½‖F(z) − y‖² + λ ‖z − x̂_0‖²/(2 s²),        s = sigma_t/alpha_t,

the mean of z for linear F under the guess x_0 | x_t ~ N(x̂_0, (s²/λ) I). Nothing is differentiated through the network.
The paper's ζ, the share of fresh noise, is the η of the DDIM sampler that takes this denoiser.

The guess is nowhere right: no prior leaves the variance s² at all levels. For a mode of the prior of variance v that
the data see with gain h, the guided flow of x̄ = x_t/alpha_t can be integrated. With R² = v h² and c = R²/λ:

                            mean · h/y                    variance / v
    the posterior           R²/(1 + R²)                   1/(1 + R²)
    DiffPIR, ancestral      1 − c^(c/(1−c))               (1 − c^((1+c)/(1−c)))/(1 + c)
    DiffPIR, deterministic                                c^(c/(1−c))

(at c = 1, c^(1/(1−c)) is 1/e). With λ = 1 both variances are right where the data are precise, R → ∞, and at R = 1
they are 0.43 (ancestral) and 0.37, for 0.5; the ancestral mean is 0.63 there, for 0.5. With another λ the variance of
precisely observed modes is λ times what it should be: the 7 or so of the paper is a choice for looks. The implicit step
is stable at any precision and number of levels. Nonlinear F takes Gauss–Newton steps from x̂_0.
"""

from dataclasses import dataclass, field

from torch import Tensor

from pdediff.denoisers.base import Denoiser
from pdediff.guidance.base import PosteriorDenoiser, WhiteCovariance, gauss_newton, white_variance
from pdediff.guidance.proximal import InnerSolve
from pdediff.likelihoods.base import LeastSquares


@dataclass(frozen=True)
class DiffPIR(PosteriorDenoiser):
    """E[x_0 | x_t, y] ≈ argmin −log p(y | z) + λ ‖z − x̂_0‖²/(2 s²).

    Parameters
    ----------
    denoiser: the prior; it is not differentiated.
    likelihood: Gaussian noise.
    lambda_: λ, the weight of the prediction; 1 gives precise data their right width.
    inner: accuracy of the solve in the space of the data.
    steps: Gauss–Newton steps, where the data are not linear.

    Raises
    ------
    ValueError: λ is not positive.

    """

    denoiser: Denoiser
    likelihood: LeastSquares
    lambda_: float = 1.0
    inner: InnerSolve = field(default_factory=lambda: InnerSolve(iterations=50, reduction=1e-3))
    steps: int = 2

    def __post_init__(self) -> None:
        if not self.lambda_ > 0:
            raise ValueError(f"lambda of DiffPIR must be positive, got {self.lambda_}")

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """The posterior mean (B, D) of x_0 given x_t (B, D) at time t, a number or (B,)."""
        x_0 = self.denoiser(x_t, t)
        law = WhiteCovariance(white_variance(self.denoiser, x_t, t, sigma_data=float("inf")) / self.lambda_)
        return gauss_newton(self.denoiser, self.likelihood, x_0, law, self.inner, self.steps)
