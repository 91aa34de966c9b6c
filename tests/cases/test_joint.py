"""Joint priors, physics and equation must go together: each mismatch is one line that names the key."""

import pytest
import torch

from pdediff.cases.load import load_case
from pdediff.cases.method import build_method
from pdediff.cases.problem import build_problem
from pdediff.likelihoods.collocation import CollocationPhysics
from pdediff.likelihoods.prior_only import PriorOnly
from pdediff.likelihoods.residual import ResidualPhysics
from pdediff.likelihoods.solver import SolverPhysics
from pdediff.noise import Generators
from pdediff.solvers.errors import ConvergenceError, InputError
from pdediff.studies.run import run
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


PRODUCT = (
    "{a: {law: log-normal, variogram: {range: 0.3}}, "
    "u: {law: gaussian, mean: 0.5, variogram: {kind: squared-exponential, range: 0.3}}}"
)


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
        (["source.value=3"], "source: prior 'joint' was trained with a source of 2 everywhere; use a prior of a alone"),
        (["source.wells=[{x: 0.5, y: 0.5, rate: 1}]"], "source.wells: prior 'joint' was trained with no wells"),
        (["grid.domain={x: [0, 2]}"], "grid.domain.x: prior 'joint' was trained with solutions on a unit square"),
        (["physics={kind: residual, form: strong}"], "physics.form: the strong form needs a smooth coefficient"),
        (["physics={kind: residual, seed: 1}"], "only the strong form has points"),
        (
            ["source=null", "boundary.left.value=1", "prior={law: log-normal, variogram: {range: 1}}"],
            "needs a joint prior",
        ),
        ([f"prior={PRODUCT}", "source.value=0"], "no source, wells apart, to be relative to; give physics.sigma"),
        ([f"prior={PRODUCT.replace('0.5', 'log(x - 2)')}"], "prior.u.mean: expression .* is not finite"),
        (
            [f"prior={PRODUCT}", "physics={kind: residual, form: strong}", "grid.shape=[6, 8]"],
            "grid.shape: .* cells away from its walls",
        ),
        (
            [f"prior={PRODUCT}", "physics={kind: residual, form: strong}", "source.wells=[{x: 0.5, y: 0.5, rate: 1}]"],
            "source.wells: the strong form has no value at a well",
        ),
        (["physics={kind: solver, sigma: 1}"], "only the residual has a sigma"),
        (["physics={kind: residual, sigma: 1, relative: 1}"], "give sigma or relative, not both"),
        (["physics={kind: residual, points: 10}"], "only the strong form has points"),
        (["guidance={zeta: 1}"], "method 'proximal' has no zeta; methods that have: dps"),
        (["guidance={covariance: jacobian}"], "guidance.covariance: the Jacobian is of a and u as the prior has them"),
        (
            ["guidance={method: dps, covariance: jacobian}"],
            "method 'dps' has no covariance; methods that have: proximal",
        ),
        (["guidance={method: dps, step: sigma, zeta: 1}"], "has no zeta"),
        (["guidance={method: dps, sampler: heun, eta: 1}"], "only the sampler ddim has an eta; sampler is 'heun'"),
    ],
)
def test_mismatches(folder, overrides, message):
    """What does not fit is refused, and says what would."""
    with pytest.raises(InputError, match=message):
        load(folder, *overrides)


def test_the_strong_form_has_its_own_seed(folder):
    """Its points, and so the posterior, depend on the seed of the physics and not on that of the sampler."""
    strong = [f"prior={PRODUCT}", "physics={kind: residual, form: strong, points: 7}"]
    first, other, moved = (
        build_problem(load(folder, *strong, *more)).physics
        for more in ([], ["sampling.seed=9"], ["physics={kind: residual, form: strong, points: 7, seed: 9}"])
    )
    assert isinstance(first, CollocationPhysics)
    assert first.residual.points.tolist() == other.residual.points.tolist()
    assert first.residual.points.tolist() != moved.residual.points.tolist()


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
    jacobian = load(folder, "physics=none", "guidance={covariance: jacobian}")
    annealing = build_method(jacobian, build_problem(jacobian)).annealing
    assert (annealing.covariance, annealing.perturb, annealing.churn) == ("jacobian", False, 1.0)


def test_diffusion_posterior_sampling_of_a_case(tmp_path):
    """The whole way with dps: log-normal heads met to within a few sigma, with exact physics, in 100 levels.

    chi² is 0.9 with 0.01, the default ζ; nothing holds it at 1.
    """
    text = CASE.replace("{weights: joint.safetensors}", "{law: log-normal, variogram: {range: 0.4}}")
    options = ["physics=solver", "sampling.samples=4", "observations.noise.sigma=0.005", "grid.shape=[12, 12]"]
    case = load(tmp_path, *options, "guidance={method: dps, accuracy: fast}", text=text)
    entry = run(case, tmp_path / "out").metrics["variants"]["run"]
    assert 0.05 < entry["observations"]["chi2"] < 5
    assert entry["pde"]["relative_residual"] < 1e-9
    assert entry["cost"]["network_evaluations"] == 100


def test_a_sampler_that_diverges_says_so(tmp_path):
    """dps with a step far too long: an error that names the remedy, no traceback of what comes after, and no result."""
    text = CASE.replace("{weights: joint.safetensors}", "{law: log-normal, variogram: {range: 0.4}}")
    options = ["physics=solver", "sampling.samples=2", "observations.noise.sigma=0.0005", "grid.shape=[12, 12]"]
    case = load(tmp_path, *options, "guidance={method: dps, accuracy: fast, step: sigma}", text=text)
    with pytest.raises(ConvergenceError, match=r"samples|astray"):
        run(case, tmp_path / "out")
    assert not (tmp_path / "out" / "posterior.nc").exists()


def test_the_jacobian_ties_what_the_measured_law_does_not(folder):
    """physics none with the denoiser's Jacobian runs through a network of two channels and gives finite fields."""
    options = ["physics=none", "guidance={covariance: jacobian, accuracy: fast}", "sampling.samples=2"]
    case = load(folder, *options)
    problem = build_problem(case)
    with torch.no_grad():
        z = build_method(case, problem)(Generators(1, range(2)), lambda level, count: None)
    assert z.shape == (2, 2 * 16 * 16)
    assert bool(z.isfinite().all())
