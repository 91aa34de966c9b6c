"""Function spaces: named fields on points, flattened to one tensor x: (B, D).

Samplers and guidance see only (B, D). What D stands for (a coefficient, a pair (a, u), an image with its blur kernel)
is known here and in the likelihood, nowhere in between. `FunctionSpace` has all its fields on one grid; `ProductSpace`
puts spaces side by side, each on points of its own.
"""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from pdediff.noise import Generators, NoiseLaw, WhiteNoise


class Space(Protocol):
    """What all spaces offer: named fields, flattened to x (B, D), and the law of the noise on them."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields in their order."""
        ...

    @property
    def dimension(self) -> int:
        """D, the number of values of a set of functions."""
        ...

    @property
    def noise(self) -> NoiseLaw:
        """Law of the noise g of eq. 49."""
        ...

    def part(self, name: str) -> slice:
        """Where the values of one field lie in x. Raises ValueError for a field that is not in this space."""
        ...

    def shape_of(self, name: str) -> tuple[int, int]:
        """Points (ny, nx) of one field. Raises ValueError for a field that is not in this space."""
        ...

    def flatten(self, fields: dict[str, Tensor]) -> Tensor:
        """Named fields, each (B, ny, nx) of its own grid, to x (B, D)."""
        ...

    def unflatten(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, D) to named fields, each (B, ny, nx) of its own grid."""
        ...

    def norm(self, x: Tensor) -> Tensor:
        """L2 norm over the domain of each function: (B, D) -> (B,)."""
        ...


@dataclass(frozen=True)
class FunctionSpace:
    """Functions with one or more named channels on the cells of a regular grid.

    Parameters
    ----------
    fields: names of the channels in their order, e.g. ("a",) or ("a", "u").
    shape: points (ny, nx) of the grid that carries them.
    cell_area: quadrature weight of a point (area of a cell, in the square of the length unit).
    noise: law of the noise g of eq. 49 on this space.

    Raises
    ------
    ValueError: no field, or two of one name.

    """

    fields: tuple[str, ...]
    shape: tuple[int, int]
    cell_area: float = 1.0
    noise: NoiseLaw = field(default_factory=WhiteNoise)

    def __post_init__(self) -> None:
        if not self.fields or len(set(self.fields)) != len(self.fields):
            raise ValueError(f"a function space needs distinct field names, not {self.fields}")

    @property
    def channels(self) -> int:
        """Number of fields."""
        return len(self.fields)

    @property
    def points(self) -> int:
        """Number of points."""
        return self.shape[0] * self.shape[1]

    @property
    def dimension(self) -> int:
        """D = channels × points."""
        return self.channels * self.points

    def part(self, name: str) -> slice:
        """Where the values of one field lie in x. Raises ValueError for a field that is not in this space."""
        start = self.fields.index(name) * self.points
        return slice(start, start + self.points)

    def shape_of(self, name: str) -> tuple[int, int]:
        """Points (ny, nx) of one field: `shape`, whichever it is."""
        return self.shape

    def flatten(self, fields: dict[str, Tensor]) -> Tensor:
        """Named fields, each (B, ny, nx), to x (B, D). Raises ValueError when a name or a shape does not fit."""
        if set(fields) != set(self.fields):
            raise ValueError(f"fields {sorted(fields)} given to a space of {sorted(self.fields)}")
        for name, values in fields.items():
            if tuple(values.shape[1:]) != self.shape:
                raise ValueError(f"field {name!r} has shape {tuple(values.shape)}, the space wants (B, *{self.shape})")
        return torch.stack([fields[name] for name in self.fields], dim=1).flatten(1)

    def unflatten(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, D) to named fields, each (B, ny, nx)."""
        channels = self.grid_view(x)
        return {name: channels[:, i] for i, name in enumerate(self.fields)}

    def grid_view(self, x: Tensor) -> Tensor:
        """x (B, D) as (B, channels, ny, nx). Raises ValueError when D is not the dimension of this space."""
        if x.shape[-1] != self.dimension:
            raise ValueError(f"x has {x.shape[-1]} values a function, the space of {self.fields} has {self.dimension}")
        return x.reshape(-1, self.channels, *self.shape)

    def norm(self, x: Tensor) -> Tensor:
        """L2 norm over the domain of each function: (B, D) -> (B,)."""
        return (x.square().sum(dim=-1) * self.cell_area).sqrt()


