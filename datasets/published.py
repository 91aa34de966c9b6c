"""The solver behind the published two-phase Darcy data, −∇·(a∇u) = f on the unit square with u = 0 on its walls.

The data of the Fourier neural operator benchmark (Li et al., 2021), which most later papers compare on, were made with
finite differences on nodes, although a and u are stored at cell centres. On ny × nx cells:

1. nodes: b = S_y a S_xᵀ, a interpolated from the centres (i + ½)/n to the nodes j/(n − 1) by a tensor product of cubic
   not-a-knot splines; the outermost nodes are half a cell beyond the data, where the splines extrapolate;
2. faces: k = ½(b_j + b_{j+1}) between neighbouring nodes;
3. with δ the difference quotient (n − 1)(v_{j+1} − v_j) between neighbouring nodes, and v = 0 on the walls,
   A(a) v = δ_xᵀ k_x δ_x v + δ_yᵀ k_y δ_y v = f at the inner nodes;
4. centres: u = T_y v T_xᵀ, v interpolated back by the same kind of spline.

A cubic spline overshoots where a jumps. Between phases 3 and 12 about half of the draws have a face with k ≤ 0, so A is
not positive definite and v is not the solution of any elliptic problem: a factorisation with pivoting solves it,
conjugate gradients need not. It is kept as it is, because published errors are relative to these fields. From the
finite-volume solution of the same a they differ by 0.8 % in the 2-norm on 128 × 128 cells and by 1.3 % on 64 × 64
(means over draws; single draws reach three times that, and single points near a wall 10 % of the largest u).

Every step but the third is linear in a, with matrices that depend on the shape only, and A is linear in k.
"""

import numpy as np
import scipy.sparse as sparse
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.sparse.linalg import splu
from torch import Tensor

from pdediff.solvers.errors import ConvergenceError, InputError
from pdediff.solvers.finite_volumes import Faces


class PublishedDarcy:
    """The published operator on ny × nx cells of the unit square. Works in float64 on the CPU.

    Parameters
    ----------
    shape : (ny, nx), at least 4 each, since a cubic not-a-knot spline takes four points.
    source : f, the same everywhere.

    Raises
    ------
    InputError : fewer than 4 cells, or a source that is not finite.
    """

    def __init__(self, shape: tuple[int, int], source: float = 1.0) -> None:
        if min(shape) < 4:
            raise InputError(f"the published solver needs at least 4 × 4 cells, got {shape[0]} × {shape[1]}")
        if not np.isfinite(source):
            raise InputError(f"source must be finite, got {source}")
        self.shape, self.source = (int(shape[0]), int(shape[1])), float(source)
        centres = [(np.arange(n) + 0.5) / n for n in self.shape]
        nodes = [np.arange(n) / (n - 1) for n in self.shape]
        self._to_nodes = [_spline(c, j) for c, j in zip(centres, nodes, strict=True)]
        self._to_centres = [_spline(j, c) for c, j in zip(centres, nodes, strict=True)]
        (d_y, d_x), (i_y, i_x) = zip(*((_quotient(n), sparse.eye_array(n - 2)) for n in self.shape), strict=True)
        self._quotient = sparse.vstack([sparse.kron(i_y, d_x), sparse.kron(d_y, i_x)], format="csc")

    def nodes(self, a: Tensor) -> Tensor:
        """The spline of a (..., ny, nx) at the nodes, walls included: (..., ny, nx), float64."""
        self._check(a)
        to_y, to_x = self._to_nodes
        return to_y @ a.double() @ to_x.T

    def faces(self, a: Tensor) -> Faces:
        """Face coefficients k of the equations at inner nodes: x (..., ny − 2, nx − 1) and y (..., ny − 1, nx − 2)."""
        b = self.nodes(a)
        rows, columns = b[..., 1:-1, :], b[..., 1:-1]
        return Faces(0.5 * (rows[..., 1:] + rows[..., :-1]), 0.5 * (columns[..., 1:, :] + columns[..., :-1, :]))

    def solve(self, a: Tensor) -> Tensor:
        """u at the cell centres (..., ny, nx), in a's type.

        Raises InputError (a of another shape, or not finite) and ConvergenceError (a singular operator).
        """
        ny, nx = self.shape
        k_x, k_y = (k.flatten(-2).reshape(-1, k.shape[-2] * k.shape[-1]) for k in self.faces(a))
        v = torch.zeros(len(k_x), ny, nx, dtype=torch.float64)
        for sample, k in zip(v, torch.cat([k_x, k_y], dim=-1).numpy(), strict=True):
            sample[1:-1, 1:-1] = torch.from_numpy(self._inner(k)).view(ny - 2, nx - 2)
        to_y, to_x = self._to_centres
        return (to_y @ v @ to_x.T).view(a.shape).to(a)

    def _inner(self, k: NDArray[np.float64]) -> NDArray[np.float64]:
        """v at the inner nodes, for the coefficients k of all faces, those across x first."""
        operator = self._quotient.T @ sparse.diags_array(k) @ self._quotient
        try:
            v = splu(operator.tocsc(), permc_spec="MMD_AT_PLUS_A").solve(np.full(operator.shape[0], self.source))
        except RuntimeError:  # a pivot is exactly zero
            v = np.array(np.nan)
        if not np.isfinite(v).all():
            raise ConvergenceError("the published operator is singular for this coefficient")
        return v

    def _check(self, a: Tensor) -> None:
        if tuple(a.shape[-2:]) != self.shape or a.dim() < 2:
            raise InputError(f"coefficient of shape {tuple(a.shape)} does not fit the grid: must end in {self.shape}")
        if not bool(torch.isfinite(a).all()):
            raise InputError("coefficient must be finite")


def _spline(known: NDArray[np.float64], wanted: NDArray[np.float64]) -> Tensor:
    """The matrix from values at `known` to those of their cubic not-a-knot spline at `wanted`, beyond the ends too."""
    return torch.from_numpy(CubicSpline(known, np.eye(len(known)), bc_type="not-a-knot", extrapolate=True)(wanted))


def _quotient(n: int) -> sparse.dia_array:
    """(n − 1)(v_{j+1} − v_j) of n nodes, for inner values (n − 2) and zeros at both ends: (n − 1, n − 2)."""
    return (n - 1) * sparse.diags_array((1.0, -1.0), offsets=(0, -1), shape=(n - 1, n - 2))
