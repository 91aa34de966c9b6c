"""Fast transforms against dense linear algebra."""

import itertools

import pytest
import torch

from pdediff.solvers import transforms
from pdediff.solvers.grid import Grid
from pdediff.solvers.transforms import FastPoisson, SineCosineBasis

ENDS = list(itertools.product((True, False), repeat=2))
ALL_ENDS = list(itertools.product(ENDS, repeat=2))


def laplacian(n, h, value_low, value_high):
    """The tridiagonal matrix of −d²/dx² on n cells."""
    matrix = 2 * torch.eye(n, dtype=torch.float64)
    matrix -= torch.diag(torch.ones(n - 1, dtype=torch.float64), 1) + torch.diag(torch.ones(n - 1).double(), -1)
    matrix[0, 0], matrix[-1, -1] = (3 if end else 1 for end in (value_low, value_high))
    return matrix / h**2


@pytest.mark.parametrize(("low", "high"), ENDS)
@pytest.mark.parametrize("n", [2, 5, 8])
def test_basis_diagonalises_the_laplacian(n, low, high):
    """V is orthonormal and L V = V Λ, for every pair of ends, odd and even n."""
    basis = SineCosineBasis(n, 0.3, low, high, torch.float64)
    v = basis.inverse(torch.eye(n, dtype=torch.float64)).mT  # [cell, mode]
    torch.testing.assert_close(v.mT @ v, torch.eye(n, dtype=torch.float64))
    torch.testing.assert_close(laplacian(n, 0.3, low, high) @ v, v * basis.eigenvalues)


@pytest.mark.parametrize(("low", "high"), ENDS)
def test_fft_and_matrix_agree(low, high):
    """Both ways to apply the basis give the same, forwards and back."""
    x = torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    dense, fast = (SineCosineBasis(7, 0.1, low, high, torch.float64, dense=dense) for dense in (True, False))
    torch.testing.assert_close(fast.forward(x), dense.forward(x))
    torch.testing.assert_close(fast.inverse(x), dense.inverse(x))
    torch.testing.assert_close(fast.inverse(fast.forward(x)), x)


@pytest.mark.parametrize("way", ["matrices", "folded matrices", "transforms"])
@pytest.mark.parametrize("shape", [(4, 6), (5, 3), (8, 8)])
@pytest.mark.parametrize(("x_ends", "y_ends"), ALL_ENDS)
def test_poisson_inverts_the_anisotropic_operator(x_ends, y_ends, shape, way, monkeypatch):
    """solve() is the inverse of kx L_x + ky L_y; with fluxes all round, on fields of zero mean."""
    ny, nx = shape
    grid = Grid(shape, x=(0.0, 2.0))
    monkeypatch.setattr(transforms, "FOLD_FROM", 2 if way == "folded matrices" else 100)
    poisson = FastPoisson(grid, (*x_ends, *y_ends), torch.float64, dense=way != "transforms")
    k_x, k_y = torch.tensor([1.0, 3.0]).view(2, 1, 1).double(), torch.tensor([2.0, 0.5]).view(2, 1, 1).double()
    f = torch.randn(2, ny, nx, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if not any((*x_ends, *y_ends)):
        f = f - f.mean((-2, -1), keepdim=True)
    u = poisson.solve(f, poisson.inverse_eigenvalues(k_x, k_y))
    back = k_x * (u @ laplacian(nx, grid.dx, *x_ends)) + k_y * (laplacian(ny, grid.dy, *y_ends) @ u)
    torch.testing.assert_close(back, f)
