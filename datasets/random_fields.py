"""Gaussian random fields whose covariance is diagonal in a fast orthonormal transform.

If C = Q Λ Qᵀ with Q a transform that costs O(N log N), then every function of C is as cheap as C itself,

    f(C) x = Q f(Λ) Qᵀ x,        C^{1/2} ξ ~ N(0, C) for white ξ,        tr f(C) = Σ_k f(λ_k),

and the law can be sampled, inverted, and denoised in closed form,

    E[x_0 | x_t] = alpha_t C (alpha_t² C + sigma_t² I)⁻¹ x_t.

Two bases are here: cosines (fields mirrored at the walls) and waves on a torus (periodic fields). A stationary law on a
rectangle is diagonal in neither; `pdediff.datasets.embedding` makes it a part of a periodic one.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from pdediff.datasets.cosines import cosine_matrix, from_cosines, to_cosines
from pdediff.solvers.errors import InputError


class RandomField(Protocol):
    """A centred Gaussian field on the cells of a grid."""

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""

    def sample(
        self,
        n: int,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device | None = None,
    ) -> Tensor:
        """Draw n independent fields (n, ny, nx); numbers come from the generator's device and move to `device`."""

    def pointwise_variance(self) -> Tensor:
        """Variance at every cell (ny, nx), float64."""


