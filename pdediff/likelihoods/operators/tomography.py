"""Parallel-beam tomography: data are integrals of the field along straight lines.

The lines of a view at the angle θ have the direction d = (cos θ, sin θ), and are told apart by their offset s from the
centre c of the domain,

    p(τ) = c + s n + τ d,        n = (−sin θ, cos θ),        y = ∫ f(p(τ)) dτ ≈ Σ_i l_i f_i,

l_i the length of the line inside cell i, exactly (Siddon 1985): the points where the line crosses from column to
column and from row to row, in order, cut it into pieces of one cell each. A line that runs along the edge between two
cells counts half for either. So a field that is constant on the cells is integrated exactly. A smooth one is to second
order in the width of a cell, as the line is now on one side of the cells' centres and now on the other; where it runs
along the grid it stays on one side, and the order is the first.
"""

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from pdediff.likelihoods.operators.base import FieldOperator
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

TINY = 1e-12  # of the domain's diagonal: shorter than what can be told from rounding


class ParallelBeam(FieldOperator):
    """Cells (B, ny, nx) -> line integrals (m,), view by view.

    Each view has `rays` lines, evenly spaced over the diagonal of the domain. Those that miss the domain are left out.

    Parameters
    ----------
    grid: the cells.
    angles: directions θ of the views, degrees counter-clockwise from x; θ and θ + 180 are the same lines.
    rays: lines in a view.

    Attributes
    ----------
    angle, offset: (m,) θ in degrees and s in the grid's unit, of each line that is kept.
    places: (m, 2) middles of the lines' pieces inside the domain.

    Raises
    ------
    InputError: no angle, one that is not finite, no ray, or rays that all miss.

    """

    def __init__(self, grid: Grid, angles: ArrayLike, rays: int, device: str | torch.device = "cpu") -> None:
        angles = np.asarray(angles, dtype=np.float64).reshape(-1)
        if not angles.size or not np.isfinite(angles).all() or rays < 1:
            raise InputError(f"tomography needs finite angles and at least one ray, got {angles.size} and {rays}")
        diagonal = float(np.hypot(grid.x[1] - grid.x[0], grid.y[1] - grid.y[0]))
        offsets = diagonal * ((np.arange(rays) + 0.5) / rays - 0.5)
        angle, offset = np.repeat(angles, rays), np.tile(offsets, len(angles))
        matrix, middles = chords(grid, angle, offset)
        hit = matrix.sum(axis=1) > TINY * diagonal
        if not hit.any():
            raise InputError(f"all of {len(hit)} rays miss the domain")
        self.angle, self.offset, self.places = angle[hit], offset[hit], middles[hit]
        self.in_shape, self.out_shape = grid.shape, (int(hit.sum()),)
        self.matrix = _Sparse(matrix[hit], device)
        self.transposed = _Sparse(matrix[hit].T.tocsr(), device)

    def __call__(self, field: Tensor) -> Tensor:
        """Line integrals: (B, ny, nx) -> (B, m)."""
        return _Product.apply(field.flatten(-2), self.matrix, self.transposed)

    def adjoint(self, data: Tensor) -> Tensor:
        """Back-projection: each datum spread along its line, by lengths: (B, m) -> (B, ny, nx)."""
        return _Product.apply(data, self.transposed, self.matrix).unflatten(-1, self.in_shape)


