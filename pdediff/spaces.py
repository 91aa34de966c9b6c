"""Function spaces: named fields on points, flattened to one tensor x: (B, D).

Samplers and guidance see only (B, D). What D stands for (a coefficient, a pair (a, u), an image with its blur kernel)
is known here and in the likelihood, nowhere in between.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pdediff.noise import NoiseLaw, WhiteNoise


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
