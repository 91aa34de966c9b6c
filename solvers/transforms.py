"""The constant-coefficient Laplacian on a cell-centred grid, inverted by fast transforms.

On n cells of width h the finite-volume Laplacian −d²/dx² is tridiagonal: 2/h² on the diagonal and −1/h² beside it, but
3/h² in a cell at a wall that fixes u (the value sits half a cell away) and 1/h² at a wall that fixes the flux. Its
eigenvectors are sampled sines and cosines, one family for each pair of ends:

    ends (low, high)     eigenvector at cell j        mode k
    value, value         sin(π k (j+½)/n)             1 … n
    flux,  flux          cos(π k (j+½)/n)             0 … n−1
    value, flux          sin(π (k+½)(j+½)/n)          0 … n−1
    flux,  value         cos(π (k+½)(j+½)/n)          0 … n−1

with the eigenvalue (2 − 2 cos θ)/h², θ being the angle between neighbouring cells. In two dimensions eigenvalues
add, so −kx ∂²/∂x² − ky ∂²/∂y² is diagonal in the product basis.

Up to a thousand cells a side the orthonormal eigenvectors are applied as dense matrices: two matrix products at the
processor's full speed beat a fast Fourier transform. Longer sides use the transform. Between two ends of the same kind
every eigenvector is even or odd about the middle: a field folded into even and odd halves takes half the products.
"""

import math

import torch
from torch import Tensor

from pdediff.solvers.grid import Grid

DENSE_UP_TO = 1024  # cells a side; measured crossover of matrix products and FFTs
FOLD_FROM = 96  # cells a side; below, smaller matrices gain no more than folding costs


