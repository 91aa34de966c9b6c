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
processor's full speed beat a fast Fourier transform. Longer sides use the transform.
"""

import math

import torch
from torch import Tensor

from pdediff.solvers.grid import Grid

DENSE_UP_TO = 1024  # cells a side; measured crossover of matrix products and FFTs


class SineCosineBasis:
    """The orthonormal eigenbasis of the 1-D Laplacian on ``n`` cells of width ``h``.

    Parameters
    ----------
    value_low, value_high : whether the value (and not the flux) is fixed at each end.
    dense : apply as a matrix (True) or by FFT (False); by size if not given.

    Attributes
    ----------
    eigenvalues : ``(n,)``, increasing.
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
            self.matrix = matrix.to(device, dtype).contiguous()
            self.matrix_t = matrix.T.to(device, dtype).contiguous()
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
        return x @ self.matrix_t if self.dense else self._rotate(x, self._pre_t, self._post_t)

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
        self, grid: Grid, values: tuple[bool, bool, bool, bool], dtype: torch.dtype, device: torch.device | str = "cpu",
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

    def solve(self, f: Tensor, inverse_eigenvalues: Tensor, work: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """V Λ⁻¹ Vᵀ f for ``f (B, ny, nx)``, contiguous.

        With ``work``, two tensors like ``f``, nothing is allocated and the result is one of them, good until the next
        call.
        """
        if not (self.x.dense and self.y.dense):
            coefficients = self.y.forward(self.x.forward(f).mT).mT * inverse_eigenvalues
            return self.x.inverse(self.y.inverse(coefficients.mT).mT)
        p, q = work if work is not None else (torch.empty_like(f), torch.empty_like(f))
        batch, ny, nx = f.shape
        y, y_t = self.y.matrix.expand(batch, ny, ny), self.y.matrix_t.expand(batch, ny, ny)
        torch.mm(f.view(-1, nx), self.x.matrix, out=p.view(-1, nx))
        torch.bmm(y_t, p, out=q)
        q.mul_(inverse_eigenvalues)
        torch.bmm(y, q, out=p)
        torch.mm(p.view(-1, nx), self.x.matrix_t, out=q.view(-1, nx))
        return q
