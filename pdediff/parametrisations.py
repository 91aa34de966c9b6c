"""Parametrisations: the invertible map between a denoiser's x and a physical field.

Denoisers work on numbers of unit size with no sign to keep; coefficients are positive and have units. Their maps here
are exponentials, so a is positive for every x, and da = k a dx with a constant k. A solution has a scale and an offset.
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
class Affine:
    """u = mean + scale·x, for fields of either sign such as a solution.

    Parameters
    ----------
    mean, scale: in the field's unit; scale > 0.

    Raises
    ------
    ValueError: a scale that is not positive.

    """

    mean: float
    scale: float

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be positive, got {self.scale:g}")

    def field(self, x: Tensor) -> Tensor:
        """The field u of x, same shape."""
        return self.mean + self.scale * x

    def inverse(self, field: Tensor) -> Tensor:
        """The x of a field u, same shape."""
        return (field - self.mean) / self.scale

    def tangent(self, field: Tensor, dx: Tensor) -> Tensor:
        """du = scale·dx, whatever the field."""
        return self.scale * dx

    def adjoint(self, field: Tensor, field_bar: Tensor) -> Tensor:
        """Transpose of `tangent`."""
        return self.scale * field_bar


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
        return pad(torch.log(field) - self.mean, self.padded)

    def tangent(self, field: Tensor, dx: Tensor) -> Tensor:
        """da = a dx (B, ny, nx) for dx (B, *padded)."""
        return field * dx[..., : self.shape[0], : self.shape[1]]

    def adjoint(self, field: Tensor, field_bar: Tensor) -> Tensor:
        """Transpose of `tangent`: a ā (B, *padded), zero in the padding."""
        return pad(field * field_bar, self.padded)


@dataclass(frozen=True)
class Shifted:
    """u = mean + x on the lower left part of x, whose grid may be padded to a torus.

    Parameters
    ----------
    mean: mean of u (ny, nx), in its unit.
    padded: cells of x's grid, at least as many as the mean's in both directions.

    """

    mean: Tensor
    padded: tuple[int, int]

    def field(self, x: Tensor) -> Tensor:
        """The field u (B, ny, nx) of x (B, *padded)."""
        return self.mean.to(x) + self._crop(x)

    def inverse(self, field: Tensor) -> Tensor:
        """An x (B, *padded) of a field u (B, ny, nx): zero in the padding."""
        return pad(field - self.mean.to(field), self.padded)

    def tangent(self, field: Tensor, dx: Tensor) -> Tensor:
        """du = dx (B, ny, nx) for dx (B, *padded), whatever the field."""
        return self._crop(dx)

    def adjoint(self, field: Tensor, field_bar: Tensor) -> Tensor:
        """Transpose of `tangent`: zero in the padding."""
        return pad(field_bar, self.padded)

    def _crop(self, x: Tensor) -> Tensor:
        ny, nx = self.mean.shape
        return x[..., :ny, :nx]


def pad(field: Tensor, shape: tuple[int, int]) -> Tensor:
    """A field (..., ny, nx) in the lower left corner of zeros (..., *shape)."""
    rows, columns = shape[0] - field.shape[-2], shape[1] - field.shape[-1]
    return torch.nn.functional.pad(field, (0, columns, 0, rows))