class SineCosineBasis:
    """The orthonormal eigenbasis of the 1-D Laplacian on ``n`` cells of width ``h``.

    Parameters
    ----------
    value_low, value_high : whether the value (and not the flux) is fixed at each end.
    dense : apply as a matrix (True) or by FFT (False); by size if not given.

    Attributes
    ----------
    eigenvalues : ``(n,)``, increasing.
    groups : 2 if fields are to be folded, even modes apart from odd ones; else 1.
    blocks, blocks_t : ``(groups, n/groups, n/groups)``, [cell, mode] and its transpose, if dense.
    """

    def __init__(
        self, n: int, h: float, value_low: bool, value_high: bool, dtype: torch.dtype,
        device: torch.device | str = "cpu", dense: bool | None = None,
    ) -> None:  # fmt: skip
        self.n = n
        self.dense = n <= DENSE_UP_TO if dense is None else dense
        self._sine = value_low
        self._shift = 0.5 if value_low != value_high else float(value_low)
        k = torch.arange(n, dtype=torch.float64) + self._shift
        j = torch.arange(n, dtype=torch.float64)
        theta = math.pi * k / n
        self.eigenvalues = ((2 * torch.sin(theta / 2) / h) ** 2).to(device, dtype)
        norm = torch.full_like(k, math.sqrt(2 / n))
        norm[torch.isclose(torch.remainder(k, n), torch.zeros_like(k))] = math.sqrt(1 / n)  # constant and alternating
        if self.dense:
            angle = theta * (j[:, None] + 0.5)
            matrix = norm * (torch.sin(angle) if self._sine else torch.cos(angle))  # [cell j, mode k]
            self.groups = 2 if value_low == value_high and n % 2 == 0 and n >= FOLD_FROM else 1
            blocks = torch.stack([matrix[: n // self.groups, k :: self.groups] for k in range(self.groups)])
            self.matrix = matrix.to(device, dtype).contiguous()
            self.blocks = blocks.to(device, dtype).contiguous()
            self.blocks_t = blocks.mT.to(device, dtype).contiguous()
        else:
            # Σ_j x_j exp(−iπ(k+s)(j+½)/n) is an FFT of length 2n between two rotations, for every shift s.
            complex_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128

            def rotation(angle: Tensor) -> Tensor:
                return torch.polar(torch.ones_like(angle), -angle).to(device, complex_dtype)

            self._pre = rotation(math.pi * self._shift * j / n)
            self._post = norm.to(device, dtype) * rotation(theta / 2)
            self._pre_t = norm.to(device, dtype) * rotation(math.pi * torch.arange(n, dtype=torch.float64) / (2 * n))
            self._post_t = rotation(math.pi * self._shift * (j + 0.5) / n)

    def forward(self, x: Tensor) -> Tensor:
        """Coefficients of ``x (..., n)`` along its last axis."""
        return x @ self.matrix if self.dense else self._rotate(x, self._pre, self._post)

    def inverse(self, x: Tensor) -> Tensor:
        """The field with coefficients ``x (..., n)``; also the transpose of ``forward``."""
        return x @ self.matrix.mT if self.dense else self._rotate(x, self._pre_t, self._post_t)

    def _rotate(self, x: Tensor, pre: Tensor, post: Tensor) -> Tensor:
        wave = torch.fft.fft(x * pre, n=2 * self.n)[..., : self.n] * post
        return -wave.imag if self._sine else wave.real


class FastPoisson:
    """Eigenbasis and inverse of −kx ∂²/∂x² − ky ∂²/∂y² with constant kx, ky on a grid.

    Parameters
    ----------
    grid : the cells.
    values : whether u (and not its flux) is fixed on the left, right, bottom and top wall.
    dtype, device : of the fields.
    dense : see SineCosineBasis.

    When every wall fixes the flux, the constant mode has the eigenvalue 0; it is given the smallest other eigenvalue
    instead, which keeps the inverse positive definite (a preconditioner must be) and leaves zero-mean fields alone.
    """

    def __init__(
        self, grid: Grid, values: tuple[bool, ...], dtype: torch.dtype, device: torch.device | str = "cpu",
        dense: bool | None = None,
    ) -> None:  # fmt: skip
        left, right, bottom, top = values
        self.x = SineCosineBasis(grid.nx, grid.dx, left, right, dtype, device, dense)
        self.y = SineCosineBasis(grid.ny, grid.dy, bottom, top, dtype, device, dense)
        self.singular = not any(values)

    def eigenvalues(self, kx: Tensor | float = 1.0, ky: Tensor | float = 1.0) -> Tensor:
        """Eigenvalues ``(..., ny, nx)`` for kx, ky numbers or ``(..., 1, 1)``."""
        eigenvalues = kx * self.x.eigenvalues + ky * self.y.eigenvalues[:, None]
        if self.singular:
            smallest = torch.minimum(eigenvalues[..., 0, 1], eigenvalues[..., 1, 0])
            eigenvalues = eigenvalues.clone()
            eigenvalues[..., 0, 0] = smallest
        return eigenvalues

    def inverse_eigenvalues(self, kx: Tensor | float = 1.0, ky: Tensor | float = 1.0) -> Tensor:
        """1/eigenvalues in the order in which ``solve`` wants them."""
        inverse = self.eigenvalues(kx, ky).reciprocal()
        if not (self.x.dense and self.y.dense):
            return inverse
        ny, nx = inverse.shape[-2:]
        g_y, g_x = self.y.groups, self.x.groups
        return inverse.reshape(-1, ny // g_y, g_y, nx // g_x, g_x).permute(2, 4, 0, 1, 3).contiguous()

    def solve(self, f: Tensor, inverse_eigenvalues: Tensor, work: tuple[Tensor, ...] | None = None) -> Tensor:
        """V Λ⁻¹ Vᵀ f for ``f (B, ny, nx)``, contiguous.

        With ``work``, two tensors like ``f``, little is allocated and the result is one of them, good until the
        next call.
        """
        if not (self.x.dense and self.y.dense):
            coefficients = self.y.forward(self.x.forward(f).mT).mT * inverse_eigenvalues
            return self.x.inverse(self.y.inverse(coefficients.mT).mT)
        p, q = work if work is not None else (torch.empty_like(f), torch.empty_like(f))
        batch, ny, nx = f.shape
        g_x, g_y = self.x.groups, self.y.groups
        m_x, m_y = nx // g_x, ny // g_y
        columns, tall = (g_x, batch, ny, m_x), (g_x, batch * ny, m_x)  # folded in x; and as one matrix a group
        cells, flat = (g_y, g_x, batch, m_y, m_x), (g_y, g_x * batch, m_y, m_x)  # folded in x and y

        folded = _fold(f, -1, p.view(columns)) if g_x == 2 else f
        torch.bmm(folded.view(tall), self.x.blocks, out=q.view(tall))
        if g_y == 2:
            _fold(q.view(columns), -2, p.view(cells))
            p, q = q, p
        for k in range(g_y):
            torch.bmm(self.y.blocks_t[k].expand(g_x * batch, m_y, m_y), q.view(flat)[k], out=p.view(flat)[k])
        p.view(cells).mul_(inverse_eigenvalues)
        for k in range(g_y):
            torch.bmm(self.y.blocks[k].expand(g_x * batch, m_y, m_y), p.view(flat)[k], out=q.view(flat)[k])
        if g_y == 2:
            _unfold(q.view(cells), -2, p.view(columns))
            p, q = q, p
        torch.bmm(q.view(tall), self.x.blocks_t, out=p.view(tall))
        return _unfold(p.view(columns), -1, q) if g_x == 2 else p


def _fold(field: Tensor, dim: int, out: Tensor) -> Tensor:
    """``out[0], out[1]`` = sum and difference of the first half along ``dim`` and the mirrored second half."""
    low, high = field.chunk(2, dim)
    high = high.flip(dim)
    torch.add(low, high, out=out[0])
    torch.sub(low, high, out=out[1])
    return out


def _unfold(halves: Tensor, dim: int, out: Tensor) -> Tensor:
    """The field whose first half is even + odd and whose mirrored second half is even − odd; overwrites ``halves``."""
    even, odd = halves
    low, high = out.chunk(2, dim)
    torch.add(even, odd, out=low)
    high.copy_(even.sub_(odd).flip(dim))
    return out
