"""Laws of positive coefficients a(x), made from Gaussian fields mu, and their transfer between nested grids.

Each law draws either a in its own units, or the normalised field x of unit size that a denoiser learns:

    two-phase     x = 1 where mu ≥ 0, else −1,    a = high where x > 0, else low;
    log-normal    x = mu/s, of unit variance,     a = exp(mean + s x).

`prolong` keeps a piecewise-constant coefficient what it is on a finer grid; `restrict` averages a solution over the
coarser cells, and undoes `prolong`.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pdediff.datasets.random_fields import RandomField
from pdediff.solvers.errors import InputError


@dataclass(frozen=True)
class CoefficientLaw(ABC):
    """A coefficient that is a function of a Gaussian field, cell by cell.

    Parameters
    ----------
    field : law of mu (ny, nx).
    """

    field: RandomField

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.field.shape

    @abstractmethod
    def normalise(self, mu: Tensor) -> Tensor:
        """The field x (..., ny, nx) of a Gaussian field mu."""

    @abstractmethod
    def coefficient(self, x: Tensor) -> Tensor:
        """The coefficient a (..., ny, nx) of x."""

    def sample_x(
        self,
        n: int,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device | None = None,
    ) -> Tensor:
        """Draw n fields x (n, ny, nx); noise comes from the generator's device, which is also the default `device`."""
        return self.normalise(self.field.sample(n, generator, dtype, device))

    def sample(
        self,
        n: int,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device | None = None,
    ) -> Tensor:
        """Draw n coefficients a (n, ny, nx): those of the fields that `sample_x` draws."""
        return self.coefficient(self.sample_x(n, generator, dtype, device))


@dataclass(frozen=True)
class TwoPhaseLaw(CoefficientLaw):
    """A medium of two materials, split by the sign of a Gaussian field.

    Parameters
    ----------
    field : law of mu (ny, nx).
    low, high : coefficient where mu < 0 and where mu ≥ 0; 0 < low < high.

    Raises
    ------
    InputError : phases that are not positive, finite and increasing.
    """

    low: float = 3.0
    high: float = 12.0

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise InputError(f"phases must satisfy 0 < low < high, got low={self.low:g}, high={self.high:g}")

    def normalise(self, mu: Tensor) -> Tensor:
        """1 where mu ≥ 0, else −1."""
        return torch.where(mu >= 0, 1.0, -1.0).to(mu)

    def coefficient(self, x: Tensor) -> Tensor:
        """`high` where x > 0, else `low`."""
        return torch.where(x > 0, self.high, self.low).to(x)


@dataclass(frozen=True)
class LogNormalLaw(CoefficientLaw):
    """A coefficient whose logarithm is Gaussian.

    Parameters
    ----------
    field : law of mu = ln a − mean (ny, nx); `embed(variogram, grid)` for a variogram of ln a.
    mean : mean of ln a, so that exp(mean) is the median of a.

    Raises
    ------
    InputError : a mean that is not finite.
    """

    mean: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise InputError(f"mean of ln a must be finite, got {self.mean:g}")

    @cached_property
    def scale(self) -> float:
        """s, the standard deviation of ln a (root mean square over the cells, if it varies)."""
        return float(self.field.pointwise_variance().mean().sqrt())

    def normalise(self, mu: Tensor) -> Tensor:
        """mu/s."""
        return mu / self.scale

    def coefficient(self, x: Tensor) -> Tensor:
        """exp(mean + s x)."""
        return torch.exp(self.mean + self.scale * x)


@dataclass(frozen=True)
class GaussianLaw(CoefficientLaw):
    """A Gaussian field itself, of either sign: no coefficient of an equation, but what images and maps may be.

    Parameters
    ----------
    field : law of mu = a − mean (ny, nx).
    mean : mean of a, in its own unit.

    Raises
    ------
    InputError : a mean that is not finite.
    """

    mean: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise InputError(f"mean of a must be finite, got {self.mean:g}")

    def normalise(self, mu: Tensor) -> Tensor:
        """mu as it is."""
        return mu

    def coefficient(self, x: Tensor) -> Tensor:
        """mean + x."""
        return self.mean + x


@dataclass(frozen=True)
class MixtureLaw:
    """One of several laws, drawn with given probabilities.

    Parameters
    ----------
    laws : the laws, of fields of one shape.
    weights : how likely each is, relative to the others.

    Raises
    ------
    InputError : no law, another number of weights, a weight that is not positive, or laws of different shapes.
    """

    laws: tuple[CoefficientLaw, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.laws or len(self.laws) != len(self.weights) or not min(self.weights) > 0:
            raise InputError(f"a mixture needs a positive weight for each of its laws, got {self.weights}")
        if len({law.shape for law in self.laws}) != 1:
            raise InputError(f"a mixture needs laws of one shape, got {[law.shape for law in self.laws]}")

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.laws[0].shape

    def sample(
        self,
        n: int,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device | None = None,
    ) -> Tensor:
        """Draw n fields a (n, ny, nx), each of a law that is drawn first."""
        weights = torch.tensor(self.weights, dtype=torch.float64, device=generator.device)
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator).tolist()
        return torch.cat([self.laws[k].sample(1, generator, dtype, device) for k in chosen])


def prolong(a: Tensor, factor: int) -> Tensor:
    """Cut every cell of fields (..., ny, nx) into factor × factor cells of the same value: (..., factor·ny, factor·nx).

    Raises InputError if factor is not a positive integer.
    """
    _check(factor)
    return a.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def restrict(u: Tensor, factor: int) -> Tensor:
    """Average fields (..., ny, nx) over blocks of factor × factor cells: (..., ny/factor, nx/factor).

    Raises InputError if factor is not a positive integer that divides ny and nx.
    """
    _check(factor)
    ny, nx = u.shape[-2:]
    if ny % factor or nx % factor:
        raise InputError(
            f"cannot average {ny} × {nx} cells in blocks of {factor} × {factor}: {factor} must divide both"
        )
    return u.unflatten(-1, (nx // factor, factor)).unflatten(-3, (ny // factor, factor)).mean(dim=(-3, -1))


def _check(factor: int) -> None:
    if not isinstance(factor, int) or factor < 1:
        raise InputError(f"refinement factor must be a positive integer, got {factor}")
