"""`ProductDenoiser`: independent priors side by side, D_theta for u and D_phi for a (eqs. 55–56).

If x_0 = (u_0, a_0) has the law p(u_0) p(a_0) and the noise of either part is independent of the other's, then so is
p(x_0 | x_t) a product, and

    E[x_0 | x_t] = (E[u_0 | u_t], E[a_0 | a_t]),        Cov[x_0 | x_t] = diag(Cov[u_0 | u_t], Cov[a_0 | a_t]).

What ties u to a is then the likelihood alone: the physics and the data (eq. 57, §7.2). A joint prior is a denoiser of
its own. The parts need not share a grid: a log-normal coefficient lives on a torus that holds the domain.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pdediff.denoisers.base import BlockErrorLaw, Denoiser
from pdediff.schedules import Schedule
from pdediff.spaces import ProductSpace


@dataclass
class ProductDenoiser:
    """E[x_0 | x_t] under the product of the factors' priors.

    Parameters
    ----------
    factors: the priors, in the order of their parts of x; all of one schedule.

    Raises
    ------
    ValueError: no factor, factors of different schedules, or two fields of one name.

    """

    factors: tuple[Denoiser, ...]
    space: ProductSpace = field(init=False)
    schedule: Schedule = field(init=False)

    def __post_init__(self) -> None:
        self.space = ProductSpace(tuple(factor.space for factor in self.factors))
        self.schedule = self.factors[0].schedule
        if any(factor.schedule != self.schedule for factor in self.factors):
            raise ValueError(f"priors of one time need one schedule, not {[f.schedule for f in self.factors]}")

    def __call__(
        self, x_t: Tensor, t: Tensor | float, query: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """E[x_0 | x_t]: (B, D) -> (B, D); at query points the factors' answers, side by side.

        Every factor is given the query points and the condition, and refuses them if it takes none.
        """
        parts = zip(self.factors, self.space.split(x_t), strict=True)
        return torch.cat([factor(part, t, query, condition) for factor, part in parts], dim=-1)

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Each factor's bounds on its part: (D,), (D,)."""
        low, high = zip(*(factor.bounds for factor in self.factors), strict=True)
        return self._side_by_side(low), self._side_by_side(high)

    @property
    def noise_range(self) -> tuple[float, float]:
        """The hull of the factors' ranges: s_min determines every part, s_max says nothing of any."""
        low, high = zip(*(factor.noise_range for factor in self.factors), strict=True)
        return min(low), max(high)

    def error_law(self, x_0: Tensor, t: float) -> BlockErrorLaw:
        """The factors' laws about predictions x_0 (B, D), independent of each other."""
        parts = zip(self.factors, self.space.split(x_0), strict=True)
        return BlockErrorLaw(tuple(factor.error_law(part, t) for factor, part in parts), self.space.sizes)

    def _side_by_side(self, bounds: tuple[Tensor, ...]) -> Tensor:
        return torch.cat([bound.expand(size) for bound, size in zip(bounds, self.space.sizes, strict=True)])
