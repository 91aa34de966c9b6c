"""The published generator against an independent implementation, finite volumes, and what is known of its fields."""

import numpy as np
import pytest
import scipy.sparse as sparse
import torch
from scipy.interpolate import make_interp_spline
from scipy.sparse.linalg import spsolve

from pdediff.datasets.coefficients import TwoPhaseLaw
from pdediff.datasets.published import PublishedDarcy
from pdediff.datasets.random_fields import benchmark_field
from pdediff.solvers.darcy import Darcy
from pdediff.solvers.errors import ConvergenceError, InputError
from pdediff.solvers.grid import Grid


def _two_phase(shape, n, seed=0):
    return TwoPhaseLaw(benchmark_field(shape)).sample(n, torch.Generator().manual_seed(seed), torch.float64)


def _smooth(n):
    """a = exp(sin(2πx) cos(πy) + x) at the centres of n × n cells."""
    x, y = (torch.from_numpy(c) for c in Grid((n, n)).mesh())
    return torch.exp(torch.sin(2 * np.pi * x) * torch.cos(np.pi * y) + x)


def _resampled(field, known, wanted):
    """Cubic not-a-knot spline of a field along y, then along x, by another routine of scipy (B-splines)."""
    for axis in (0, 1):
        n = field.shape[axis]
        spline = make_interp_spline(known(n), field, k=3, axis=axis)  # its default ends are not-a-knot
        field = spline(wanted(n), extrapolate=True)
    return field


def _directly(a):
    """The published recipe, equation by equation: one row of the matrix for each node, u = 0 on the walls."""
    ny, nx = a.shape

    def centres(n):
        return (np.arange(n) + 0.5) / n

    def nodes(n):
        return np.arange(n) / (n - 1)

    b = _resampled(a, centres, nodes)
    matrix = sparse.lil_array((ny * nx, ny * nx))
    f = np.ones(ny * nx)
    for j in range(ny):
        for i in range(nx):
            row = j * nx + i
            if i in (0, nx - 1) or j in (0, ny - 1):
                matrix[row, row], f[row] = 1, 0
                continue
            for dj, di, scale in ((0, 1, nx - 1), (0, -1, nx - 1), (1, 0, ny - 1), (-1, 0, ny - 1)):
                k = (b[j, i] + b[j + dj, i + di]) / 2 * scale**2
                matrix[row, row] += k
                if 0 < j + dj < ny - 1 and 0 < i + di < nx - 1:
                    matrix[row, (j + dj) * nx + i + di] -= k
    v = spsolve(matrix.tocsc(), f).reshape(ny, nx)
    return _resampled(v, nodes, centres)


@pytest.mark.parametrize("shape", [(4, 4), (24, 37), (64, 64)])
def test_equals_an_independent_implementation(shape):
    """Two-phase fields, square and not: 1e-12 of the largest u. Two stable eliminations of a system of condition number
    κ differ by about κ·1e-16, and κ is 1e4 here; measured: up to 1e-14."""
    a = _two_phase(shape, 3)
    u = PublishedDarcy(shape).solve(a).numpy()
    for k in range(3):
        expected = _directly(a[k].numpy())
        np.testing.assert_allclose(u[k], expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_converges_to_the_solution_where_a_is_smooth():
    """Its difference to our finite volumes, which converge with order 2, falls with order 2 as well: each doubling of
    the cells divides it by 4 (± 10 %), down to 3e-4 of u at 128²."""
    errors = []
    for n in (32, 64, 128):
        u = PublishedDarcy((n, n)).solve(_smooth(n))
        errors.append(float((u - Darcy(Grid((n, n)), source=1.0).solve(_smooth(n))).norm() / u.norm()))
    ratios = np.divide(errors[:-1], errors[1:])
    assert errors[-1] < 4e-4
    np.testing.assert_allclose(ratios, 4, rtol=0.1)


def test_a_polynomial_is_reproduced():
    """A not-a-knot spline is exact for cubics, beyond the ends too: at the nodes a = 1 + x³y² is itself."""
    x, y = (torch.from_numpy(c) for c in Grid((12, 9)).mesh())
    b = PublishedDarcy((12, 9)).nodes(1 + x**3 * y**2)
    x, y = torch.linspace(0, 1, 9, dtype=torch.float64), torch.linspace(0, 1, 12, dtype=torch.float64)[:, None]
    torch.testing.assert_close(b, 1 + x**3 * y**2, rtol=1e-13, atol=0)


def test_faces_overshoot_as_known():
    """Between 3 and 12, face coefficients of 40 draws at 128² reach down to between −4 and −7 and up to 19 to 24 (the
    extremes of other 40 draws), and half of the draws have one that is not positive (0.55 ± 0.08)."""
    k_x, k_y = PublishedDarcy((128, 128)).faces(_two_phase((128, 128), 40))
    low = torch.minimum(k_x.amin((-2, -1)), k_y.amin((-2, -1)))
    high = max(float(k_x.max()), float(k_y.max()))
    assert -9 < float(low.min()) < -3
    assert 17 < high < 26
    assert 0.3 < float((low <= 0).double().mean()) < 0.8


@pytest.mark.parametrize(("n", "draws", "expected"), [(64, 24, 0.0131), (128, 12, 0.0082)])
def test_distance_to_finite_volumes_is_as_known(n, draws, expected):
    """Mean relative difference in u: 1.31 % at 64² (100 draws) and 0.82 % at 128² (30 draws). From draw to draw it
    scatters by 40 % of itself, so that the mean of 12 is within 30 % (2.5 standard errors) of the mean of many."""
    a = _two_phase((n, n), draws)
    u, v = PublishedDarcy((n, n)).solve(a), Darcy(Grid((n, n)), source=1.0).solve(a)
    difference = (u - v).norm(dim=(-2, -1)) / v.norm(dim=(-2, -1))
    assert float(difference.mean()) == pytest.approx(expected, rel=0.3)


def test_batches_types_and_scaling():
    """Any leading axes, the type of a, and u linear in f and in 1/a."""
    a = _two_phase((16, 16), 4)
    solver = PublishedDarcy((16, 16))
    u = solver.solve(a)
    assert torch.equal(solver.solve(a.view(2, 2, 16, 16)), u.view(2, 2, 16, 16))
    assert torch.equal(solver.solve(a[1]), u[1])
    assert solver.solve(a.float()).dtype == torch.float32
    torch.testing.assert_close(solver.solve(a.float()), u.float())
    torch.testing.assert_close(PublishedDarcy((16, 16), source=-3.0).solve(2 * a), -1.5 * u)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: PublishedDarcy((3, 8)), InputError, "at least 4 × 4"),
        (lambda: PublishedDarcy((8, 8), source=np.inf), InputError, "finite"),
        (lambda: PublishedDarcy((8, 8)).solve(torch.ones(8, 9)), InputError, "does not fit"),
        (lambda: PublishedDarcy((8, 8)).solve(torch.full((8, 8), torch.nan)), InputError, "finite"),
        (lambda: PublishedDarcy((8, 8)).solve(torch.zeros(8, 8)), ConvergenceError, "singular"),
    ],
)
def test_wrong_input(make, error, message):
    """Too few cells, another shape, numbers that are none, and an operator that has no inverse."""
    with pytest.raises(error, match=message):
        make()
