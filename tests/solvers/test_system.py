"""The linear solver over coefficients from mild to extreme."""

import math

import pytest
import torch

from pdediff.solvers.boundary import Boundary, Flux
from pdediff.solvers.darcy import Darcy
from pdediff.solvers.grid import Grid
from pdediff.solvers.system import scaling_exponent

GRID = Grid((32, 32))
WALLS = {
    "values": Boundary(),
    "one value": Boundary(right=Flux(0), bottom=Flux(0), top=Flux(0)),
    "fluxes": Boundary(left=Flux(1), right=Flux(-1), bottom=Flux(0), top=Flux(0)),
}


def noise(n, modes, batch=2, seed=0):
    """A random field of unit variance with so many cosine modes a side."""
    k = torch.arange(modes, dtype=torch.float64)
    waves = torch.cos(math.pi * k[:, None] * (torch.arange(n, dtype=torch.float64) + 0.5) / n)
    amplitude = 1 / (1 + k[:, None] ** 2 + k**2).sqrt()
    generator = torch.Generator().manual_seed(seed)
    field = waves.T @ (amplitude * torch.randn(batch, modes, modes, generator=generator, dtype=torch.float64)) @ waves
    return field / field.std((-2, -1), keepdim=True)


def checkers(n, size, contrast):
    """A chequerboard of ``size`` cells a square."""
    k = torch.arange(n) // size
    return torch.where((k[:, None] + k) % 2 == 0, contrast, 1.0).double().expand(1, n, n)


COEFFICIENTS = {
    "two phases, 4": torch.where(noise(32, 8) > 0, 12.0, 3.0).double(),
    "two phases, 1e6": torch.where(noise(32, 8) > 0, 1e6, 1.0).double(),
    "chequerboard, 1e6": checkers(32, 4, 1e6),
    "log-normal, 1": noise(32, 32).exp(),
    "log-normal, 2.5": (2.5 * noise(32, 32)).exp(),
    "constant": torch.ones(1, 32, 32, dtype=torch.float64),
}


@pytest.mark.parametrize("walls", WALLS)
@pytest.mark.parametrize("name", COEFFICIENTS)
def test_cg_agrees_with_lu(name, walls):
    """CG alone, to 1e-10 in float64, within 1e-7 of the direct solution, for contrasts up to 1e6 and beyond."""
    a, source = COEFFICIENTS[name], 0.0 if walls == "fluxes" else 1.0
    cg = Darcy(GRID, WALLS[walls], source=source, backend="cg").solve(a)
    lu = Darcy(GRID, WALLS[walls], source=source, backend="lu").solve(a)
    assert float((cg - lu).norm() / lu.norm()) < 1e-7


@pytest.mark.parametrize("backend", ["cg", "auto"])
@pytest.mark.parametrize("name", COEFFICIENTS)
def test_single_precision_is_accurate_at_any_contrast(name, backend):
    """float32 in, float32 out, and u within 1e-4 of the float64 solution even at contrast 1e6 (and above)."""
    a = COEFFICIENTS[name]
    exact = Darcy(GRID, WALLS["one value"], source=1.0, backend="lu").solve(a)
    u = Darcy(GRID, WALLS["one value"], source=1.0, backend=backend).solve(a.float())
    assert u.dtype == torch.float32
    assert float((u - exact).norm() / exact.norm()) < 1e-4


def test_tight_tolerances_are_reached():
    """rtol 1e-11 in float64 is met by the true residual, in the benchmark's own measure."""
    a = COEFFICIENTS["two phases, 4"]
    darcy = Darcy(GRID, source=1.0, rtol=1e-11, backend="cg")
    assert darcy.relative_residual(a, darcy.solve(a)).max() < 1.02e-11


def test_iterations_do_not_grow_with_the_grid():
    """Contrast 4 at rtol 1e-6 takes at most 18 iterations at 32² and at 96² alike."""
    for n in (32, 96):
        darcy = Darcy(Grid((n, n)), source=1.0, backend="cg", rtol=1e-6)
        darcy.solve(torch.where(noise(n, 6) > 0, 12.0, 3.0).double())
        assert darcy.iterations / darcy.solves <= 18


def test_constant_coefficients_take_one_iteration():
    """For a = 7 the preconditioner is the operator."""
    darcy = Darcy(GRID, source="x", backend="cg", rtol=1e-8)
    darcy.solve(torch.full((32, 32), 7.0, dtype=torch.float64))
    assert darcy.iterations == 1


def test_scaling_follows_the_kind_of_coefficient():
    """θ is 0 for two phases and for a constant, about 0.6 for log-normal a, between for a mixture."""
    two_phase, log_normal = torch.sign(noise(64, 8)), noise(64, 64)
    assert scaling_exponent(two_phase).abs().max() == 0
    assert scaling_exponent(torch.zeros(1, 8, 8)).item() == 0
    assert scaling_exponent(log_normal).min() > 0.5
    assert 0.05 < scaling_exponent(two_phase + 0.2 * log_normal).mean() < 0.55


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_right_hand_sides_of_any_size_are_solved(scale):
    """The solver is linear: a source of 1e±30 in float32 gives 1e±30 times the solution."""
    a = COEFFICIENTS["two phases, 4"].float()
    linearisation = Darcy(GRID, source=1.0).linearise(a)
    scaled = linearisation.adjoint_state(torch.full_like(a, scale)) / scale
    torch.testing.assert_close(scaled, linearisation.adjoint_state(torch.ones_like(a)), rtol=1e-5, atol=0)
