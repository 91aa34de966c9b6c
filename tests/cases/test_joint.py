"""Joint priors, physics and equation must go together: each mismatch is one line that names the key."""

import pytest

from pdediff.cases.load import load_case
from pdediff.cases.method import build_method
from pdediff.cases.problem import build_problem
from pdediff.likelihoods.prior_only import PriorOnly
from pdediff.likelihoods.residual import ResidualPhysics
from pdediff.likelihoods.solver import SolverPhysics
from pdediff.solvers.errors import InputError
from pdediff.training.recipe import Recipe
from pdediff.training.train import train

CASE = """
pde: darcy
grid: {shape: [16, 16]}
source: {value: 2}
prior: {weights: joint.safetensors}
observations:
  truth: {seed: 1}
  sensors: {field: u, count: 5}
  noise: {sigma: 0.01}
physics: residual
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a joint prior of 16 × 16 cells, f = 2 and u = 0, hardly trained, and one of a alone."""
    folder = tmp_path_factory.mktemp("joint")
    law = {"name": "two-phase", "shape": [16, 16]}
    network = {"patch": 2, "widths": [8, 16], "blocks": 1}
    for name, solution in (("joint", {"source": 2.0}), ("alone", None)):
        recipe = Recipe(law=law, solution=solution, network=network, training={"steps": 2, "batch": 2})
        train(recipe, name, folder / "checkpoint" / name, folder)
    return folder


def load(folder, *overrides, text=CASE):
    path = folder / "case.yaml"
    path.write_text(text)
    return load_case(path, overrides)


@pytest.mark.parametrize(
    ("physics", "kind"), [("residual", ResidualPhysics), ("none", PriorOnly), ("solver", SolverPhysics)]
)
def test_every_physics_takes_a_joint_prior(folder, physics, kind):
    """Each kind is built, with a and u in the prior, and a sigma relative to the source for the residual."""
    problem = build_problem(load(folder, f"physics={physics}"))
    assert type(problem.physics) is kind
    assert problem.physics.space.fields == ("a", "u")
    if physics == "residual":
        assert problem.physics.sigma == pytest.approx(0.25 * 2)


def test_sigma_of_the_residual(folder):
    """An absolute sigma is taken as it is."""
    assert build_problem(load(folder, "physics={kind: residual, sigma: 0.3}")).physics.sigma == 0.3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["prior={weights: alone.safetensors}"], "physics: residual needs a joint prior of a and u"),
        (["boundary.left={flux: 0}"], "boundary.left: prior 'joint' was trained with u = 0 on every side"),
        (["boundary.top={value: x}"], "boundary.top: prior 'joint' was trained with u = 0 on every side"),
        (["source.value=3"], "source: prior 'joint' was trained with a source of 2 everywhere and no wells"),
        (["source.wells=[{x: 0.5, y: 0.5, rate: 1}]"], "source: prior 'joint' was trained with a source of 2"),
        (["grid.domain={x: [0, 2]}"], "grid.domain.x: prior 'joint' was trained with solutions on a unit square"),
        (["physics={kind: residual, form: strong}"], "physics.form: the strong form needs a smooth coefficient"),
        (["physics={kind: solver, sigma: 1}"], "only the residual has a sigma"),
        (["physics={kind: residual, sigma: 1, relative: 1}"], "give sigma or relative, not both"),
        (["physics={kind: residual, points: 10}"], "only the strong form has points"),
        (["guidance={zeta: 1}"], "only method dps has a zeta"),
        (["guidance={method: dps, step: sigma, zeta: 1}"], "has no zeta"),
        (["guidance={method: dps, sampler: heun, eta: 1}"], "deterministic and has no eta"),
    ],
)
def test_mismatches(folder, overrides, message):
    """What does not fit is refused, and says what would."""
    with pytest.raises(InputError, match=message):
        load(folder, *overrides)


def test_a_shifted_unit_square_fits(folder):
    """Only differences of positions are in the equation."""
    assert load(folder, "grid.domain={x: [3, 4]}").grid.build().x == (3, 4)


def test_methods_of_a_case(folder):
    """The levels of an accuracy, the evaluations of a sampler, and the defaults of dps."""
    case = load(folder, "guidance={method: dps, accuracy: fast}")
    assert (case.guidance.step, case.guidance.zeta, case.guidance.sampler, case.guidance.eta) == (
        "normalised", 0.01, "ddim", 1.0,
    )  # fmt: skip
    problem = build_problem(case)
    assert build_method(case, problem).evaluations == 100
    case = load(folder, "guidance={method: dps, accuracy: fast, sampler: heun}")
    assert build_method(case, problem).evaluations == 199
    assert build_method(load(folder), problem).evaluations == 80
