"""The denoiser's interface and the one preconditioning that network denoisers share.

A denoiser gives the posterior mean of the clean function, D(x_t, t) = E[x_0 | x_t] (eq. 50). Its Jacobian gives the
posterior covariance, Cov[x_0 | x_t] = (sigma_t²/alpha_t) ∂D/∂x_t for white noise (Efron 2011; second-order Tweedie).
What a denoiser knows of that covariance it offers as `error_law`, which guidance uses as its metric.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pdediff.schedules import Schedule
from pdediff.spaces import FunctionSpace


class ErrorLaw(Protocol):
    """A Gaussian model of x_0 − D(x_t, t) given x_t: a root L of its covariance C = L Lᵀ, one for each sample."""

    def root(self, w: Tensor) -> Tensor:
        """L w: (..., B, K) -> (..., B, D)."""
        ...

    def root_transposed(self, v: Tensor) -> Tensor:
        """Lᵀ v: (..., B, D) -> (..., B, K)."""
        ...

    @property
    def dimension(self) -> int:
        """K, the number of white variables."""
        ...


class Denoiser(Protocol):
    """`denoiser(x_t, t, query=None, condition=None) -> E[x_0 | x_t]`."""

    space: FunctionSpace
    schedule: Schedule

    @property
    def bounds(self) -> tuple[float, float]:
        """Values beyond which x_0 hardly ever goes; nonlinear physics is linearised inside them."""
        ...

    @property
    def noise_range(self) -> tuple[float, float]:
        """Noise-to-signal ratios (s_min, s_max): at the first x_t determines x_0, at the second it says nothing."""
        ...

    def __call__(
        self, x_t: Tensor, t: Tensor | float, query: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Denoise x_t (B, D) at time t (a number or (B,)): (B, D), or the values at the query points if given."""
        ...

    def error_law(self, x_0: Tensor, t: float) -> ErrorLaw:
        """The law of x_0 − D(x_t, t), given the prediction x_0 = D(x_t, t) of shape (B, D)."""
        ...


@dataclass(frozen=True)
class WhiteErrorLaw:
    """C = r_t² I with r_t² = s²/(1 + s²/sigma_data²): the conditional variance of white Gaussian data."""

    r_t: float
    dimension: int

    def root(self, w: Tensor) -> Tensor:
        """r_t w."""
        return self.r_t * w

    def root_transposed(self, v: Tensor) -> Tensor:
        """r_t v."""
        return self.r_t * v


def white_error_law(s: float, sigma_data: float, dimension: int) -> WhiteErrorLaw:
    """The white law at noise-to-signal ratio s for data of standard deviation sigma_data."""
    return WhiteErrorLaw(s / (1 + (s / sigma_data) ** 2) ** 0.5, dimension)


@dataclass(frozen=True)
class Preconditioning:
    """D(x) = c_skip x + c_out F(c_in x, c_noise) for x = x_0 + s g (Karras et al. 2022, table 1).

    The network F then sees inputs and targets of unit variance at every noise level.

    Parameters
    ----------
    sigma_data: measured standard deviation of x_0 about `mean`.
    mean: measured mean of x_0.

    """

    sigma_data: float
    mean: float = 0.0

    def coefficients(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """c_skip, c_out, c_in, c_noise at noise-to-signal ratios s (any shape)."""
        total = s.square() + self.sigma_data**2
        return self.sigma_data**2 / total, s * self.sigma_data * total.rsqrt(), total.rsqrt(), s.log() / 4


def batch_times(t: Tensor | float, x_t: Tensor) -> Tensor:
    """t as a tensor (B,) beside x_t (B, D), in its dtype and on its device."""
    return torch.as_tensor(t, dtype=x_t.dtype, device=x_t.device).expand(x_t.shape[0])
