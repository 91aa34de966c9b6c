"""Stationary fields on a rectangle, as a part of a field on a torus.

The covariance of a variogram on a grid is Toeplitz, and no fast transform makes it diagonal. It is, however, a block of
the covariance on a larger torus, where the variogram is wrapped around: circulant, hence diagonal in waves (circulant
embedding: Wood & Chan, 1994; Dietrich & Newsam, 1997). A torus of at least twice the cells each way holds every lag
between two cells of the grid unwrapped, so the field cropped to the grid has exactly the wanted covariance, provided
that the wrapped one is positive. It becomes so as the torus grows. What is still negative is clipped, and since
|cos| ≤ 1 no covariance changes by more than C(0) times the clipped mass Σ_{λ_k < 0} |λ_k| / Σ_k λ_k.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional

from pdediff.datasets.random_fields import PeriodicField
from pdediff.datasets.variograms import Variogram
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

TOLERANCE = 1e-6  # of the variance: beyond what any number of samples could show; round-off leaves about 1e-15
LARGEST_TORUS = 2**22  # points; 64 times the grid's where that is more
GROWTH = 1.2  # of the torus, per attempt


@dataclass(frozen=True)
class EmbeddedField:
    """A stationary field on a grid: the part of a periodic field that lies in the window of the grid.

    Parameters
    ----------
    torus : the periodic field on the larger grid of equal cells.
    window : slices (y, x) of the torus that are the grid.
    clipped : bound on the error of any covariance, in units of the variance (0: the embedding is exact).
    """

    torus: PeriodicField
    window: tuple[slice, slice]
    clipped: float

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) of the grid."""
        return self.window[0].stop, self.window[1].stop

    def crop(self, x: Tensor) -> Tensor:
        """The part on the grid (..., ny, nx) of fields on the torus."""
        return x[(..., *self.window)]

    def covariance(self, v: Tensor) -> Tensor:
        """C v on the grid, v (..., ny, nx): padded with zeros, smoothed on the torus, cropped."""
        (my, mx), (ny, nx) = self.torus.shape, self.shape
        return self.crop(self.torus.apply(functional.pad(v, (0, mx - nx, 0, my - ny))))

    def sample(
        self,
        n: int,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device | None = None,
    ) -> Tensor:
        """Draw n independent fields (n, ny, nx), as `PeriodicField.sample` does; the torus is drawn whole."""
        return self.crop(self.torus.sample(n, generator, dtype, device)).contiguous()

    def pointwise_variance(self) -> Tensor:
        """C(0) everywhere (ny, nx)."""
        return self.crop(self.torus.pointwise_variance())


def embed(variogram: Variogram, grid: Grid, tolerance: float = TOLERANCE, largest: int | None = None) -> EmbeddedField:
    """Put a variogram on a grid, with the smallest torus that does it to the tolerance.

    The torus starts with twice the cells of the grid (even, FFT-friendly numbers) and grows, first the side that is
    short in units of the variogram's own extent, until the clipped mass is at most `tolerance`.

    Parameters
    ----------
    variogram, grid : in the same unit of length.
    tolerance : largest error of a covariance in units of C(0).
    largest : most points of the torus; by default 2²², or 64 times the grid's where that is more.

    Raises
    ------
    InputError : no torus of that size will do: the range is too long against the domain.
    """
    largest = largest or max(LARGEST_TORUS, 64 * math.prod(grid.shape))
    doubled = [2 * n for n in grid.shape]
    widths = (grid.dy, grid.dx)
    extent = [e / h for e, h in zip(variogram.extent[::-1], widths, strict=True)]  # in cells
    scale = min(n / e for n, e in zip(doubled, extent, strict=True))
    clipped = math.inf
    for attempt in itertools.count():
        sides = (_fast_even(max(n, scale * GROWTH**attempt * e)) for n, e in zip(doubled, extent, strict=True))
        shape = (next(sides), next(sides))
        if math.prod(shape) > largest:
            break
        spectrum, clipped = _wrapped(variogram, shape, widths)
        if clipped <= tolerance:
            window = (slice(0, grid.ny), slice(0, grid.nx))
            return EmbeddedField(PeriodicField(shape, torch.from_numpy(spectrum)), window, clipped)
    raise InputError(
        f"variogram range {variogram.range:g} {grid.unit} is too long for a domain of {grid.nx * grid.dx:g} × "
        f"{grid.ny * grid.dy:g} {grid.unit}: a torus of {largest} points leaves covariances wrong by {clipped:.0e} of "
        f"the variance (allowed {tolerance:g}); use a shorter range or a coarser grid"
    )


def _fast_even(n: float) -> int:
    """The smallest even number of cells, at least n, that an FFT likes."""
    return 2 * next_fast_len(math.ceil(n / 2), real=True)


def _wrapped(
    variogram: Variogram, shape: tuple[int, int], widths: tuple[float, float]
) -> tuple[NDArray[np.float64], float]:
    """Clipped spectrum (my, mx//2 + 1) of the covariance wrapped on a torus, and the share of it that was negative."""
    lag_y, lag_x = (h * m * np.fft.fftfreq(m) for m, h in zip(shape, widths, strict=True))
    # The lag of half a turn has two signs; taking the real part is taking their mean, so the covariance is even.
    spectrum = np.fft.rfft2(variogram.covariance(lag_x, lag_y[:, None])).real
    weight = np.full(shape[1] // 2 + 1, 2.0)
    weight[[0, -1]] = 1.0  # the torus is even: these waves are their own mirrors in k_x
    negative = float((np.maximum(-spectrum, 0) * weight).sum())
    return np.maximum(spectrum, 0), negative / (math.prod(shape) * variogram.sill)