@dataclass(frozen=True)
class ProductSpace:
    """Spaces side by side: x = (x_1, x_2, …), each part with fields, points and noise of its own.

    A solution on the cells of a domain and a coefficient on a torus that holds the domain make such a pair.

    Parameters
    ----------
    factors: the spaces, in the order of the parts.

    Raises
    ------
    ValueError: no factor, or two fields of one name.

    """

    factors: tuple[Space, ...]

    def __post_init__(self) -> None:
        if not self.factors or len(set(self.fields)) != len(self.fields):
            raise ValueError(f"a product of spaces needs distinct field names, not {self.fields}")

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of all fields, factor after factor."""
        return tuple(name for factor in self.factors for name in factor.fields)

    @property
    def sizes(self) -> tuple[int, ...]:
        """D_i of each factor."""
        return tuple(factor.dimension for factor in self.factors)

    @property
    def dimension(self) -> int:
        """D = Σ D_i."""
        return sum(self.sizes)

    @property
    def noise(self) -> "ProductNoise":
        """Each factor's own noise, independent of the others'."""
        return ProductNoise(tuple(factor.noise for factor in self.factors), self.sizes)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The parts (..., D_i) of x (..., D). Raises ValueError when D is not the dimension of this space."""
        if x.shape[-1] != self.dimension:
            raise ValueError(f"x has {x.shape[-1]} values a function, the space of {self.fields} has {self.dimension}")
        return x.split(self.sizes, dim=-1)

    def part(self, name: str) -> slice:
        """Where the values of one field lie in x. Raises ValueError for a field that is not in this space."""
        index, factor = self._factor_of(name)
        start, inner = sum(self.sizes[:index]), factor.part(name)
        return slice(start + inner.start, start + inner.stop)

    def shape_of(self, name: str) -> tuple[int, int]:
        """Points (ny, nx) of one field. Raises ValueError for a field that is not in this space."""
        return self._factor_of(name)[1].shape_of(name)

    def flatten(self, fields: dict[str, Tensor]) -> Tensor:
        """Named fields to x (B, D). Raises ValueError when a name or a shape does not fit."""
        if set(fields) != set(self.fields):
            raise ValueError(f"fields {sorted(fields)} given to a space of {sorted(self.fields)}")
        return torch.cat([f.flatten({name: fields[name] for name in f.fields}) for f in self.factors], dim=-1)

    def unflatten(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, D) to named fields, each (B, ny, nx) of its own grid."""
        parts = zip(self.factors, self.split(x), strict=True)
        return {name: values for factor, part in parts for name, values in factor.unflatten(part).items()}

    def norm(self, x: Tensor) -> Tensor:
        """L2 norm of each set of functions, √(Σ ‖x_i‖²): (B, D) -> (B,)."""
        parts = zip(self.factors, self.split(x), strict=True)
        return torch.stack([factor.norm(part) for factor, part in parts]).square().sum(dim=0).sqrt()

    def _factor_of(self, name: str) -> tuple[int, Space]:
        for index, factor in enumerate(self.factors):
            if name in factor.fields:
                return index, factor
        raise ValueError(f"no field {name!r} in a space of {self.fields}")


@dataclass(frozen=True)
class ProductNoise:
    """Independent laws of consecutive parts of x: C is block diagonal.

    Parameters
    ----------
    laws: the laws, in the order of the parts.
    sizes: number of values of each part.

    """

    laws: tuple[NoiseLaw, ...]
    sizes: tuple[int, ...]

    def sample(self, generators: Generators, dimension: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Draw g (B, dimension), part after part. Raises ValueError when `dimension` is not the sum of the sizes."""
        if dimension != sum(self.sizes):
            raise ValueError(f"{dimension} values of noise asked of a law of {sum(self.sizes)}")
        parts = zip(self.laws, self.sizes, strict=True)
        return torch.cat([law.sample(generators, size, dtype, device) for law, size in parts], dim=-1)

    def covariance(self, v: Tensor) -> Tensor:
        """C v, part by part: (B, D) -> (B, D)."""
        parts = zip(self.laws, v.split(self.sizes, dim=-1), strict=True)
        return torch.cat([law.covariance(part) for law, part in parts], dim=-1)
