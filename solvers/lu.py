"""Sparse LU factors of one finite-volume operator a sample, by SuperLU in float64 on the CPU.

Independent of contrast and tolerance, and the judge of the iterative solver; its cost grows like n³ on n × n cells and
is paid once, then each solve is two triangular ones.
"""

import numpy as np
import scipy.sparse as sparse
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import splu
from torch import Tensor

from pdediff.solvers.errors import ConvergenceError
from pdediff.solvers.finite_volumes import Faces


class SparseLU:
    """Factors of the operators with transmissibilities ``t`` (batch axis first).

    If ``singular`` (every wall fixes the flux) the first cell is tied to zero, which changes nothing but the constant.
    """

    def __init__(self, t: Faces, singular: bool) -> None:
        t_x, t_y = (c.detach().cpu().double().numpy() for c in t)
        self._factors = [_factor(x, y, singular) for x, y in zip(t_x, t_y, strict=True)]

    def solve(self, b: Tensor, samples: Tensor | None = None) -> Tensor:
        """A⁻¹ b for ``b (B, ny, nx)``, in b's type, with the factors of ``samples`` (all if not given)."""
        chosen = range(len(self._factors)) if samples is None else samples.tolist()
        rhs = b.detach().cpu().double().numpy().reshape(len(chosen), -1)
        u = np.stack([self._factors[k].solve(column) for k, column in zip(chosen, rhs, strict=True)])
        return torch.from_numpy(u).view(b.shape).to(b)


def _factor(t_x: NDArray, t_y: NDArray, singular: bool) -> object:
    """Factor the five-point operator of one sample."""
    diagonal = t_x[:, :-1] + t_x[:, 1:] + t_y[:-1] + t_y[1:]
    if singular:
        diagonal[0, 0] += diagonal[0, 0]
    nx = diagonal.shape[1]
    beside = t_x[:, 1:].copy()
    beside[:, -1] = 0  # the last cell of a row and the first of the next do not touch
    above = t_y[1:-1].ravel()
    beside = beside.ravel()[:-1]
    matrix = sparse.diags_array((-above, -beside, diagonal.ravel(), -beside, -above), offsets=(-nx, -1, 0, 1, nx))
    try:
        return splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    except RuntimeError:  # SuperLU: "Factor is exactly singular"
        raise ConvergenceError("the equation is singular in floating point: its coefficient spans too much") from None
