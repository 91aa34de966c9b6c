"""The denoiser's interface and the one preconditioning that network denoisers share.

A denoiser gives the posterior mean of the clean function, D(x_t, t) = E[x_0 | x_t] (eq. 50). Its Jacobian gives the
posterior covariance, Cov[x_0 | x_t] = (sigma_t²/alpha_t) ∂D/∂x_t for white noise (Efron 2011; second-order Tweedie).
What a denoiser knows of that covariance it offers as `error_law`, which guidance uses as its metric.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pdediff.schedules import Schedule
from pdediff.spaces import Space


class Covariance(Protocol):
    """A model of Cov[x_0 | x_t], one matrix for each sample."""

    def covariance(self, v: Tensor) -> Tensor:
        """C v: (B, D) -> (B, D)."""
        ...


class ErrorLaw(ABC):
    """A Gaussian model of x_0 − D(x_t, t) given x_t: a root L of its covariance C = L Lᵀ, one for each sample."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """K, the number of white variables."""

    @abstractmethod
    def root(self, w: Tensor) -> Tensor:
        """L w: (..., B, K) -> (..., B, D)."""

    @abstractmethod
    def root_transposed(self, v: Tensor) -> Tensor:
        """Lᵀ v: (..., B, D) -> (..., B, K)."""

    @abstractmethod
    def marginal(self, part: slice) -> "ErrorLaw":
        """The law of the values `part` of x_0 alone: one or several whole fields."""

    def covariance(self, v: Tensor) -> Tensor:
        """C v = L Lᵀ v: (B, D) -> (B, D)."""
        return self.root(self.root_transposed(v))


class Denoiser(Protocol):
    """`denoiser(x_t, t, query=None, condition=None) -> E[x_0 | x_t]`."""

    @property
    def space(self) -> Space:
        """The space of x_0, with the law of the noise."""
        ...

    @property
    def schedule(self) -> Schedule:
        """The schedule in which t is given."""
        ...

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Values (D,) or () beyond which x_0 hardly ever goes; nonlinear physics is linearised inside them."""
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
class WhiteErrorLaw(ErrorLaw):
    """C = r_t² I: independent errors of one deviation r_t in each of `size` values."""

    r_t: float
    size: int

    @property
    def dimension(self) -> int:
        """K = D = size."""
        return self.size

    def root(self, w: Tensor) -> Tensor:
        """r_t w."""
        return self.r_t * w

    def root_transposed(self, v: Tensor) -> Tensor:
        """r_t v."""
        return self.r_t * v

    def marginal(self, part: slice) -> "WhiteErrorLaw":
        """The same law of fewer values."""
        return WhiteErrorLaw(self.r_t, len(range(self.size)[part]))


@dataclass(frozen=True)
class BlockErrorLaw(ErrorLaw):
    """Independent laws of consecutive parts of x_0: C is block diagonal.

    Parameters
    ----------
    laws: the laws, in the order of the parts.
    sizes: number of values of each part; they sum to D.

    """

    laws: tuple[ErrorLaw, ...]
    sizes: tuple[int, ...]

    @property
    def dimension(self) -> int:
        """The sum of the laws' K."""
        return sum(law.dimension for law in self.laws)

    def root(self, w: Tensor) -> Tensor:
        """L w, part by part: (..., B, K) -> (..., B, D)."""
        parts = w.split([law.dimension for law in self.laws], dim=-1)
        return torch.cat([law.root(part) for law, part in zip(self.laws, parts, strict=True)], dim=-1)

    def root_transposed(self, v: Tensor) -> Tensor:
        """Lᵀ v, part by part: (..., B, D) -> (..., B, K)."""
        parts = v.split(self.sizes, dim=-1)
        return torch.cat([law.root_transposed(part) for law, part in zip(self.laws, parts, strict=True)], dim=-1)

    def marginal(self, part: slice) -> ErrorLaw:
        """The law of one of the parts. Raises ValueError for any other values."""
        start = 0
        for law, size in zip(self.laws, self.sizes, strict=True):
            if (part.start or 0, part.stop) == (start, start + size):
                return law
            start += size
        raise ValueError(f"{part} is not one of the parts, of sizes {self.sizes}")


def white_error_law(s: float, sigma_data: float, dimension: int) -> WhiteErrorLaw:
    """r_t² = s²/(1 + s²/sigma_data²): the conditional variance of white Gaussian data of deviation sigma_data."""
    return WhiteErrorLaw(s / (1 + (s / sigma_data) ** 2) ** 0.5, dimension)


@dataclass(frozen=True)
class Preconditioning:
    """D(x) = c_skip x + c_out F(c_in x, c_noise) for x = x_0 + s g (Karras et al. 2022, table 1).

    The network F then sees inputs and targets of unit variance at every noise level.

    Parameters
    ----------
    sigma_data: measured standard deviation of x_0 about `mean`; one number, or one for each channel.
    mean: measured mean of x_0, likewise.

    """

    sigma_data: float | Sequence[float]
    mean: float | Sequence[float] = 0.0

    def coefficients(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """c_skip, c_out, c_in, c_noise at noise-to-signal ratios s (any shape).

        With a sigma_data for each channel the first three have the channels as a last axis of their own.
        """
        sigma_data, ratio = torch.as_tensor(self.sigma_data, dtype=s.dtype, device=s.device), s
        if sigma_data.dim():
            ratio = s[..., None]
        total = ratio.square() + sigma_data.square()
        return sigma_data.square() / total, ratio * sigma_data * total.rsqrt(), total.rsqrt(), s.log() / 4


def batch_times(t: Tensor | float, x_t: Tensor) -> Tensor:
    """t as a tensor (B,) beside x_t (B, D), in its dtype and on its device."""
    return torch.as_tensor(t, dtype=x_t.dtype, device=x_t.device).expand(x_t.shape[0])
