"""Every physics: derivative, transpose, unknowns and completion, on a problem with all kinds of walls and a well.

Two priors: one grid for both fields (as a network has it), and parts of different shapes (a product with a torus).
"""

import pytest
import torch

from pdediff.denoisers.base import BlockErrorLaw, WhiteErrorLaw
from pdediff.likelihoods.prior_only import PriorOnly
from pdediff.likelihoods.residual import ResidualPhysics
from pdediff.likelihoods.solver import SolverPhysics
from pdediff.parametrisations import Affine, LogNormal, Shifted, TwoPhase
from pdediff.solvers.boundary import Boundary, Flux, Value
from pdediff.solvers.darcy import Darcy, Well
from pdediff.solvers.grid import Grid
from pdediff.spaces import FunctionSpace, ProductSpace

GRID = Grid((6, 8), x=(0.0, 2.0))
MIXED = Boundary(left=Value("y"), right=Flux(0.3), bottom=Flux("x"), top=Value(1.0))
SIGMA = 0.7
TORUS_A, TORUS_U = (12, 18), (9, 16)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PRIORS = {
    "one grid": (FunctionSpace(("a", "u"), GRID.shape), TwoPhase(3.0, 12.0), Affine(0.5, 0.2)),
    "u first, on tori": (
        ProductSpace((FunctionSpace(("u",), TORUS_U), FunctionSpace(("a",), TORUS_A))),
        LogNormal(0.5, GRID.shape, TORUS_A),
        Shifted(normal(*GRID.shape, seed=9), TORUS_U),
    ),
}
KINDS = {"solver": SolverPhysics, "residual": ResidualPhysics, "none": PriorOnly}


def darcy():
    return Darcy(GRID, MIXED, source="1 + x", wells=[Well(0.7, 0.4, 0.5)], rtol=1e-13)


def build(kind, prior, **options):
    space, parametrisation, solution = PRIORS[prior]
    if kind == "residual":
        options = {"sigma": SIGMA} | options
    return KINDS[kind](space, parametrisation, darcy(), solution, **options)


def law(physics):
    """Independent white laws of the fields, 0.3 of a and 0.9 of u."""
    deviation = {"a": 0.3, "u": 0.9}
    sizes = [physics.space.part(name).stop - physics.space.part(name).start for name in physics.space.fields]
    laws = [WhiteErrorLaw(deviation[name], size) for name, size in zip(physics.space.fields, sizes, strict=True)]
    return BlockErrorLaw(tuple(laws), tuple(sizes))


def unknowns(physics, batch=2, seed=0):
    """Some zeta, and a direction: x_0 and noise, restricted."""
    mean, restricted = physics.restrict(normal(batch, physics.space.dimension, seed=seed), law(physics))
    return mean + restricted.root(normal(batch, restricted.dimension, seed=seed + 1)), restricted


every_physics = pytest.mark.parametrize("kind", KINDS)
every_prior = pytest.mark.parametrize("prior", PRIORS)


@every_physics
@every_prior
def test_tangent_is_the_derivative(kind, prior):
    """Central differences of what sensors see, walls included, agree with the tangent to their h² (1e-7, relative)."""
    physics = build(kind, prior)
    zeta, _ = unknowns(physics)
    dzeta, h = normal(*zeta.shape, seed=5), 1e-5
    tangent = physics.linearise(zeta, 1e-13).tangent(dzeta)
    after, before = (physics.linearise(zeta + sign * h * dzeta, 1e-13).fields for sign in (1, -1))
    for name in ("a", "u"):
        difference = (after[name] - before[name]) / (2 * h)
        assert float((tangent[name] - difference).norm() / difference.norm()) < 1e-7


@every_physics
@every_prior
@pytest.mark.parametrize("names", [("a",), ("u",), ("a", "u")])
def test_adjoint_is_the_transpose(kind, prior, names):
    """⟨J dzeta, v⟩ = ⟨dzeta, Jᵀ v⟩ for each sample, with data on a, on u, and on both."""
    physics = build(kind, prior)
    zeta, _ = unknowns(physics)
    dzeta = normal(*zeta.shape, seed=5)
    v = {name: normal(2, GRID.ny + 2, GRID.nx + 2, seed=6 + i) for i, name in enumerate(names)}
    linear = physics.linearise(zeta, 1e-13)
    tangent = linear.tangent(dzeta)
    left = sum((tangent[name] * v[name]).sum((-2, -1)) for name in names)
    torch.testing.assert_close((linear.adjoint(v) * dzeta).sum(-1), left, rtol=1e-9, atol=1e-9)


@every_physics
@every_prior
def test_completion_has_the_fields_of_the_unknowns(kind, prior):
    """The x_0 that zeta stands for has the a and u that zeta was linearised at, framed by the walls."""
    physics = build(kind, prior)
    zeta, _ = unknowns(physics)
    x_0 = physics.complete(zeta)
    assert x_0.shape == (2, physics.space.dimension)
    expected, found = physics.linearise(zeta, 1e-13).fields, physics.observables(x_0)
    for name in ("a", "u"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-9)


