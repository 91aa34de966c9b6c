"""`GaussianMixtureDenoiser`: the closed form for a mixture of Gaussians. No training.

For x_0 ~ Σ_k w_k N(m_k, C_k) each component is denoised as if it were alone, D_k = E[x_0 | x_t, k], and what remains is
to tell which one x_t came from:

    D(x_t, t) = Σ_k r_k D_k(x_t, t),        r_k(x_t) = w_k p(x_t | k)/Σ_j w_j p(x_t | j),
    Cov[x_0 | x_t] = Σ_k r_k (C_k|t + (D_k − D)(D_k − D)ᵀ),        C_k|t = sigma_t² C_k (alpha_t² C_k + sigma_t² I)⁻¹,

with p(x_t | k) = N(alpha_t m_k, alpha_t² C_k + sigma_t² I). It is the simplest prior with several modes, and with a
label to condition on: the yardstick of everything that a single Gaussian cannot tell apart.
"""

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional

from pdediff.denoisers.base import ErrorLaw, batch_times
from pdediff.denoisers.gaussian import GaussianDenoiser
from pdediff.schedules import Schedule
from pdediff.spaces import FunctionSpace


@dataclass
class GaussianMixtureDenoiser:
    """E[x_0 | x_t] under Σ_k w_k N(m_k, C_k).

    Parameters
    ----------
    components: the Gaussians, all of one space and one schedule.
    weights: w (K,), positive, in any unit; kept with sum one, in float64.

    Raises
    ------
    ValueError: no component, components of different spaces or schedules, or weights that do not fit them.

    """

    components: tuple[GaussianDenoiser, ...]
    weights: Tensor

    def __post_init__(self) -> None:
        if not self.components or any(
            c.space != self.space or c.schedule != self.schedule for c in self.components[1:]
        ):
            raise ValueError("a mixture needs components of one space and one schedule")
        weights = torch.as_tensor(self.weights, dtype=torch.float64)
        if weights.shape != (len(self.components),) or not bool(((weights > 0) & weights.isfinite()).all()):
            raise ValueError(f"{len(self.components)} components need as many positive weights, not {self.weights}")
        self.weights = weights / weights.sum()

    @property
    def space(self) -> FunctionSpace:
        """The space of x_0."""
        return self.components[0].space

    @property
    def schedule(self) -> Schedule:
        """The schedule in which t is given."""
        return self.components[0].schedule

    def __call__(
        self, x_t: Tensor, t: Tensor | float, query: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """E[x_0 | x_t], or E[x_0 | x_t, k] for the component k that `condition` (B,) names: (B, D) -> (B, D).

        Differentiable in x_t. Raises ValueError for query points, or a condition that is not a component's index.
        """
        if query is not None:
            raise ValueError("the closed-form mixture denoiser answers on its grid")
        r = self.responsibilities(x_t, t) if condition is None else self._one_hot(condition, x_t)
        return (r[..., None] * self._predictions(x_t, t)).sum(dim=1)

    def responsibilities(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """r_k = p(k | x_t) of x_t (B, D) at time t, a number or (B,): (B, K)."""
        return torch.softmax(self.log_joint(x_t, t), dim=1)

    def log_evidence(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """ln p(x_t) of x_t (B, D) at time t, a number or (B,): (B,). Its gradient in x_t is the score."""
        return torch.logsumexp(self.log_joint(x_t, t), dim=1)

    def sample(self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """n draws x_0 (n, D), and the component (n,) that each came from; on the generator's device."""
        k = torch.multinomial(self.weights.to(generator.device), n, replacement=True, generator=generator)
        draws = [
            torch.as_tensor(c.mean).to(generator.device, dtype) + c.covariance.sample(n, generator, dtype)
            for c in self.components
        ]
        return torch.stack(draws, dim=1).flatten(2)[torch.arange(n, device=k.device), k], k

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The hull of the components' bounds."""
        low, high = zip(*(c.bounds for c in self.components), strict=True)
        return reduce(torch.minimum, low), reduce(torch.maximum, high)

    @property
    def noise_range(self) -> tuple[float, float]:
        """s_min of the narrowest component; s_max of the widest, or ten times the reach of the means if that is more.

        The reach is the largest |m_k − Σ_j w_j m_j|. At ten times that the ln r_k differ from ln w_k by about a tenth.
        """
        low, high = zip(*(c.noise_range for c in self.components), strict=True)
        means = torch.stack([torch.as_tensor(c.mean).double().expand(c.space.shape).flatten() for c in self.components])
        reach = float((means - self.weights @ means).norm(dim=1).max())
        return min(low), max(*high, 10 * reach)

    def error_law(self, x_0: Tensor, t: float) -> "MixtureErrorLaw":
        """The Gaussian of covariance Cov[x_0 | x_t] at x_t = alpha_t x_0, for predictions x_0 (B, D).

        Spread within components and between them, weighted by the responsibilities at the prediction. The law of
        x_0 | x_t is itself a mixture, and the x_t of a prediction is not handed on: alpha_t x_0 tends to it where there
        is little noise, and does not matter where there is much. Between them it is a model. For modes at ±1 of
        deviation 0.3 the mean variance is 0.75 (s = 0.5) to 1.16 (s = 1) times the exact one, for modes of deviation
        0.1 it is 0.36 to 1.2 times. `guidance.moments` has the exact one, without a root.
        """
        x_t = x_0 * batch_times(self.schedule(t)[0], x_0)[:, None]
        r, predictions = self.responsibilities(x_t, t), self._predictions(x_t, t)
        centred = predictions - (r[..., None] * predictions).sum(dim=1, keepdim=True)
        laws = tuple(c.error_law(x_0, t) for c in self.components)
        return MixtureErrorLaw(laws, r.sqrt(), r.sqrt()[..., None] * centred)

    def _predictions(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """Every D_k: (B, K, D)."""
        return torch.stack([c(x_t, t) for c in self.components], dim=1)

    def log_joint(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """ln w_k + ln p(x_t | k): (B, K)."""
        log_evidence = torch.stack([c.log_evidence(x_t, t) for c in self.components], dim=1)
        return self.weights.log().to(x_t) + log_evidence

    def _one_hot(self, condition: Tensor, x_t: Tensor) -> Tensor:
        count = len(self.components)
        if condition.shape != x_t.shape[:1] or not bool(((condition >= 0) & (condition < count)).all()):
            raise ValueError(f"a condition is an index from 0 to {count - 1} for each sample, not {condition}")
        return functional.one_hot(condition.long(), count).to(x_t)


@dataclass(frozen=True)
class MixtureErrorLaw(ErrorLaw):
    """L = [√r_1 L_1, …, √r_K L_K, √r_1 δ_1, …, √r_K δ_K], so that L Lᵀ = Σ_k r_k (L_k L_kᵀ + δ_k δ_kᵀ).

    Parameters
    ----------
    laws: L_k of the components.
    root_r: √r_k (B, K).
    between: √r_k δ_k (B, K, D).

    """

    laws: tuple[ErrorLaw, ...]
    root_r: Tensor
    between: Tensor

    @property
    def dimension(self) -> int:
        """The components' dimensions and one more for each component."""
        return sum(law.dimension for law in self.laws) + len(self.laws)

    def root(self, w: Tensor) -> Tensor:
        """L w: (..., B, dimension) -> (..., B, D)."""
        *parts, coefficients = w.split([*(law.dimension for law in self.laws), len(self.laws)], dim=-1)
        within = [law.root(r * p) for law, r, p in zip(self.laws, self.root_r.split(1, dim=1), parts, strict=True)]
        return torch.stack(within).sum(dim=0) + (coefficients[..., None] * self.between).sum(dim=-2)

    def root_transposed(self, v: Tensor) -> Tensor:
        """Lᵀ v: (..., B, D) -> (..., B, dimension)."""
        roots = self.root_r.split(1, dim=1)
        parts = [r * law.root_transposed(v) for law, r in zip(self.laws, roots, strict=True)]
        return torch.cat([*parts, (v[..., None, :] * self.between).sum(dim=-1)], dim=-1)

    def marginal(self, part: slice) -> "MixtureErrorLaw":
        """The law itself: there is one field."""
        return self
