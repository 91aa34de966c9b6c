"""Darcy flow against exact solutions, an independent finite-element code and conservation."""

import numpy as np
import pytest
import torch

from pdediff.solvers.boundary import Boundary, Flux, Value
from pdediff.solvers.darcy import Darcy, Well, solve
from pdediff.solvers.errors import ConvergenceError, InputError
from pdediff.solvers.expressions import Expression
from pdediff.solvers.grid import Grid

NO_FLOW = {side: Flux(0.0) for side in ("left", "right", "bottom", "top")}
U = "sin(2*x) * cos(3*y)"
U_X, U_Y = "2*cos(2*x)*cos(3*y)", "(-3)*sin(2*x)*sin(3*y)"


def field(grid, text):
    """An expression at the cell centres, as a tensor."""
    return torch.from_numpy(Expression(text)(*grid.mesh()))


def rough(shape, spread, batch=1, seed=0, dtype=torch.float64):
    """exp(spread × white noise), in a batch."""
    noise = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (spread * noise).exp().to(dtype)


def fitted_order(widths, errors):
    """Slope of log error over log width."""
    return np.polyfit(np.log(widths), np.log(errors), 1)[0]


@pytest.mark.parametrize("values", ["left right bottom top", "left top", "bottom", "right bottom top", "left right"])
@pytest.mark.parametrize("anisotropic", [False, True])
def test_manufactured_solutions_converge_at_second_order(values, anisotropic):
    """u = sin(2x) cos(3y) on [0, 1] × [0, 0.8], a_x = e^{xy}, a_y = a_x or 1 + x²/2; values or fluxes on walls."""
    a_x, a_y, a_y_y = "exp(x*y)", "(1 + x**2/2)" if anisotropic else "exp(x*y)", "0" if anisotropic else "x*exp(x*y)"
    f = f"-(y*exp(x*y)*{U_X} - 4*{a_x}*{U} + {a_y_y}*{U_Y} - 9*{a_y}*{U})"
    inflow = {"left": f"-{a_x}*{U_X}", "right": f"{a_x}*{U_X}", "bottom": f"-{a_y}*{U_Y}", "top": f"{a_y}*{U_Y}"}
    boundary = Boundary(**{side: Value(U) if side in values else Flux(inflow[side]) for side in inflow})
    widths, errors = [], []
    for n in (12, 24, 48):
        grid = Grid((n, n + n // 3), y=(0.0, 0.8))
        a = torch.stack((field(grid, a_x), field(grid, a_y))) if anisotropic else field(grid, a_x)
        u = Darcy(grid, boundary, source=f, anisotropic=anisotropic).solve(a)
        widths.append(grid.dy)
        errors.append(float((u - field(grid, U)).square().mean().sqrt()))
    assert fitted_order(widths, errors) >= 1.9
    assert errors[-1] < 1e-3


def test_all_flux_walls_give_the_solution_of_mean_zero():
    """u = cos(πx) cos(πy), a = 1 + cos(2πx)/2: impermeable walls, sources that balance; second order, mean 0."""
    f = "pi**2*cos(pi*y)*(2*(1 + cos(2*pi*x)/2)*cos(pi*x) - sin(2*pi*x)*sin(pi*x))"
    widths, errors = [], []
    for n in (16, 32, 64):
        grid = Grid((n, n))
        u = Darcy(grid, Boundary(**NO_FLOW), source=f).solve(field(grid, "1 + cos(2*pi*x)/2"))
        assert abs(float(u.mean())) < 1e-14
        widths.append(grid.dx)
        errors.append(float((u - field(grid, "cos(pi*x)*cos(pi*y)")).square().mean().sqrt()))
    assert fitted_order(widths, errors) >= 1.9


def test_agrees_with_finite_elements():
    """Quadratic finite elements (scikit-fem) for a = e^{sin 3x + y}, f = 1, u = 0: the difference falls as h²."""
    skfem = pytest.importorskip("skfem")
    from skfem.helpers import dot, grad

    mesh = skfem.MeshQuad.init_tensor(np.linspace(0, 1, 33), np.linspace(0, 1, 33))
    basis = skfem.Basis(mesh, skfem.ElementQuad2(), intorder=6)
    stiffness = skfem.BilinearForm(
        lambda u, v, w: np.exp(np.sin(3 * w.x[0]) + w.x[1]) * dot(grad(u), grad(v))
    ).assemble(basis)
    load = skfem.LinearForm(lambda v, w: v).assemble(basis)
    fem = skfem.solve(*skfem.condense(stiffness, load, D=basis.get_dofs()))
    widths, errors = [], []
    for n in (16, 32, 64):
        grid = Grid((n, n))
        x, y = grid.mesh()
        expected = basis.probes(np.stack((x.ravel(), y.ravel()))) @ fem
        u = solve(field(grid, "exp(sin(3*x) + y)"), grid, source=1.0).numpy().ravel()
        widths.append(grid.dx)
        errors.append(np.linalg.norm(u - expected) / np.linalg.norm(expected))
    assert fitted_order(widths, errors) >= 1.9
    assert errors[-1] < 5e-4


@pytest.mark.parametrize("backend", ["cg", "lu"])
def test_layers_have_exact_fluxes(backend):
    """u from 1 to 0 across layers of a = 1 … 1000: in series q = 1/Σ(h/a), in parallel q = a of each layer. Exactly."""
    layers = torch.tensor([1.0, 1000.0, 3.0, 0.1, 50.0, 1.0, 7.0, 0.01], dtype=torch.float64)
    darcy = Darcy(Grid((4, 8)), Boundary(left=Value(1), bottom=Flux(0), top=Flux(0)), backend=backend, rtol=1e-12)
    series = layers.expand(4, 8)
    q_x, q_y = darcy.fluxes(series, darcy.solve(series))
    torch.testing.assert_close(q_x, (8 / (1 / layers).sum()).expand(4, 9), rtol=1e-8, atol=0)
    assert q_y.abs().max() < 1e-9
    parallel = layers[:, None].expand(8, 4)
    darcy = Darcy(Grid((8, 4)), Boundary(left=Value(1), bottom=Flux(0), top=Flux(0)), backend=backend, rtol=1e-12)
    q_x, _ = darcy.fluxes(parallel, darcy.solve(parallel))
    torch.testing.assert_close(q_x, layers[:, None].expand(8, 5), rtol=1e-8, atol=0)


def test_wells_and_inflow_are_conserved_to_round_off():
    """Sources, two wells, an inflow and rough a: what leaves the walls is what came in, and so in every cell."""
    grid = Grid((20, 24), x=(0.0, 3.0))
    boundary = Boundary(left=Value("y"), right=Flux(0.4), bottom=Flux("x"), top=Value(1.0))
    darcy = Darcy(grid, boundary, source="x*y", wells=[Well(1.0, 0.5, 2.0), Well(2.0, 0.2, -1.0)], rtol=1e-13)
    a = rough(grid.shape, 1.0, batch=3)
    u = darcy.solve(a)
    assert darcy.mass_balance(a, u).abs().max() < 1e-11
    assert darcy.relative_residual(a, u).max() < 2e-13
    torch.testing.assert_close(darcy.fluxes(a, u).x[..., -1], torch.full((3, 20), -0.4, dtype=torch.float64))
    torch.testing.assert_close(darcy.fluxes(a, u).y[..., 0, :], field(grid, "x")[0].expand(3, 24))


def test_a_well_has_its_rate_through_any_loop_around_it():
    """One well of rate 2 and no other source: the net flux out of a box around it is 2, out of a box beside it 0."""
    darcy = Darcy(Grid((16, 16)), wells=[Well(0.3, 0.3, 2.0)], rtol=1e-13)
    a = rough((16, 16), 1.0)[0]
    q_x, q_y = darcy.fluxes(a, darcy.solve(a))

    def outflow(j0, j1, i0, i1):
        net = (q_x[j0:j1, i1] - q_x[j0:j1, i0]).sum() + (q_y[j1, i0:i1] - q_y[j0, i0:i1]).sum()
        return float(net) / 16

    assert outflow(2, 7, 3, 8) == pytest.approx(2.0, abs=1e-10)
    assert outflow(8, 14, 3, 8) == pytest.approx(0.0, abs=1e-10)


def test_residual_vanishes_on_the_solution_only():
    """A u − b is zero to rounding at u; at u + e it is A e, symmetric and positive."""
    darcy = Darcy(Grid((9, 7)), Boundary(top=Value(2.0), left=Flux(1.0)), source=1.0, rtol=1e-13)
    a = rough((9, 7), 1.0)[0]
    u = darcy.solve(a)
    assert darcy.residual(a, u).abs().max() < 1e-9
    e, v = rough((2, 9, 7), 1.0)[0]
    a_e, a_v = (darcy.residual(a, u + w) - darcy.residual(a, u) for w in (e, v))
    assert float((a_e * v).sum()) == pytest.approx(float((a_v * e).sum()), rel=1e-9)
    assert float((a_e * e).sum()) > 0


def test_rotations_and_reflections_commute_with_the_solver():
    """The problem turned by 90° has the turned solution: x and y are treated alike."""
    a = rough((12, 12), 1.0)[0]
    upright = Darcy(Grid((12, 12)), Boundary(left=Value("y"), top=Flux(0.5)), source="x")
    turned = Darcy(Grid((12, 12)), Boundary(bottom=Value("x"), right=Flux(0.5)), source="y")
    torch.testing.assert_close(turned.solve(a.mT), upright.solve(a).mT, rtol=1e-7, atol=1e-10)


def test_isotropic_and_anisotropic_agree_where_they_should():
    """a_x = a_y = a is the scalar problem; stretching x by 2 is a_x/4."""
    a = rough((10, 8), 0.5)[0]
    scalar = Darcy(Grid((10, 8)), source=1.0)
    tensor = Darcy(Grid((10, 8)), source=1.0, anisotropic=True)
    torch.testing.assert_close(tensor.solve(torch.stack((a, a))), scalar.solve(a), rtol=1e-7, atol=1e-12)
    stretched = Darcy(Grid((10, 8), x=(0.0, 2.0)), source=1.0)
    torch.testing.assert_close(tensor.solve(torch.stack((a / 4, a))), stretched.solve(a), rtol=1e-7, atol=1e-12)


def test_samples_do_not_see_their_batch():
    """A sample alone and among others, easy and hard, is the same to the tolerance; leading axes are kept."""
    a = torch.cat((rough((16, 16), 0.1), rough((16, 16), 1.5, 3), torch.ones(2, 16, 16, dtype=torch.float64)))
    darcy = Darcy(Grid((16, 16)), source=1.0, backend="cg", rtol=1e-10)
    together = darcy.solve(a.view(2, 3, 16, 16))
    assert together.shape == (2, 3, 16, 16)
    alone = torch.stack([darcy.solve(sample) for sample in a])
    torch.testing.assert_close(together.view(6, 16, 16), alone, rtol=1e-8, atol=1e-12)
    assert darcy.solves == 12


def test_zero_data_gives_exactly_zero():
    """No source, zero walls: u = 0 and its gradient is 0, not 0/0; also beside a sample that is not zero."""
    for backend in ("cg", "lu"):
        darcy = Darcy(Grid((6, 6)), backend=backend)
        a = rough((6, 6), 1.0, 2).requires_grad_()
        u = darcy.solve(a)
        assert torch.equal(u, torch.zeros_like(u))
        (gradient,) = torch.autograd.grad(u.sum(), a)
        assert torch.equal(gradient, torch.zeros_like(a))
        adjoint = darcy.linearise(a).adjoint_state(torch.stack((torch.zeros(6, 6), torch.ones(6, 6))))
        assert torch.equal(adjoint[0], torch.zeros(6, 6, dtype=torch.float64))
        assert adjoint[1].min() > 0


def test_a_near_start_saves_iterations():
    """Starting from the solution for a coefficient 1 % away takes fewer iterations to the same solution."""
    a = rough((32, 32), 0.5)[0]
    darcy = Darcy(Grid((32, 32)), source=1.0, backend="cg")
    u = darcy.solve(a)
    cold, darcy.iterations = darcy.iterations, 0
    near = darcy.solve(a, u0=darcy.solve(a * rough((32, 32), 0.01, seed=1)[0], rtol=1e-12), rtol=1e-4)
    darcy.iterations = 0
    warm = darcy.solve(a, u0=near)
    assert darcy.iterations < cold
    torch.testing.assert_close(warm, u, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "amg"}, "unknown solver backend 'amg'"),
        ({"rtol": 0.0}, "rtol must be between 0 and 1"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"source": np.ones((3, 3))}, "source has shape"),
        ({"boundary": Boundary(left=Value([1.0]))}, "left has 1 numbers"),
        ({"boundary": Boundary(**NO_FLOW), "source": 1.0}, "no steady state"),
        ({"wells": [Well(2.0, 0.5, 1.0)]}, "outside the domain"),
    ],
)
def test_wrong_problems_are_refused(arguments, message):
    """A wrong problem is refused when it is stated, not when it is solved."""
    with pytest.raises(InputError, match=message):
        Darcy(Grid((4, 5)), **arguments)


