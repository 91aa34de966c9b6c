"""Support averages: means over blocks, what they keep, and factors that do not fit."""

import numpy as np
import pytest
import torch

from pdediff.likelihoods.operators import SupportAverage
from pdediff.solvers.errors import InputError
from pdediff.solvers.grid import Grid

GRID = Grid((12, 18), x=(0.0, 3.0), y=(1.0, 3.0), unit="km")


def fields():
    return torch.randn(2, 12, 18, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("factor", "ky", "kx"), [(1, 1, 1), (3, 3, 3), ((4, 9), 4, 9)])
def test_means_over_blocks(factor, ky, kx):
    """Each datum is the mean of its block, and its place the block's centre; the mean of the field is kept."""
    average, v = SupportAverage(GRID, factor), fields()
    x, y = (torch.as_tensor(c) for c in GRID.mesh())
    for j in range(12 // ky):
        for i in range(18 // kx):
            block, datum = np.s_[..., j * ky : (j + 1) * ky, i * kx : (i + 1) * kx], j * (18 // kx) + i
            torch.testing.assert_close(average(v)[:, datum], v[block].mean((1, 2)))
            np.testing.assert_allclose(average.places[datum], [x[block].mean(), y[block].mean()])
    torch.testing.assert_close(average(v).mean(-1), v.mean((1, 2)), rtol=1e-13, atol=1e-13)
    assert average.out_shape == average.coarse.shape == (12 // ky, 18 // kx)
    assert (average.coarse.x, average.coarse.y, average.coarse.unit) == (GRID.x, GRID.y, "km")


def test_adjoint_spreads_evenly():
    """A Aᵀ = I/(k_y k_x): blocks do not overlap, so the pseudo-inverse is the adjoint times the number of cells."""
    average, d = SupportAverage(GRID, (2, 3)), fields().flatten(1)[:, :36]
    torch.testing.assert_close(average(average.adjoint(d)), d / 6)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (5, "blocks of 5 × 5 cells do not fit a grid of 12 × 18 .* nearest factor that does is 6"),
        (4, "is 3"),
        (0, "is 1"),
        (12, "is 6"),
        ((12, 9), "is 6 × 9"),
        ((5, 7), "is 4 × 6"),
    ],
)
def test_factors_that_do_not_fit(factor, message):
    """One line names the nearest factor that fits both sides, or each; there are two blocks at least along an axis."""
    with pytest.raises(InputError, match=message):
        SupportAverage(GRID, factor)