class SpectralCovariance(ABC):
    """C = Q diag(spectrum) Qᵀ on fields of one shape.

    Parameters
    ----------
    shape : (ny, nx) of the field.
    spectrum : eigenvalues λ ≥ 0 in the layout of `to_basis`; kept in float64 on the CPU.

    Raises
    ------
    InputError : a spectrum of another layout, negative, or not finite.
    """

    def __init__(self, shape: tuple[int, int], spectrum: Tensor) -> None:
        self.shape = (int(shape[0]), int(shape[1]))
        with torch.inference_mode(False):  # a kept tensor must serve autograd too
            self.spectrum = torch.as_tensor(spectrum).detach().to("cpu", torch.float64, copy=True)
        if tuple(self.spectrum.shape) != self._layout():
            raise InputError(f"spectrum must have shape {self._layout()}, got {tuple(self.spectrum.shape)}")
        if not bool((torch.isfinite(self.spectrum) & (self.spectrum >= 0)).all()):
            raise InputError("spectrum of a covariance must be finite and not negative")
        self._copies: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    @abstractmethod
    def _layout(self) -> tuple[int, int]:
        """Shape of the spectrum."""

    @abstractmethod
    def to_basis(self, x: Tensor) -> Tensor:
        """Qᵀ x of fields x (..., ny, nx)."""

    @abstractmethod
    def from_basis(self, c: Tensor) -> Tensor:
        """Q c: fields (..., ny, nx)."""

    @abstractmethod
    def colour(self, xi: Tensor) -> Tensor:
        """A linear map of white noise xi (..., ny, nx) to fields with this law."""

    @abstractmethod
    def trace(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Σ function(λ_k) over all N = ny·nx eigenvalues; `torch.log` gives ln det C. Float64 scalar on the CPU."""

    @abstractmethod
    def pointwise_variance(self) -> Tensor:
        """Variance at every cell (ny, nx), float64 on the CPU."""

    def spectrum_as(self, x: Tensor) -> Tensor:
        """The spectrum in x's precision and on x's device (kept, so not to be written to)."""
        key = (x.dtype, x.device)
        if key not in self._copies:
            with torch.inference_mode(False):
                self._copies[key] = self.spectrum.to(device=x.device, dtype=x.dtype)
        return self._copies[key]

    def apply(self, x: Tensor, function: Callable[[Tensor], Tensor] = lambda spectrum: spectrum) -> Tensor:
        """Q function(λ) Qᵀ x; C x by default.

        Parameters
        ----------
        x : fields (..., ny, nx), float32 or float64, on any device; differentiable.
        function : map of the eigenvalues to factors that broadcast against `to_basis(x)`: `torch.sqrt` for C^{1/2},
            `lambda c: c / (c + s)` for a denoiser, s of shape (B, 1, 1) for one level per field. Where C is singular it
            meets zeros.
        """
        return self.from_basis(self.to_basis(x) * function(self.spectrum_as(x)))

    def sample(
        self,
        n: int,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device | None = None,
    ) -> Tensor:
        """Draw n independent fields (n, ny, nx).

        White noise is drawn on the generator's own device and then moved, so a CPU generator gives the same fields
        everywhere; `device` is the generator's if not given.
        """
        xi = torch.randn(n, *self.shape, generator=generator, dtype=dtype, device=generator.device)
        return self.colour(xi.to(device or generator.device))


class CosineField(SpectralCovariance):
    """A Gaussian field with zero normal derivative at the walls: Q is the orthonormal cosine basis.

    The spectrum has the shape of the field, entry (k_y, k_x).
    """

    def _layout(self) -> tuple[int, int]:
        return self.shape

    @staticmethod
    def to_basis(x: Tensor) -> Tensor:
        """Cosine coefficients of fields x (..., ny, nx)."""
        return to_cosines(x)

    @staticmethod
    def from_basis(c: Tensor) -> Tensor:
        """Fields of cosine coefficients c (..., ny, nx)."""
        return from_cosines(c)

    def colour(self, xi: Tensor) -> Tensor:
        """Q Λ^{1/2} xi: xi (..., ny, nx) are the coefficients of the Karhunen-Loève expansion, of unit variance."""
        return self.from_basis(self.spectrum_as(xi).sqrt() * xi)

    def trace(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Σ function(λ_k) over all eigenvalues."""
        return function(self.spectrum).sum()

    def pointwise_variance(self) -> Tensor:
        """diag(Q Λ Qᵀ) (ny, nx): largest in the corners, where a field meets its mirror images."""
        squares_y, squares_x = (cosine_matrix(n, torch.float64, self.spectrum.device).square() for n in self.shape)
        return squares_y @ self.spectrum @ squares_x.T


class PeriodicField(SpectralCovariance):
    """A stationary Gaussian field on a torus: Q is the orthonormal Fourier basis of real fields.

    The spectrum has the layout of `torch.fft.rfft2`, (ny, nx//2 + 1): a wave and its conjugate share an eigenvalue, and
    are stored once where k_x tells them apart. Where it does not, k_x = 0 or nx/2, the spectrum must be even in k_y.
    """

    def __init__(self, shape: tuple[int, int], spectrum: Tensor) -> None:
        super().__init__(shape, spectrum)
        both = self.spectrum[1:, :: self.shape[1] // 2] if self.shape[1] % 2 == 0 else self.spectrum[1:, :1]
        if not torch.allclose(both, both.flip(0), rtol=1e-9, atol=1e-12 * float(self.spectrum.max())):
            raise InputError("spectrum of a periodic field must be even in k_y where k_x is 0 or nx/2")

    def _layout(self) -> tuple[int, int]:
        return self.shape[0], self.shape[1] // 2 + 1

    def to_basis(self, x: Tensor) -> Tensor:
        """Fourier coefficients (..., ny, nx//2 + 1), complex, of fields x (..., ny, nx)."""
        return torch.fft.rfft2(x, norm="ortho")

    def from_basis(self, c: Tensor) -> Tensor:
        """Fields (..., ny, nx) of Fourier coefficients c."""
        return torch.fft.irfft2(c, s=self.shape, norm="ortho")

    def colour(self, xi: Tensor) -> Tensor:
        """C^{1/2} xi: xi (..., ny, nx) is white noise on the cells, smoothed by the square root of the covariance."""
        return self.apply(xi, torch.sqrt)

    def trace(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Σ function(λ_k) over all eigenvalues, those that are not stored included."""
        values = function(self.spectrum)
        own_mirror = values[:, :1].sum() + (values[:, -1:].sum() if self.shape[1] % 2 == 0 else 0)
        return 2 * values.sum() - own_mirror

    def pointwise_variance(self) -> Tensor:
        """C(0) everywhere (ny, nx)."""
        variance = self.trace(lambda spectrum: spectrum) / math.prod(self.shape)
        return variance.expand(self.shape)


def benchmark_field(
    shape: tuple[int, int], alpha: float = 2.0, tau: float = 3.0, lengths: tuple[float, float] = (1.0, 1.0)
) -> CosineField:
    """The Gaussian law behind the published two-phase Darcy benchmark (Li et al., 2021, Fourier neural operator).

    White noise on the domain under the operator τ^{α−1} (−Δ + τ²)^{−α/2} with Neumann walls: the field is Q c with

        c_k = √(ny nx/(L_x L_y)) · τ^{α−1} (π²(k_x²/L_x² + k_y²/L_y²) + τ²)^{−α/2} ξ_k,    ξ_k ~ N(0, 1),    c_0 = 0;

    on s × s cells of the unit square the root is s, as published. For α > 1, far from the walls and apart from the
    missing mean, it is a Matérn field of smoothness α − 1, range √(2(α − 1))/τ and variance 1/(4π(α − 1)).

    Parameters
    ----------
    shape : (ny, nx) cells.
    alpha, tau : smoothness and inverse length.
    lengths : (L_y, L_x), sides of the domain.

    Raises
    ------
    InputError : alpha, tau or a length not positive.
    """
    if not (min(alpha, tau, *lengths) > 0 and math.isfinite(alpha + tau + sum(lengths))):
        raise InputError(f"the field needs positive alpha, tau and lengths, got {alpha=:g}, {tau=:g}, {lengths=}")
    ky, kx = (math.pi / length * torch.arange(n, dtype=torch.float64) for n, length in zip(shape, lengths, strict=True))
    root = tau ** (alpha - 1) * (ky[:, None] ** 2 + kx**2 + tau**2) ** (-alpha / 2)
    spectrum = math.prod(shape) / math.prod(lengths) * root**2
    spectrum[0, 0] = 0
    return CosineField(shape, spectrum)
