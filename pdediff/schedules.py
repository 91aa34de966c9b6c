"""Noise schedules: x_t = alpha_t x_0 + sigma_t g (eq. 49), and the conversions between predictions (eqs. 24–27).

A denoiser predicts x_0; a DDPM network predicts the noise eps; score matching gives the score ∇ log p(x_t). With
x_t = alpha_t x_0 + sigma_t eps and white g of unit variance they are one another:

    eps = (x_t − alpha_t x_0) / sigma_t,        score = −eps / sigma_t.

Every schedule is the same path up to scaling: x_t/alpha_t is x_0 plus noise of standard deviation
s = sigma_t/alpha_t, the noise-to-signal ratio. Networks see only s, so one set of weights serves every schedule.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

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
