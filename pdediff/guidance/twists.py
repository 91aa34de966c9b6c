"""Guesses of the likelihood of a noisy function, p̃(y | x_t), by which particles are led (`guidance.twisted_smc`).

Both take x_0 | x_t to be N(x̂_0, C_t), C_t the denoiser's error law. With data that have Gaussian noise, r the misfit
and J its derivative in units of the noise,

    p̃(y | x_t) = N(r(x̂_0); 0, S),        S = I + J C_t Jᵀ,

is exact for linear data and a Gaussian prior. Of another likelihood p(y | x̂_0) is taken, as in DPS, tempered because it
is too sharp where x̂_0 is uncertain:

    p̃(y | x_t) = p(y | x̂_0)^{1/(1 + (s_t/temper)²)}.

At the last level x_0 is drawn: from N(x̂_0, C_t) or, with Gaussian noise, from that law given the linearised data
p_lin(y | x_0) ∝ exp(−½‖r + J (x_0 − x̂_0)‖²). The draw has the weight

    p(y | x_0) N(x_0; x̂_0, C_t)/q(x_0) = p(y | x_0),   or   p̃(y | x_t) p(y | x_0)/p_lin(y | x_0),

the latter because N(x̂_0, C_t) p_lin = p̃ q. For linear data it is p̃ itself: nothing is left to chance.
"""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from pdediff.denoisers.base import Denoiser, ErrorLaw, white_error_law
from pdediff.guidance.base import inside
from pdediff.guidance.proximal import Sensitivities
from pdediff.likelihoods.base import LeastSquares, Likelihood, LinearisedMisfit
from pdediff.schedules import noise_to_signal

TOLERANCE = 1e-4  # of the solves inside J, relative


class Twist(Protocol):
    """p̃(y | x_t) as a function of the prediction, up to a factor of each level."""

    def __call__(self, x_0: Tensor, t: float) -> Tensor:
        """ln p̃(y | x_t) (n,) of predictions x̂_0 (n, D) at time t, differentiable."""
        ...

    def finish(self, x_0: Tensor, t: float, w: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """A draw of x_0 (n, D) given the last x_t, and ln of its weight (n,), exactly that of p(y | x_0).

        x_0 (n, D) are the predictions; w (n, K) and e (n, m) are white noise, K the dimension of the error law and m
        the number of data, 0 if the likelihood does not say.
        """
        ...


@dataclass
class GaussianTwist:
    """−½ rᵀ S⁻¹ r − ½ ln det S. Its gradient takes S and J to be what they are at x̂_0.

    Parameters
    ----------
    denoiser: the prior.
    likelihood: gives r and J.
    sigma_data: for the guesses (not for the last draw) C_t = r_t² I with r_t² = s²/(1 + s²/sigma_data²).

    """

    denoiser: Denoiser
    likelihood: LeastSquares
    sigma_data: float | None = None
    _rows: Tensor | None = field(default=None, init=False)  # of J (m, 1, D), where it is the same everywhere

    def __call__(self, x_0: Tensor, t: float) -> Tensor:
        """ln p̃(y | x_t) (n,) of predictions x̂_0 (n, D) at time t, differentiable."""
        with torch.no_grad():
            about = x_0.detach()
            law = self.denoiser.error_law(about, t)
            if self.sigma_data is not None:
                law = white_error_law(noise_to_signal(self.denoiser.schedule, t), self.sigma_data, about.shape[1])
            misfit, residual = self._linearise(about)
            factor = self._factor(misfit, law)
            value, multiplier = _evidence(factor, residual)
            slope = misfit.adjoint(multiplier.to(about))
        return value - (slope * (x_0 - about)).sum(dim=1)

    def finish(self, x_0: Tensor, t: float, w: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """A draw of x_0 (n, D) given the last x_t and the linearised data, and ln of its weight (n,)."""
        law, (misfit, residual) = self.denoiser.error_law(x_0, t), self._linearise(x_0)
        factor = self._factor(misfit, law)
        guess, _ = _evidence(factor, residual)
        deviation = law.root(w)
        _, multiplier = _evidence(factor, residual - e + misfit.tangent(deviation))
        deviation = deviation - law.covariance(misfit.adjoint(multiplier.to(x_0)))
        linearised = -(residual + misfit.tangent(deviation)).double().square().sum(dim=1) / 2
        return x_0 + deviation, guess + self.likelihood.log_prob(x_0 + deviation) - linearised

    def _linearise(self, x_0: Tensor) -> tuple[LinearisedMisfit, Tensor]:
        """The misfit linearised at x_0, or at the nearest point inside the denoiser's bounds, and its value at x_0."""
        about = inside(self.denoiser, x_0)
        misfit = self.likelihood.linearise(about, TOLERANCE)
        return misfit, misfit.residual + misfit.tangent(x_0 - about)

    def _factor(self, misfit: LinearisedMisfit, law: ErrorLaw) -> Tensor:
        """The Cholesky factor of S: (n, m, m), or (1, m, m) if S is the same for all."""
        rows = self._rows
        if rows is None:
            rows = Sensitivities(misfit).rows
            if self.likelihood.linear:
                self._rows = rows = rows[:, :1].clone()
        spread = law.root_transposed(rows).transpose(0, 1).double()
        return torch.linalg.cholesky(torch.eye(spread.shape[1]).to(spread) + spread @ spread.mT)


@dataclass(frozen=True)
class TemperedTwist:
    """ln p(y | x̂_0)/(1 + (s_t/temper)²).

    Parameters
    ----------
    denoiser: the prior.
    likelihood: any.
    temper: the noise-to-signal ratio at which the likelihood counts half.

    """

    denoiser: Denoiser
    likelihood: Likelihood
    temper: float

    def __call__(self, x_0: Tensor, t: float) -> Tensor:
        """ln p̃(y | x_t) (n,) of predictions x̂_0 (n, D) at time t, differentiable."""
        s = noise_to_signal(self.denoiser.schedule, t)
        return self.likelihood.log_prob(x_0) / (1 + (s / self.temper) ** 2)

    def finish(self, x_0: Tensor, t: float, w: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """A draw of x_0 (n, D) given the last x_t, and its ln p(y | x_0) (n,)."""
        z = x_0 + self.denoiser.error_law(x_0, t).root(w)
        return z, self.likelihood.log_prob(z)


def _evidence(factor: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    """−½ rᵀ S⁻¹ r − ½ ln det S (n,) and S⁻¹ r (n, m) of residuals r (n, m), in float64."""
    white = torch.linalg.solve_triangular(factor, residual.double()[..., None], upper=False)
    multiplier = torch.linalg.solve_triangular(factor.mT, white, upper=True)[..., 0]
    value = -white.square().sum(dim=(1, 2)) / 2 - factor.diagonal(dim1=1, dim2=2).log().sum(dim=1)
    return value, multiplier
