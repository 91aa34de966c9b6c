"""What observation operators are, and how they are put together.

Data are always flat, (B, m). An operator whose data make an image says so by its `out_shape`, and the next operator of
a composition sees them in that shape: pixels of a blurred image, averaged, masked.
"""

import math
from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, cat
from torch.nn.functional import pad

from pdediff.solvers.grid import Grid


class LinearOperator(Protocol):
    """A: fields (B, ...) -> data (B, m). All that a likelihood needs."""

    def __call__(self, field: Tensor) -> Tensor:
        """A field."""
        ...

    def adjoint(self, data: Tensor) -> Tensor:
        """Aᵀ data."""
        ...


class FieldOperator(ABC):
    """A linear operator that knows its shapes, and where its data lie.

    Attributes
    ----------
    in_shape: shape of the field that it reads: cells (ny, nx), or cells and walls (ny + 2, nx + 2).
    out_shape: shape of the data, (m,) or an image (ny', nx') of m pixels.
    places: (m, 2) coordinates x, y of each datum, in the grid's unit, to draw it on a map.

    """

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    places: NDArray[np.float64]

    @abstractmethod
    def __call__(self, field: Tensor) -> Tensor:
        """A field: (B, *in_shape) -> (B, m), differentiable."""

    @abstractmethod
    def adjoint(self, data: Tensor) -> Tensor:
        """Aᵀ data: (B, m) -> (B, *in_shape)."""

    def __len__(self) -> int:
        return math.prod(self.out_shape)


class Identity:
    """Every value of a field (B, m) is a datum."""

    def __call__(self, field: Tensor) -> Tensor:
        """The field itself."""
        return field

    def adjoint(self, data: Tensor) -> Tensor:
        """The data themselves."""
        return data


class Composition(FieldOperator):
    """outer ∘ inner: the data of `inner`, seen as an image, are the field of `outer`.

    Raises
    ------
    ValueError: `outer` reads another shape than `inner` gives.

    """

    def __init__(self, outer: FieldOperator, inner: FieldOperator) -> None:
        if outer.in_shape != inner.out_shape:
            raise ValueError(f"the outer operator reads {outer.in_shape}, the inner one gives {inner.out_shape}")
        self.outer, self.inner = outer, inner
        self.in_shape, self.out_shape, self.places = inner.in_shape, outer.out_shape, outer.places

    def __call__(self, field: Tensor) -> Tensor:
        """outer(inner(field)): (B, *in_shape) -> (B, m)."""
        return self.outer(self.inner(field).unflatten(-1, self.inner.out_shape))

    def adjoint(self, data: Tensor) -> Tensor:
        """innerᵀ(outerᵀ(data)): (B, m) -> (B, *in_shape)."""
        return self.inner.adjoint(self.outer.adjoint(data).flatten(-len(self.inner.out_shape)))


class Scaled(FieldOperator):
    """gain · A: an instrument whose readings are to be divided by its gain."""

    def __init__(self, operator: FieldOperator, gain: float) -> None:
        self.operator, self.gain = operator, gain
        self.in_shape, self.out_shape, self.places = operator.in_shape, operator.out_shape, operator.places

    def __call__(self, field: Tensor) -> Tensor:
        """(B, *in_shape) -> (B, m)."""
        return self.gain * self.operator(field)

    def adjoint(self, data: Tensor) -> Tensor:
        """(B, m) -> (B, *in_shape)."""
        return self.operator.adjoint(self.gain * data)


class Stack(FieldOperator):
    """Several operators on the same field; data one after the other.

    Raises
    ------
    ValueError: no operator, or operators that read different shapes.

    """

    def __init__(self, *operators: FieldOperator) -> None:
        shapes = {operator.in_shape for operator in operators}
        if len(shapes) != 1:
            raise ValueError(f"a stack needs operators that read one shape, not {sorted(shapes)}")
        self.operators = operators
        self.in_shape = operators[0].in_shape
        self.out_shape = (sum(len(operator) for operator in operators),)
        self.places = np.concatenate([operator.places for operator in operators])

    def __call__(self, field: Tensor) -> Tensor:
        """(B, *in_shape) -> (B, Σ m_i)."""
        return cat([operator(field) for operator in self.operators], dim=-1)

    def adjoint(self, data: Tensor) -> Tensor:
        """Σ A_iᵀ data_i: (B, Σ m_i) -> (B, *in_shape)."""
        parts = data.split([len(operator) for operator in self.operators], dim=-1)
        first, *rest = [operator.adjoint(part) for operator, part in zip(self.operators, parts, strict=True)]
        return sum(rest, start=first)


class OnCells(FieldOperator):
    """An operator on cells (ny, nx), for a field that comes with its walls (ny + 2, nx + 2).

    Physics hands its fields to sensors with the values on the walls around them; `operator` sees the cells alone.
    """

    def __init__(self, operator: FieldOperator) -> None:
        ny, nx = operator.in_shape
        self.operator = operator
        self.in_shape, self.out_shape, self.places = (ny + 2, nx + 2), operator.out_shape, operator.places

    def __call__(self, field: Tensor) -> Tensor:
        """(B, ny + 2, nx + 2) -> (B, m)."""
        return self.operator(field[..., 1:-1, 1:-1])

    def adjoint(self, data: Tensor) -> Tensor:
        """(B, m) -> (B, ny + 2, nx + 2), zero on the walls."""
        return pad(self.operator.adjoint(data), (1, 1, 1, 1))


def cell_places(grid: Grid) -> NDArray[np.float64]:
    """Centres of all cells, row by row: (ny·nx, 2) coordinates x, y."""
    return np.stack(grid.mesh(), axis=-1).reshape(-1, 2)