@every_prior
def test_completion_of_an_exact_solve_solves(prior):
    """u goes back into x_0 to 1e-4, enough among noise, and is solved for anew in `fields`, to any tolerance."""
    physics = build("solver", prior)
    zeta, _ = unknowns(physics)
    x_0 = physics.complete(zeta)
    kept = physics.solution.field(physics.space.unflatten(x_0)["u"])
    assert float(physics.darcy.relative_residual(physics.coefficient(x_0), kept).max()) < 1.1e-4
    assert float(physics.darcy.relative_residual(**physics.fields(x_0, rtol=1e-12)).max()) < 1e-11


@every_prior
def test_residual_of_the_completion_is_the_unknown(prior):
    """With u = A(a)⁻¹ (b + r) the finite-volume residual is r, and log p is that of white noise, −½ Σ (r/sigma)²."""
    physics = build("residual", prior)
    zeta, _ = unknowns(physics)
    r = zeta[:, -GRID.ny * GRID.nx :]
    x_0 = physics.complete(zeta)
    torch.testing.assert_close(physics.darcy.residual(**physics.fields(x_0)).flatten(1), r, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(physics.log_prob(x_0), -0.5 * (r / SIGMA).square().sum(dim=1), rtol=1e-7, atol=1e-7)


@every_prior
def test_laws_of_the_unknowns(prior):
    """Exact: x_a under its own law. Residual: r is centred, of deviation sigma. None: all of x_0 under its law."""
    x_0 = {kind: normal(2, build(kind, prior).space.dimension) for kind in KINDS}
    physics = {kind: build(kind, prior) for kind in KINDS}
    restricted = {kind: physics[kind].restrict(x_0[kind], law(physics[kind])) for kind in KINDS}
    mean, of_a = restricted["solver"]
    assert torch.equal(mean, x_0["solver"][:, physics["solver"].space.part("a")])
    assert of_a == WhiteErrorLaw(0.3, mean.shape[1])
    mean, of_both = restricted["residual"]
    cells = GRID.ny * GRID.nx
    assert torch.equal(mean[:, -cells:], torch.zeros(2, cells, dtype=torch.float64))
    assert of_both.laws == (of_a, WhiteErrorLaw(SIGMA, cells))
    assert torch.equal(restricted["none"][0], x_0["none"])
    assert restricted["none"][1] == law(physics["none"])


@every_prior
def test_small_model_errors_are_an_exact_solve(prior):
    """As sigma_r → 0, draws of the residual's unknowns have the u of an exact solve: the difference falls with it."""
    differences = []
    for sigma in (1e-1, 1e-2, 1e-3):
        physics = build("residual", prior, sigma=sigma)
        zeta, _ = unknowns(physics)
        fields = physics.fields(physics.complete(zeta))
        exact = physics.darcy.solve(fields["a"])
        differences.append(float((fields["u"] - exact).norm()))
    assert differences[1] == pytest.approx(differences[0] / 10, rel=1e-3)
    assert differences[2] == pytest.approx(differences[0] / 100, rel=1e-3)


@every_physics
def test_bounds_hold_where_physics_is_evaluated(kind):
    """`clamp` brings x_a inside its bounds, and leaves what is inside and the residual alone."""
    space = PRIORS["one grid"][0]
    bounds = torch.full((space.dimension,), -1.0), torch.full((space.dimension,), 1.5)
    physics = build(kind, "one grid", bounds=bounds)
    zeta = 3 * unknowns(physics)[0]
    clamped, points = physics.clamp(zeta), space.points
    torch.testing.assert_close(clamped[:, :points], zeta[:, :points].clamp(-1.0, 1.5))
    if kind == "residual":
        assert torch.equal(clamped[:, points:], zeta[:, points:])


def test_a_joint_prior_is_needed():
    """Soft physics without a u in the prior is a mistake of the caller."""
    space = FunctionSpace(("a",), GRID.shape)
    physics = PriorOnly(space, TwoPhase(3.0, 12.0), darcy())
    with pytest.raises(ValueError, match="needs a joint prior"):
        physics.fields(normal(1, space.dimension))


def test_single_precision():
    """float32 in, float32 out, and within 1e-4 of float64."""
    for kind in KINDS:
        physics = build(kind, "one grid")
        zeta, _ = unknowns(physics)
        double, single = physics.linearise(zeta, 1e-10), physics.linearise(zeta.float(), 1e-6)
        dzeta = normal(*zeta.shape, seed=5)
        for found, expected in (
            (single.fields["u"], double.fields["u"]),
            (single.tangent(dzeta.float())["u"], double.tangent(dzeta)["u"]),
            (physics.complete(zeta.float()), physics.complete(zeta)),
        ):
            assert found.dtype == torch.float32
            assert float((found.double() - expected).norm() / expected.norm()) < 3e-4
