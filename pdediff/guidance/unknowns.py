"""In which variables the data are fitted.

A denoiser's x_0 may hold fields that others determine: with an exact solve, u follows from a. `Unknowns` says which
variables zeta are free, what the denoiser's law of x_0 makes of them, and what x_0 they stand for.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from pdediff.denoisers.base import ErrorLaw


class Unknowns(Protocol):
    """The free variables zeta (B, K')."""

    def restrict(self, x_0: Tensor, law: ErrorLaw) -> tuple[Tensor, ErrorLaw]:
        """Mean and error law of zeta, from those of x_0 (B, D)."""
        ...

    def clamp(self, zeta: Tensor) -> Tensor:
        """Where to linearise instead of at zeta, if zeta is out of all bounds."""
        ...

    def complete(self, zeta: Tensor) -> Tensor:
        """x_0 (B, D) of zeta."""
        ...


@dataclass(frozen=True)
class Everything:
    """All of x_0 is free: zeta = x_0.

    Parameters
    ----------
    bounds: values, () or (D,), inside which the misfit is linearised.

    """

    bounds: tuple[Tensor, Tensor]

    def restrict(self, x_0: Tensor, law: ErrorLaw) -> tuple[Tensor, ErrorLaw]:
        """x_0 and its law."""
        return x_0, law

    def clamp(self, zeta: Tensor) -> Tensor:
        """x_0 inside the bounds."""
        low, high = self.bounds
        return zeta.clamp(low.to(zeta), high.to(zeta))

    def complete(self, zeta: Tensor) -> Tensor:
        """x_0 = zeta."""
        return zeta
