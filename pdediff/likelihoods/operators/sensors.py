"""Sensors at points: a field is interpolated bilinearly between the centres of its cells."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pdediff.likelihoods.operators.base import FieldOperator
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid


class PointSensors(FieldOperator):
    """Values of a field at points anywhere in the domain.

    The field is given on the cells and on the walls, (B, ny + 2, nx + 2) as `Darcy.with_walls` makes it. Interpolation
    is bilinear between cell centres, and linear to the wall's value in the half-cell beside it.

    Parameters
    ----------
    grid: the cells.
    points: (m, 2) coordinates x, y, in the grid's unit.

    Raises
    ------
    InputError: a point outside the domain.

    """

    def __init__(self, grid: Grid, points: ArrayLike, device: str | torch.device = "cpu") -> None:
        self.places = points = np.asarray(points, dtype=float).reshape(-1, 2)
        outside = ~grid.contains(points)
        if outside.any():
            x, y = points[outside][0]
            raise InputError(f"sensor at ({x:g}, {y:g}) is outside the domain {list(grid.x)} × {list(grid.y)}")
        x, y = grid.centres()
        column, wx = _locate(np.concatenate([[grid.x[0]], x, [grid.x[1]]]), points[:, 0])
        row, wy = _locate(np.concatenate([[grid.y[0]], y, [grid.y[1]]]), points[:, 1])
        self.in_shape, self.out_shape = (grid.ny + 2, grid.nx + 2), (len(points),)
        width = self.in_shape[1]
        index = row * width + column
        corners = np.stack([index, index + 1, index + width, index + width + 1])
        weights = np.stack([(1 - wy) * (1 - wx), (1 - wy) * wx, wy * (1 - wx), wy * wx])
        with torch.inference_mode(False):  # kept tensors must serve autograd too
            self.corners = torch.as_tensor(corners, device=device)
            self.weights = torch.as_tensor(weights, device=device)

    def __call__(self, field: Tensor) -> Tensor:
        """Values at the sensors: (B, ny + 2, nx + 2) -> (B, m)."""
        return (field.flatten(-2)[..., self.corners] * self.weights.to(field.dtype)).sum(dim=-2)

    def adjoint(self, data: Tensor) -> Tensor:
        """Aᵀ data: (B, m) -> (B, ny + 2, nx + 2)."""
        spread = (data[..., None, :] * self.weights.to(data.dtype)).flatten(-2)
        field = data.new_zeros(*data.shape[:-1], self.in_shape[0] * self.in_shape[1])
        field.index_add_(-1, self.corners.flatten(), spread)
        return field.unflatten(-1, self.in_shape)


def _locate(nodes: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interval of increasing nodes that holds each value, and the place in it between 0 and 1."""
    left = np.clip(np.searchsorted(nodes, values, side="right") - 1, 0, len(nodes) - 2)
    return left, (values - nodes[left]) / (nodes[left + 1] - nodes[left])
