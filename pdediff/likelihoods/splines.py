"""Functions of position through values on a grid: tensor products of cubic splines.

A cubic spline through values v at the nodes of an axis is linear in v and a cubic polynomial of position between nodes,

    f(x) = Σ_j v_j L_j(x),        L_j(x) = Σ_k c_kij (x − x_i)^(3−k) for x between nodes i and i + 1,

so that a field is f(x, y) = Σ v_ji L_j(y) L_i(x) with coefficients that are computed once. It is twice continuously
differentiable; with the not-a-knot rule at the ends it reproduces cubic polynomials, and meets smooth functions to
fourth order, their second derivatives to second. Values may be differentiated through, and so may positions.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor


class TensorSpline:
    """f(points) of values on the nodes x × y; beyond the outer nodes their polynomials go on.

    Parameters
    ----------
    x, y: nodes (nx,) and (ny,), increasing, at least 4 of each.

    """

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.float64], device: str | torch.device = "cpu") -> None:
        self.nodes = [torch.as_tensor(n, device=device) for n in (x, y)]
        self.coefficients = [
            torch.as_tensor(CubicSpline(n, np.eye(len(n)), bc_type="not-a-knot").c, device=device) for n in (x, y)
        ]

    def __call__(self, values: Tensor, points: Tensor) -> Tensor:
        """Values (B, ny, nx) at points (Q, 2), given as (x, y): (B, Q), differentiable in both."""
        along_x, along_y = (self.cardinal(axis, points[:, axis]) for axis in (0, 1))
        return ((along_x @ values.mT) * along_y).sum(dim=-1)

    def cardinal(self, axis: int, x: Tensor, order: int = 0) -> Tensor:
        """L_j(x), or a derivative of an order up to 2, for every node j of an axis (0 is x, 1 is y): (Q,) -> (Q, n)."""
        nodes, c = self.nodes[axis].to(x), self.coefficients[axis].to(x)
        interval = (torch.searchsorted(nodes, x.detach().contiguous(), right=True) - 1).clamp(0, len(nodes) - 2)
        d = (x - nodes[interval])[:, None]
        c_3, c_2, c_1, c_0 = (c[k][interval] for k in range(4))
        if order == 0:
            return ((c_3 * d + c_2) * d + c_1) * d + c_0
        return (3 * c_3 * d + 2 * c_2) * d + c_1 if order == 1 else 6 * c_3 * d + 2 * c_2
