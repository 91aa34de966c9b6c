"""`GaussianDenoiser`: the closed form for a Gaussian prior. No training.

For x_0 ~ N(m, C) and x_t = alpha_t x_0 + sigma_t g with white g,

    D(x_t, t) = m + alpha_t C (alpha_t² C + sigma_t² I)⁻¹ (x_t − alpha_t m),
    Cov[x_0 | x_t] = sigma_t² C (alpha_t² C + sigma_t² I)⁻¹,

which costs two fast transforms where C is diagonal in one. So does ln p(x_t) = ln N(x_t; alpha_t m, alpha_t² C +
sigma_t² I), of which mixtures are made (`denoisers.mixture`). A variogram on a rectangle becomes such a C on a padded
torus (`datasets.embedding`). This is kriging as a diffusion prior, and the yardstick of every test of guidance.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pdediff.datasets.random_fields import SpectralCovariance
from pdediff.denoisers.base import ErrorLaw, batch_times, white_error_law
from pdediff.schedules import FunctionalSchedule, Schedule, noise_to_signal
from pdediff.spaces import FunctionSpace


@dataclass
class GaussianDenoiser:
    """Posterior mean under N(mean, C), for one field on the grid of C.

    Parameters
    ----------
    covariance: C, diagonal in a fast transform.
    space: the function space; one field on the shape of C.
    mean: m, a number or a field (ny, nx).
    schedule: the schedule in which t is given.
    metric: "exact" gives C's own error law; "white" the law r_t² I, whose bias is documented (for comparison).

    Raises
    ------
    ValueError: a space of several fields or of another shape than C, or an unknown metric.

    """

    covariance: SpectralCovariance
    space: FunctionSpace
    mean: float | Tensor = 0.0
    schedule: Schedule = field(default_factory=FunctionalSchedule)
    metric: Literal["exact", "white"] = "exact"

    def __post_init__(self) -> None:
        if self.space.channels != 1 or self.space.shape != self.covariance.shape:
            raise ValueError(f"a covariance on {self.covariance.shape} does not fit {self.space}")
        if self.metric not in ("exact", "white"):
            raise ValueError(f"the metric is 'exact' or 'white', not {self.metric!r}")

    def __call__(
        self, x_t: Tensor, t: Tensor | float, query: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """E[x_0 | x_t]: (B, D) -> (B, D). Raises ValueError for query points or a condition."""
        if query is not None or condition is not None:
            raise ValueError("the closed-form Gaussian denoiser answers on its grid and takes no condition")
        deviation, alpha_t, sigma_t = self._deviation(x_t, t)
        gained = self.covariance.apply(deviation, lambda c: alpha_t * c / (alpha_t.square() * c + sigma_t.square()))
        return (torch.as_tensor(self.mean).to(x_t) + gained).flatten(1)

    def log_evidence(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """ln p(x_t) of x_t (B, D) at time t, a number or (B,): (B,). Its gradient in x_t is the score."""
        deviation, alpha_t, sigma_t = self._deviation(x_t, t)
        whitened = self.covariance.apply(deviation, lambda c: 1 / (alpha_t.square() * c + sigma_t.square()))
        misfit = (deviation * whitened).sum(dim=(1, 2))
        distinct, row = batch_times(t, x_t).unique(return_inverse=True)
        log_det = torch.tensor([self._log_determinant(t) for t in distinct.tolist()], dtype=torch.float64)
        return -(misfit + log_det.to(x_t)[row] + self.space.dimension * math.log(2 * math.pi)) / 2

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The mean plus and minus five standard deviations, of the most variable point."""
        mean, reach = torch.as_tensor(self.mean), 5 * float(self.covariance.pointwise_variance().max().sqrt())
        return mean.min() - reach, mean.max() + reach

    @property
    def noise_range(self) -> tuple[float, float]:
        """From a tenth of the pointwise standard deviation to twice that of the largest mode."""
        sigma_data = float(self.covariance.pointwise_variance().mean().sqrt())
        return 0.1 * sigma_data, 2 * float(self.covariance.spectrum.max().sqrt())

    def error_law(self, x_0: Tensor, t: float) -> ErrorLaw:
        """Cov[x_0 | x_t], which does not depend on x_t: exact, or its white stand-in."""
        if self.metric == "white":
            sigma_data = float(self.covariance.pointwise_variance().mean().sqrt())
            return white_error_law(noise_to_signal(self.schedule, t), sigma_data, self.space.dimension)
        alpha_t, sigma_t = self.schedule(t)
        return SpectralErrorLaw(self.covariance, alpha_t, sigma_t)

    def _deviation(self, x_t: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        """x_t − alpha_t m on the grid (B, ny, nx), and alpha_t, sigma_t (B, 1, 1)."""
        alpha_t, sigma_t = (v[:, None, None] for v in self.schedule(batch_times(t, x_t)))
        return self.space.grid_view(x_t)[:, 0] - alpha_t * torch.as_tensor(self.mean).to(x_t), alpha_t, sigma_t

    def _log_determinant(self, t: float) -> float:
        """ln det(alpha_t² C + sigma_t² I)."""
        alpha_t, sigma_t = self.schedule(t)
        return float(self.covariance.trace(lambda c: torch.log(alpha_t**2 * c + sigma_t**2)))


@dataclass(frozen=True)
class SpectralErrorLaw(ErrorLaw):
    """L = (sigma_t² C (alpha_t² C + sigma_t² I)⁻¹)^{1/2}, symmetric."""

    prior: SpectralCovariance
    alpha_t: float
    sigma_t: float

    @property
    def dimension(self) -> int:
        """K = D."""
        return self.prior.shape[0] * self.prior.shape[1]

    def root(self, w: Tensor) -> Tensor:
        """L w: (..., B, D) -> (..., B, D)."""
        return self.prior.apply(w.unflatten(-1, self.prior.shape), self._factor).flatten(-2)

    def root_transposed(self, v: Tensor) -> Tensor:
        """Lᵀ v = L v."""
        return self.root(v)

    def marginal(self, part: slice) -> "SpectralErrorLaw":
        """The law itself: there is one field."""
        return self

    def _factor(self, c: Tensor) -> Tensor:
        return (self.sigma_t**2 * c / (self.alpha_t**2 * c + self.sigma_t**2)).sqrt()
