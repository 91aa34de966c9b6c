"""Noise schedules: x_t = alpha_t x_0 + sigma_t g (eq. 49), and the conversions between predictions (eqs. 24–27).

A denoiser predicts x_0; a DDPM network predicts the noise eps; score matching gives the score ∇ log p(x_t). With
x_t = alpha_t x_0 + sigma_t eps and white g of unit variance they are one another:

    eps = (x_t − alpha_t x_0) / sigma_t,        score = −eps / sigma_t.

Every schedule is the same path up to scaling: x_t/alpha_t is x_0 plus noise of standard deviation
s = sigma_t/alpha_t, the noise-to-signal ratio. Networks see only s, so one set of weights serves every schedule.
Schedules differ in the pace at which t runs through s, and in the scale of x_t.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T", float, Tensor)


class Schedule(Protocol):
    """`schedule(t) -> (alpha_t, sigma_t)`, and its inverse from the noise-to-signal ratio."""

    def __call__(self, t: T) -> tuple[T, T]:
        """Signal and noise amplitudes (alpha_t, sigma_t) at times t."""
        ...

    def time(self, s: T) -> T:
        """The time t at which sigma_t / alpha_t = s."""
        ...


@dataclass(frozen=True)
class FunctionalSchedule:
    """alpha_t = 1/√(t²+1), sigma_t = t/√(t²+1), t ≥ 0 (Zhang & Wonka). Variance preserving; s = t."""

    def __call__(self, t: T) -> tuple[T, T]:
        """Amplitudes (alpha_t, sigma_t); t is a number or a tensor of any shape."""
        alpha_t = (t * t + 1) ** -0.5
        return alpha_t, t * alpha_t

    def time(self, s: T) -> T:
        """t = s."""
        return s


@dataclass(frozen=True)
class VESchedule:
    """alpha_t = 1, sigma_t = t: variance exploding (Song et al. 2021; Karras et al. 2022). s = t."""

    def __call__(self, t: T) -> tuple[T, T]:
        """Amplitudes (1, t); t is a number or a tensor of any shape."""
        return t * 0 + 1, t

    def time(self, s: T) -> T:
        """t = s."""
        return s


@dataclass(frozen=True)
class VPSchedule:
    """alpha_t² = exp(−B_t), sigma_t² = 1 − alpha_t², B_t = ∫_0^t beta = beta_min t + (beta_max − beta_min) t²/2.

    The variance-preserving SDE dx = −½ beta x dt + √beta dw on 0 ≤ t ≤ 1 with linear beta (Song et al. 2021). The
    chain of DDPM (Ho et al. 2020; eq. 1) is its Euler scheme: for N steps with beta_i = beta(i/N)/N,

        ln Π_{j≤i} (1 − beta_j) = −B_{i/N} + O(1/N).

    The defaults are DDPM's beta_1 = 10⁻⁴, beta_N = 0.02 at N = 1000, whose alpha are smaller by at most 3.4 %.
    s² = exp(B_t) − 1 reaches 152² at t = 1; larger ratios lie at t > 1, on the same formula.

    Parameters
    ----------
    beta_min, beta_max: rate of noising at t = 0 and t = 1, per unit of t.

    Raises
    ------
    ValueError: unless 0 < beta_min ≤ beta_max.

    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max < math.inf:
            raise ValueError(f"rates must satisfy 0 < beta_min ≤ beta_max, not {self.beta_min=}, {self.beta_max=}")

    def __call__(self, t: T) -> tuple[T, T]:
        """Amplitudes (alpha_t, sigma_t); t is a number or a tensor of any shape."""
        f, b_t = _functions(t), t * (self.beta_min + (self.beta_max - self.beta_min) * t / 2)
        return f.exp(-b_t / 2), f.sqrt(-f.expm1(-b_t))  # expm1: 1 − alpha_t² has no digits left at small t

    def time(self, s: T) -> T:
        """The positive root of B_t = ln(1 + s²), in the form without a difference."""
        f = _functions(s)
        b_t = f.log1p(s * s)
        return 2 * b_t / (self.beta_min + f.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * b_t))


