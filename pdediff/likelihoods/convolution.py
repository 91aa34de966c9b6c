"""Blurred fields, y = k * x + n (eq. 42): linear in the field x, linear in the kernel k, and bilinear in both.

With a kernel on a square of odd size K = 2p + 1 and a field on the cells of a grid,

    (k * x)_i = Σ_j k_j x_{i−j},        |j_y|, |j_x| ≤ p,

where beyond the walls the field is its mirror image (a zero normal derivative), or repeats itself. By the fast Fourier
transform of the field, extended by p cells on each side if it is mirrored: the sum is exact, and so are the adjoints.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from pdediff.denoisers.kernel_prior import KERNEL_SCALE
from pdediff.spaces import FunctionSpace


@dataclass(frozen=True)
class Convolution:
    """(x, k) ↦ k * x.

    Parameters
    ----------
    shape: cells (ny, nx) of the field.
    size: K, odd, of the kernel's square.
    boundary: what the field is beyond the walls: "mirror", its reflection (the outer cells come twice), or "periodic".

    Raises
    ------
    ValueError: an even size, one that exceeds the field's, or an unknown boundary.

    """

    shape: tuple[int, int]
    size: int
    boundary: Literal["mirror", "periodic"] = "mirror"

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % 2 == 0:
            raise ValueError(f"a kernel needs an odd size, not {self.size}")
        if self.size > min(self.shape):
            raise ValueError(f"a kernel of size {self.size} is larger than a field of shape {self.shape}")
        if self.boundary not in ("mirror", "periodic"):
            raise ValueError(f"the boundary is 'mirror' or 'periodic', not {self.boundary!r}")

    def __call__(self, x: Tensor, k: Tensor) -> Tensor:
        """k * x: fields (B, ny, nx) and kernels (B, K, K), or one (K, K) for all, to fields (B, ny, nx)."""
        return self._cells(self._inverse(self._spectrum(k) * torch.fft.rfft2(self._extend(x))))

    def field_adjoint(self, data: Tensor, k: Tensor) -> Tensor:
        """Transpose of x ↦ k * x: data (B, ny, nx) and kernels (B, K, K), or one (K, K), to fields (B, ny, nx)."""
        return self._fold(self._inverse(self._spectrum(k).conj() * torch.fft.rfft2(self._frame(data))))

    def kernel_adjoint(self, data: Tensor, x: Tensor) -> Tensor:
        """Transpose of k ↦ k * x: data and fields (B, ny, nx) to kernels (B, K, K)."""
        product = torch.fft.rfft2(self._extend(x)).conj() * torch.fft.rfft2(self._frame(data))
        return self._inverse(product).roll((self.reach, self.reach), (-2, -1))[..., : self.size, : self.size]

    @property
    def reach(self) -> int:
        """p = (K − 1)/2, in cells."""
        return self.size // 2

    @property
    def _margin(self) -> int:
        return self.reach if self.boundary == "mirror" else 0

    @cached_property
    def _images(self) -> tuple[Tensor, Tensor]:
        """The cell that stands at each place of the extended field, along y and along x."""
        cells = (torch.arange(-self._margin, n + self._margin) for n in self.shape)
        pairs = zip(cells, self.shape, strict=True)
        y, x = (torch.minimum(i.remainder(2 * n), (-1 - i).remainder(2 * n)) for i, n in pairs)
        return y, x

    def _extend(self, x: Tensor) -> Tensor:
        y, x_ = (i.to(x.device) for i in self._images)
        return x[..., y, :][..., x_]

    def _fold(self, extended: Tensor) -> Tensor:
        """Transpose of `_extend`."""
        y, x = (i.to(extended.device) for i in self._images)
        rows = extended.new_zeros(*extended.shape[:-1], self.shape[1]).index_add_(-1, x, extended)
        return rows.new_zeros(*rows.shape[:-2], *self.shape).index_add_(-2, y, rows)

    def _cells(self, extended: Tensor) -> Tensor:
        (ny, nx), p = self.shape, self._margin
        return extended[..., p : p + ny, p : p + nx]

    def _frame(self, data: Tensor) -> Tensor:
        """Transpose of `_cells`."""
        return functional.pad(data, 4 * (self._margin,))

    def _spectrum(self, k: Tensor) -> Tensor:
        """Transform of the kernel with its centre at the origin of the extended field."""
        ny, nx = (n + 2 * self._margin - self.size for n in self.shape)
        return torch.fft.rfft2(functional.pad(k, (0, nx, 0, ny)).roll((-self.reach, -self.reach), (-2, -1)))

    def _inverse(self, spectrum: Tensor) -> Tensor:
        ny, nx = (n + 2 * self._margin for n in self.shape)
        return torch.fft.irfft2(spectrum, s=(ny, nx))


@dataclass(frozen=True)
class KnownBlur:
    """x ↦ k * x for one kernel, a linear operator on the cells of a field.

    Parameters
    ----------
    convolution: shapes and boundary.
    kernel: k (K, K).

    """

    convolution: Convolution
    kernel: Tensor

    def __call__(self, field: Tensor) -> Tensor:
        """k * x: (B, ny, nx) -> (B, ny·nx)."""
        return self.convolution(field, self.kernel.to(field)).flatten(-2)

    def adjoint(self, data: Tensor) -> Tensor:
        """Aᵀ data: (B, ny·nx) -> (B, ny, nx)."""
        return self.convolution.field_adjoint(data.unflatten(-1, self.convolution.shape), self.kernel.to(data))


class BlindConvolution:
    """log p(y | x, k) of a blurred field with independent Gaussian noise, for unknowns x_0 = (x, z) with k = scale·z.

    Diffusion wants numbers of unit size, and a kernel's are small: they sum to one. So z, with values up to about one,
    is what a prior of kernels is about. The two parts lie one after the other, as in the product of their spaces.

    Parameters
    ----------
    convolution: shapes and boundary.
    value: y (ny, nx), in the field's unit.
    sigma: standard deviation of the noise, a number or (ny, nx), in the field's unit.
    kernel_scale: k/z, positive.
    field: the field (B, ny, nx) of the first part of x_0 (B, D_x), such as `Physics.coefficient`; its values themselves
        by default.

    Raises
    ------
    ValueError: data of another shape than the field's, or a sigma or a scale that is not positive.

    """

    def __init__(
        self,
        convolution: Convolution,
        value: Tensor,
        sigma: float | Tensor,
        kernel_scale: float = KERNEL_SCALE,
        field: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if tuple(value.shape) != convolution.shape:
            raise ValueError(f"data of shape {tuple(value.shape)} for a field of shape {convolution.shape}")
        if not (bool((torch.as_tensor(sigma) > 0).all()) and kernel_scale > 0):
            raise ValueError(f"sigma and the kernel's scale must be positive, not {sigma} and {kernel_scale}")
        self.convolution, self.value, self.kernel_scale, self.field = convolution, value, kernel_scale, field
        self.sigma = torch.as_tensor(sigma, dtype=torch.float64)

    @property
    def size(self) -> int:
        """Number of data, ny·nx."""
        return self.value.numel()

    @property
    def kernel_space(self) -> FunctionSpace:
        """The space of z: one field "k" of shape (K, K)."""
        return FunctionSpace(("k",), (self.convolution.size, self.convolution.size))

    def split(self, x_0: Tensor) -> tuple[Tensor, Tensor]:
        """Field (B, ny, nx) and kernel (B, K, K) of the unknowns x_0 (B, D_x + K²)."""
        k = self.convolution.size
        x, z = x_0[..., : -k * k], x_0[..., -k * k :]
        field = x.unflatten(-1, self.convolution.shape) if self.field is None else self.field(x)
        return field, self.kernel_scale * z.unflatten(-1, (k, k))

    def misfit(self, x_0: Tensor) -> Tensor:
        """(k * x − y)/sigma of x_0 (B, D_x + K²): (B, ny·nx), differentiable."""
        blurred = self.convolution(*self.split(x_0))
        return ((blurred - self.value.to(blurred)) / self.sigma.to(blurred)).flatten(1)

    def log_prob(self, x_0: Tensor) -> Tensor:
        """−½ ‖(k * x − y)/sigma‖² of x_0 (B, D_x + K²): (B,), differentiable."""
        return -0.5 * self.misfit(x_0).square().sum(dim=-1)


def kernel_width(k: Tensor) -> Tensor:
    """√(½ Σ_j k_j |j − j̄|²) in cells, j̄ the centre of mass: the width of a Gaussian kernel. (B, K, K) -> (B,)."""
    j = torch.arange(k.shape[-1], dtype=k.dtype, device=k.device)
    variances = []
    for profile in (k.sum(dim=-1), k.sum(dim=-2)):
        centre = (profile * j).sum(dim=-1, keepdim=True)
        variances.append((profile * (j - centre).square()).sum(dim=-1))
    return (0.5 * (variances[0] + variances[1])).sqrt()
