"""Gaussian fields of any covariance, by its eigenvectors.

Where no fast transform makes a covariance diagonal, its own eigenvectors do: C = Q Λ Qᵀ with a dense Q, O(N³) once and
O(N²) for every product. Up to about 2000 points that is a few seconds and a few milliseconds. A stationary law on a
small window then needs no torus around it: every point of the field is a point of the window.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pdediff.datasets.random_fields import SpectralCovariance
from pdediff.datasets.variograms import Variogram
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

ROUNDING = 1e-10  # of the largest value or eigenvalue: asymmetry or a negative eigenvalue of this size is rounding


class DenseField(SpectralCovariance):
    """A centred Gaussian field with the covariance matrix C = Q Λ Qᵀ.

    The spectrum is laid out in the shape of the field, in rising order; its places mean nothing.

    Parameters
    ----------
    shape : (ny, nx) of the field, N = ny·nx points row by row.
    covariance : C (N, N), symmetric and positive semidefinite.

    Raises
    ------
    InputError : a matrix of another size, not symmetric, or not positive semidefinite.
    """

    def __init__(self, shape: tuple[int, int], covariance: Tensor) -> None:
        with torch.inference_mode(False):
            covariance = torch.as_tensor(covariance).detach().to("cpu", torch.float64, copy=True)
            points = math.prod(shape)
            if tuple(covariance.shape) != (points, points):
                raise InputError(f"a covariance of {points} points cannot have shape {tuple(covariance.shape)}")
            asymmetry, size = (covariance - covariance.T).abs().max(), covariance.abs().max()
            if not bool(asymmetry <= ROUNDING * size):  # not a number is not
                raise InputError("a covariance must be finite and symmetric")
            spectrum, self.basis = torch.linalg.eigh(covariance)
        if float(spectrum[0]) < -ROUNDING * float(spectrum[-1]):
            raise InputError(f"a covariance must be positive semidefinite; its least eigenvalue is {spectrum[0]:.3g}")
        super().__init__(shape, spectrum.clamp(min=0).reshape(shape))
        self._bases: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def _layout(self) -> tuple[int, int]:
        return self.shape

    def to_basis(self, x: Tensor) -> Tensor:
        """Qᵀ x of fields x (..., ny, nx)."""
        return (x.flatten(-2) @ self._basis_as(x)).unflatten(-1, self.shape)

    def from_basis(self, c: Tensor) -> Tensor:
        """Q c: fields (..., ny, nx)."""
        return (c.flatten(-2) @ self._basis_as(c).T).unflatten(-1, self.shape)

    def colour(self, xi: Tensor) -> Tensor:
        """Q Λ^{1/2} xi: xi (..., ny, nx) are the coefficients of the Karhunen-Loève expansion, of unit variance."""
        return self.from_basis(self.spectrum_as(xi).sqrt() * xi)

    def trace(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Σ function(λ_k) over all eigenvalues."""
        return function(self.spectrum).sum()

    def pointwise_variance(self) -> Tensor:
        """diag(Q Λ Qᵀ) (ny, nx)."""
        return (self.basis.square() @ self.spectrum.flatten()).reshape(self.shape)

    def _basis_as(self, x: Tensor) -> Tensor:
        key = (x.dtype, x.device)
        if key not in self._bases:
            with torch.inference_mode(False):
                self._bases[key] = self.basis.to(device=x.device, dtype=x.dtype)
        return self._bases[key]


def dense_variogram(variogram: Variogram, grid: Grid) -> DenseField:
    """The stationary law of a variogram at the centres of a grid's cells, in the same unit of length.

    Raises
    ------
    InputError : a covariance that rounding leaves indefinite: far too long a range for the grid.
    """
    x, y = (torch.from_numpy(centre.ravel()) for centre in grid.mesh())
    covariance = variogram.covariance((x[:, None] - x).numpy(), (y[:, None] - y).numpy())
    return DenseField(grid.shape, torch.from_numpy(covariance))