@dataclass(frozen=True)
class CosineSchedule:
    """alpha_t = cos θ_t/cos θ_0, sigma_t² = 1 − alpha_t², θ_t = (π/2)(t + offset)/(1 + offset), 0 ≤ t ≤ 1.

    Nichol & Dhariwal (2021), eq. 17. No signal is left at t = 1, where s = ∞: start from `time` of a finite s, as their
    clipped chain does. No difference of cosines is taken:

        cos θ_t = sin(π/2 − θ_t),        sigma_t² = sin(θ_t + θ_0) sin(θ_t − θ_0)/cos² θ_0.

    Parameters
    ----------
    offset: moves t = 0 away from the top of the cosine, so that noise sets in as √t and not as t.

    Raises
    ------
    ValueError: an offset that is not positive.

    """

    offset: float = 0.008

    def __post_init__(self) -> None:
        if not 0 < self.offset < math.inf:
            raise ValueError(f"the offset must be positive, not {self.offset}")

    @property
    def _rate(self) -> float:
        """dθ/dt."""
        return math.pi / 2 / (1 + self.offset)

    def __call__(self, t: T) -> tuple[T, T]:
        """Amplitudes (alpha_t, sigma_t); t is a number or a tensor of any shape."""
        f, theta_0 = _functions(t), self._rate * self.offset
        alpha_t = f.sin(self._rate * (1 - t)) / math.cos(theta_0)
        sigma_t = f.sqrt(f.sin(self._rate * t + 2 * theta_0) * f.sin(self._rate * t)) / math.cos(theta_0)
        return alpha_t, sigma_t

    def time(self, s: T) -> T:
        """tan θ_t = r/cos θ_0 with r² = s² + sin² θ_0; the difference θ_t − θ_0 by the addition theorem."""
        f, sine, cosine = _functions(s), math.sin(self._rate * self.offset), math.cos(self._rate * self.offset)
        r = f.sqrt(s * s + sine**2)
        difference = s * (s / (r + sine))  # r − sin θ_0
        return f.atan2(difference * cosine, cosine**2 + r * sine) / self._rate


def _functions(t: float | Tensor) -> Any:
    """The module whose exp, sqrt, … take t."""
    return torch if isinstance(t, Tensor) else math


def noise_to_signal(schedule: Schedule, t: T) -> T:
    """s = sigma_t / alpha_t at times t."""
    alpha_t, sigma_t = schedule(t)
    return sigma_t / alpha_t


def levels(schedule: Schedule, s_max: float, s_min: float, count: int, rho: float = 7.0) -> Tensor:
    """Times (count,), float64, whose s falls from s_max to s_min evenly in s^(1/rho) (Karras et al. 2022, eq. 5).

    rho = 7 crowds the small levels as image samplers like it; rho → ∞ is geometric spacing. Raises ValueError unless
    s_max > s_min > 0, rho > 0 and count ≥ 2.
    """
    if not (s_max > s_min > 0 and rho > 0 and count >= 2):
        raise ValueError(f"levels need s_max > s_min > 0, rho > 0, count ≥ 2, not {s_max=}, {s_min=}, {rho=}, {count=}")
    ramp = torch.linspace(0, 1, count, dtype=torch.float64)
    s = (s_max ** (1 / rho) + ramp * (s_min ** (1 / rho) - s_max ** (1 / rho))) ** rho
    return schedule.time(s)


def epsilon_from_x0(schedule: Schedule, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
    """Noise prediction from x_0-prediction: eps = (x_t − alpha_t x_0)/sigma_t. Shapes (B, D), t broadcastable."""
    alpha_t, sigma_t = schedule(t)
    return (x_t - alpha_t * x_0) / sigma_t


def x0_from_epsilon(schedule: Schedule, x_t: Tensor, epsilon: Tensor, t: Tensor) -> Tensor:
    """x_0-prediction from noise prediction: x_0 = (x_t − sigma_t eps)/alpha_t (Tweedie's formula, eq. 34)."""
    alpha_t, sigma_t = schedule(t)
    return (x_t - sigma_t * epsilon) / alpha_t


def score_from_epsilon(schedule: Schedule, epsilon: Tensor, t: Tensor) -> Tensor:
    """Score of p(x_t) from noise prediction: −eps/sigma_t (eq. 27; white noise law)."""
    return -epsilon / schedule(t)[1]


def epsilon_from_score(schedule: Schedule, score: Tensor, t: Tensor) -> Tensor:
    """Noise prediction from the score: −sigma_t·score (eq. 27)."""
    return -score * schedule(t)[1]


def score_from_x0(schedule: Schedule, x_t: Tensor, x_0: Tensor, t: Tensor) -> Tensor:
    """Score of p(x_t) from x_0-prediction: (alpha_t x_0 − x_t)/sigma_t²."""
    return score_from_epsilon(schedule, epsilon_from_x0(schedule, x_t, x_0, t), t)


def x0_from_score(schedule: Schedule, x_t: Tensor, score: Tensor, t: Tensor) -> Tensor:
    """x_0-prediction from the score: (x_t + sigma_t² score)/alpha_t (Tweedie's formula, eq. 34)."""
    return x0_from_epsilon(schedule, x_t, epsilon_from_score(schedule, score, t), t)
