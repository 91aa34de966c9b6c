"""Variograms on grids: the embedded covariance is the variogram's, exactly, and samples show it."""

import math

import numpy as np
import pytest
import torch

from pdediff.datasets.embedding import embed
from pdediff.datasets.variograms import Variogram
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

GRID = Grid((9, 12), x=(-1.0, 2.0), y=(0.0, 1.0))  # dx = 0.25, dy = 0.11
VARIOGRAMS = [
    Variogram("exponential", variance=2.0, range=0.5),
    Variogram("matern", range=0.4, smoothness=1.5, anisotropy=0.3, angle=35.0),
    Variogram("matern", range=0.5, smoothness=0.8, anisotropy=0.5, angle=120.0, nugget=0.3),
    Variogram("squared-exponential", range=0.4, anisotropy=0.6, angle=-20.0),
    Variogram("exponential", range=3.0, anisotropy=0.2, angle=90.0),
    Variogram("exponential", range=1e-4, nugget=0.1),
]


def _matrix(variogram, grid):
    """The covariance matrix from the centres of the cells, lag by lag."""
    x, y = (c.ravel() for c in grid.mesh())
    lag_x, lag_y = x[:, None] - x, y[:, None] - y
    np.fill_diagonal(lag_x, 0)
    return variogram.covariance(lag_x, lag_y)


def _applied(field):
    n = math.prod(field.shape)
    unit = torch.eye(n, dtype=torch.float64).reshape(n, *field.shape)
    return field.covariance(unit).reshape(n, n).numpy()


@pytest.mark.parametrize("variogram", VARIOGRAMS, ids=lambda v: f"{v.kind}-{v.range:g}-{v.angle:g}")
def test_crop_has_exactly_the_covariance_of_the_variogram(variogram):
    """C applied to unit vectors is the dense covariance matrix of the cell centres, to 1e-10 of C(0)."""
    field = embed(variogram, GRID, tolerance=1e-12)
    assert field.shape == GRID.shape
    assert all(m % 2 == 0 and m >= 2 * n for m, n in zip(field.torus.shape, GRID.shape, strict=True))
    np.testing.assert_allclose(_applied(field), _matrix(variogram, GRID), rtol=0, atol=1e-10 * variogram.sill)
    np.testing.assert_allclose(field.pointwise_variance().numpy(), variogram.sill, rtol=1e-11)


def test_clipped_mass_bounds_the_covariance_error():
    """With a loose tolerance the torus is smaller, and the error of every entry is at most `clipped` C(0); the bound is
    sharp, since the variance itself is off by exactly that."""
    variogram = Variogram("squared-exponential", variance=3.0, range=0.8)
    loose, tight = embed(variogram, GRID, tolerance=1e-2), embed(variogram, GRID, tolerance=1e-12)
    assert math.prod(loose.torus.shape) < math.prod(tight.torus.shape)
    assert 1e-8 < loose.clipped <= 1e-2
    error = np.abs(_applied(loose) - _matrix(variogram, GRID)).max()
    assert math.isclose(error, 3.0 * loose.clipped, rel_tol=1e-6)


def test_torus_grows_along_the_long_range_only():
    """A field that is long along y on a wide domain needs padding in y alone."""
    torus = embed(Variogram("exponential", range=1.0, anisotropy=0.02, angle=90.0), Grid((16, 64))).torus
    assert torus.shape[0] > 2 * 16
    assert torus.shape[1] == 2 * 64


def test_samples_show_the_variogram():
    """The empirical γ(h) = ½ mean (Z(p + h) − Z(p))² of n = 4000 fields with nugget, anisotropy and angle, at lags in
    many directions: a mean of n independent field averages, within 4.5 of its own standard errors."""
    grid, n = Grid((24, 32), x=(0.0, 2.0), y=(0.0, 1.0)), 4000
    variogram = Variogram("matern", variance=1.5, range=0.4, anisotropy=0.25, angle=40.0, nugget=0.2)
    z = embed(variogram, grid).sample(n, torch.Generator().manual_seed(4), torch.float64)
    assert z.shape == (n, 24, 32)
    for j, i in ((0, 1), (1, 0), (0, 6), (6, 0), (4, 5), (8, -8), (6, 5)):
        ahead = z[:, j:, max(i, 0) : 32 + min(i, 0)]
        behind = z[:, : 24 - j, max(-i, 0) : 32 - max(i, 0)]
        gamma = 0.5 * (ahead - behind).square().mean(dim=(1, 2))
        expected = float(variogram.gamma(i * grid.dx, j * grid.dy))
        assert abs(float(gamma.mean()) - expected) < 4.5 * float(gamma.std()) / math.sqrt(n)
        assert float(gamma.std()) / math.sqrt(n) < 0.02 * expected  # so that the bound above means something


def test_samples_are_anisotropic_in_the_stated_direction():
    """With the long range 40° counter-clockwise from x (row 0 at the bottom), γ is smaller up-right than up-left."""
    variogram = Variogram("exponential", range=0.5, anisotropy=0.2, angle=40.0)
    z = embed(variogram, Grid((32, 32))).sample(200, torch.Generator().manual_seed(0))
    up_right = (z[:, 5:, 6:] - z[:, :-5, :-6]).square().mean()
    up_left = (z[:, 5:, :-6] - z[:, :-5, 6:]).square().mean()
    assert float(up_right) < 0.6 * float(up_left)


def test_too_long_a_range_is_refused():
    """A range of many domains needs a torus past the limit: one line with the range, the domain and what to do."""
    with pytest.raises(InputError, match="range 50 m is too long for a domain of 3 × 1 m") as error:
        embed(Variogram("squared-exponential", range=50.0), GRID, largest=10_000)
    assert "\n" not in str(error.value)
