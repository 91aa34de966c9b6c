"""Parametrisations: the invertible map between a denoiser's x and a physical field.

Denoisers work on numbers of unit size with no sign to keep; coefficients are positive and have units. Both maps here
are exponentials, so a is positive for every x, and da = k a dx with a constant k.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Parametrisation(Protocol):
    """x (B, ny', nx') on the denoiser's grid to a field (B, ny, nx), with its derivative."""

    def field(self, x: Tensor) -> Tensor:
        """The physical field of x."""
        ...

    def inverse(self, field: Tensor) -> Tensor:
        """The x of a physical field."""
        ...

    def tangent(self, field: Tensor, dx: Tensor) -> Tensor:
        """Change of the field under a change dx of x."""
        ...

    def adjoint(self, field: Tensor, field_bar: Tensor) -> Tensor:
        """Gradient with respect to x, from the gradient with respect to the field."""
        ...


@dataclass(frozen=True)
class TwoPhase:
    """a = √(low·high) · (high/low)^(x/2): x = −1 is the low phase, x = 1 the high one (3 and 12: a = 6·2^x).

    Parameters
    ----------
    low, high: the coefficient of either phase, in its own unit.

    Raises
    ------
    ValueError: phases that are not positive and increasing.

    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(f"phases must satisfy 0 < low < high, got low={self.low:g}, high={self.high:g}")

    @property
    def rate(self) -> float:
        """k = ln(high/low)/2, so that da = k a dx."""
        return 0.5 * math.log(self.high / self.low)

    def field(self, x: Tensor) -> Tensor:
        """The coefficient a of x, same shape."""
        return math.sqrt(self.low * self.high) * torch.exp(self.rate * x)

    def inverse(self, field: Tensor) -> Tensor:
        """The x of a coefficient a, same shape."""
        return torch.log(field / math.sqrt(self.low * self.high)) / self.rate

    def tangent(self, field: Tensor, dx: Tensor) -> Tensor:
        """da = k a dx, same shape as the coefficient `field`."""
        return self.rate * field * dx

    def adjoint(self, field: Tensor, field_bar: Tensor) -> Tensor:
        """Transpose of `tangent`: k a ā of the gradient ā = `field_bar`."""
        return self.rate * field * field_bar


@dataclass(frozen=True)
class LogNormal:
    """a = exp(mean + x) on the lower left (ny, nx) part of x, whose grid may be padded to a torus.

    Parameters
    ----------
    mean: mean of ln a; exp(mean) is the median of a, in its own unit.
    shape: cells (ny, nx) of the physical field.
    padded: cells of x's grid, at least `shape` in both directions.

    Raises
    ------
    ValueError: x's grid is smaller than the field.

    """

    mean: float
    shape: tuple[int, int]
    padded: tuple[int, int]

    def __post_init__(self) -> None:
        if self.padded[0] < self.shape[0] or self.padded[1] < self.shape[1]:
            raise ValueError(f"a field of {self.shape} cells does not fit into one of {self.padded}")

    def field(self, x: Tensor) -> Tensor:
        """The coefficient a (B, ny, nx) of x (B, *padded)."""
        return torch.exp(self.mean + x[..., : self.shape[0], : self.shape[1]])

    def inverse(self, field: Tensor) -> Tensor:
        """An x (B, *padded) of a coefficient a (B, ny, nx): zero, the prior mean, in the padding."""
        return self._pad(torch.log(field) - self.mean)

    def tangent(self, field: Tensor, dx: Tensor) -> Tensor:
        """da = a dx (B, ny, nx) for dx (B, *padded)."""
        return field * dx[..., : self.shape[0], : self.shape[1]]

    def adjoint(self, field: Tensor, field_bar: Tensor) -> Tensor:
        """Transpose of `tangent`: a ā (B, *padded), zero in the padding."""
        return self._pad(field * field_bar)

    def _pad(self, x: Tensor) -> Tensor:
        rows, columns = self.padded[0] - self.shape[0], self.padded[1] - self.shape[1]
        return torch.nn.functional.pad(x, (0, columns, 0, rows))