def chords(
    grid: Grid, angle: NDArray[np.float64], offset: NDArray[np.float64]
) -> tuple[csr_array, NDArray[np.float64]]:
    """Lengths (m, ny·nx) of lines inside the cells, and the middles (m, 2) of their pieces inside the domain.

    angle: degrees (m,); offset: from the domain's centre (m,). A line that misses the domain has an empty row.
    """
    theta = np.radians(angle)
    d = np.stack([np.cos(theta), np.sin(theta)], axis=1)
    d[np.abs(d) < 1e-15] = 0.0  # of multiples of 90 degrees
    n = np.stack([-d[:, 1], d[:, 0]], axis=1)
    foot = offset[:, None] * n  # seen from the centre c, as all points here
    edges = [np.linspace(-0.5, 0.5, cells + 1) * h * cells for cells, h in ((grid.nx, grid.dx), (grid.ny, grid.dy))]
    (tau_x, enter_x, leave_x), (tau_y, enter_y, leave_y) = map(_crossings, edges, foot.T, d.T)
    start, end = np.maximum(enter_x, enter_y), np.minimum(leave_x, leave_y)
    start, end = np.where(start < end, [start, end], 0.0)
    tau = np.sort(np.clip(np.concatenate([tau_x, tau_y, start, end], axis=1), start, end), axis=1)
    length, middle = np.diff(tau, axis=1), (tau[:, 1:] + tau[:, :-1]) / 2
    line, piece = np.nonzero(length)
    points = foot[line] + middle[line, piece, None] * d[line]
    aside = TINY * np.hypot(edges[0][-1], edges[1][-1]) * n[line]
    cells = []
    for beside in (points - aside, points + aside):  # two cells for a line along an edge, otherwise twice the same
        column, row = (np.clip(np.searchsorted(e, p) - 1, 0, len(e) - 2) for e, p in zip(edges, beside.T, strict=True))
        cells.append(row * grid.nx + column)
    triplets = np.tile(length[line, piece] / 2, 2), (np.tile(line, 2), np.concatenate(cells))
    centre = np.array([sum(grid.x) / 2, sum(grid.y) / 2])
    return coo_array(triplets, shape=(len(d), grid.ny * grid.nx)).tocsr(), centre + foot + (start + end) / 2 * d


def _crossings(edges: NDArray, foot: NDArray, slope: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Where lines foot + τ·slope (m,) cross the edges of the cells along an axis: τ (m, cells + 1).

    And where they enter and leave the slab between the outermost edges (m, 1). What a line that is parallel to the
    edges is said to cross does not matter: more cuts than needed.
    """
    parallel = (slope == 0)[:, None]
    tau = (edges - foot[:, None]) / np.where(parallel, 1.0, slope[:, None])
    inside = np.abs(foot[:, None]) <= edges[-1]
    enter = np.where(parallel, np.where(inside, -np.inf, np.inf), tau.min(axis=1, keepdims=True))
    return tau, enter, np.where(parallel, np.inf, tau.max(axis=1, keepdims=True))


class _Sparse:
    """A sparse matrix in torch's CSR layout, in both precisions."""

    def __init__(self, matrix: csr_array, device: str | torch.device) -> None:
        with warnings.catch_warnings(), torch.inference_mode(False):
            warnings.filterwarnings("ignore", message="Sparse CSR")  # torch calls the layout a beta
            rows, columns, values = (torch.from_numpy(p.copy()) for p in (matrix.indptr, matrix.indices, matrix.data))
            double = torch.sparse_csr_tensor(rows, columns, values, matrix.shape, device=device, check_invariants=True)
            self.matrices = {torch.float64: double, torch.float32: double.to(torch.float32)}

    def __matmul__(self, x: Tensor) -> Tensor:
        """A x of each row: (B, n) -> (B, m)."""
        return (self.matrices[x.dtype] @ x.T).T


class _Product(torch.autograd.Function):
    """x ↦ A x with A and Aᵀ at hand: torch's own derivative of a sparse product knows no forward mode."""

    @staticmethod
    def forward(x: Tensor, matrix: _Sparse, transposed: _Sparse) -> Tensor:
        return matrix @ x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, _Sparse, _Sparse], output: Tensor) -> None:
        ctx.matrices = inputs[1:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        matrix, transposed = ctx.matrices
        return _Product.apply(gradient, transposed, matrix), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        matrix, transposed = ctx.matrices
        return _Product.apply(tangent, matrix, transposed)