def test_wrong_coefficients_are_refused():
    """Not positive, not finite, of another shape or type: an InputError with the count and the first index."""
    darcy = Darcy(Grid((4, 5)), source=1.0)
    a = torch.ones(2, 4, 5, dtype=torch.float64)
    for wrong in (0.0, -1.0, torch.nan, torch.inf):
        bad = a.clone()
        bad[1, 2, 3] = bad[1, 3, 0] = wrong
        with pytest.raises(
            InputError, match=r"positive and finite: 2 of 40 numbers are not, the first at index \[1, 2, 3\]"
        ):
            darcy.solve(bad)
    with pytest.raises(InputError, match=r"must end in \(4, 5\)"):
        darcy.solve(a.mT)
    with pytest.raises(InputError, match=r"must end in \(2, 4, 5\)"):
        Darcy(Grid((4, 5)), anisotropic=True).linearise(torch.ones(3, 4, 5))
    with pytest.raises(InputError, match="float32 or float64"):
        darcy.solve(torch.ones(4, 5, dtype=torch.int64))


def test_a_solve_that_does_not_converge_is_an_error():
    """Three iterations are too few: the error names the residual, the iterations and the contrast, and what to do."""
    a = rough((24, 24), 2.0, 2)
    with pytest.raises(
        ConvergenceError, match=r"2 of 2 samples: .* after 3 CG iterations, .* contrast .* backend='auto'"
    ):
        Darcy(Grid((24, 24)), source=1.0, backend="cg", max_iterations=3).solve(a)
    mild = rough((24, 24), 0.5, 2)
    u = Darcy(Grid((24, 24)), source=1.0, max_iterations=3).solve(mild)  # LU takes over
    torch.testing.assert_close(u, Darcy(Grid((24, 24)), source=1.0, backend="lu").solve(mild))
