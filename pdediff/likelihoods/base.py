"""What guidance needs of a likelihood.

`log_prob(x_0) -> (B,)` is enough for gradient-based methods. Observations with Gaussian noise are a (nonlinear)
least-squares problem, log p(y | x_0) = −‖r(x_0)‖²/2 + const with r the misfit in units of sigma; Gauss–Newton methods
use its linearisation. Each row of a batch is a sample of its own: nothing here couples rows.
"""

from typing import Any, Protocol

from torch import Tensor


class Likelihood(Protocol):
    """A function of x_0, up to a constant the logarithm of p(y | x_0)."""

    def log_prob(self, x_0: Tensor) -> Tensor:
        """(B, D) -> (B,), differentiable."""
        ...


class LinearisedMisfit(Protocol):
    """The misfit r about one point: r(zeta + dzeta) ≈ residual + J dzeta, zeta the unknowns, all of x_0 or fewer."""

    @property
    def residual(self) -> Tensor:
        """The misfit r(zeta): (B, m), in units of sigma."""
        ...

    def tangent(self, dzeta: Tensor) -> Tensor:
        """J dzeta: (B, K') -> (B, m)."""
        ...

    def adjoint(self, data: Tensor) -> Tensor:
        """Jᵀ data: (B, m) -> (B, K')."""
        ...


class LeastSquares(Likelihood, Protocol):
    """A likelihood with Gaussian noise."""

    @property
    def size(self) -> int:
        """Number of data m."""
        ...

    @property
    def linear(self) -> bool:
        """Whether the misfit is a linear function of x_0: its linearisation about any point is exact."""
        ...

    def linearise(self, zeta: Tensor, tolerance: float, near: Any = None) -> LinearisedMisfit:
        """Linearise about zeta (B, K'); solves inside J and Jᵀ may err by `tolerance`, relatively.

        `near`, an earlier result of this method about a point not far away, may save time.
        """
        ...
