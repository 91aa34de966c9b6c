"""What does not go together is one located error that says what would."""

from pathlib import Path

import pytest

from pdediff.cases.guidance import OPTIONS
from pdediff.cases.load import load_case
from pdediff.solvers.errors import InputError

CASES = Path(__file__).parents[2] / "cases"
METHODS = CASES / "methods"
OPERATOR = "observations.sensors={field: a, operator: %s}"

WRONG = [
    ("methods/proximal", ["guidance.method=ddrn"], "guidance.method: unknown 'ddrn'; did you mean 'ddrm'?"),
    ("darcy-log-normal", ["guidance={method: ddrm}"], "ddrm needs data that are linear in x_0"),
    ("methods/dps-poisson", ["guidance={method: proximal}"], "proximal needs Gaussian noise; with poisson use dps"),
    (
        "methods/dps-poisson",
        ["prior={law: gaussian, variogram: {range: 0.1}}"],
        "poisson counts need a prior of positive",
    ),
    ("methods/dps-poisson", ["observations.noise={law: poisson}"], "poisson noise needs counts"),
    ("methods/dps", ["observations.noise={sigma: 1, counts: 3}"], "noise.counts: only poisson noise has counts"),
    ("darcy-log-normal", ["prior={law: gaussian, variogram: {range: 100}}"], "may be negative, and the equation needs"),
    ("methods/dps", ["source={value: 1}"], "source: has no meaning without an equation"),
    ("methods/dps", ["physics=solver"], "physics: solver has no meaning without an equation"),
    ("methods/loss", ["observations.sensors={field: u, count: 3}"], "there is only a to measure; give field: a"),
    (
        "methods/dps",
        ["guidance.particles=3"],
        "guidance.particles: method 'dps' has no particles; methods that have: smc",
    ),
    ("methods/heun", ["guidance.eta=0.5"], "guidance.eta: only the sampler ddim has an eta"),
    ("methods/gradient-search", ["guidance.levels=50"], "guidance.levels: the gradient search has no noise"),
    ("methods/dps", [OPERATOR % "{kind: average, factor: 5}"], "5 does not divide [32, 32] cells into blocks; 4 does"),
    ("methods/dps", [OPERATOR % "{kind: blurr, width: 1}"], "unknown 'blurr'; did you mean 'blur'?"),
    ("methods/dps", [OPERATOR % "{kind: blur, width: 7}"], "operator.width: 7 is wider than the domain, 1"),
    ("methods/dps", [OPERATOR % "{kind: mask, x: [0.5, 0.2], y: [0, 1]}"], "operator.x: must increase, got [0.5, 0.2]"),
    ("methods/dps", [OPERATOR % "{kind: mask, x: [0, 1], y: [0, 1]}"], "no cell is seen; the box is everything"),
    (
        "methods/dps",
        [OPERATOR % "[{kind: tomography, angles: 2, rays: 2}, {kind: average, factor: 2}]"],
        "operator[1]: follows an operator whose data are no longer a map of cells",
    ),
    ("methods/dps", ["observations.sensors.count=3"], "sensors.count: has no meaning beside operator"),
    ("methods/windows", ["prior.windows.overlap=24"], "windows.overlap: 24 must be less than a window's side, 24"),
    ("methods/windows", ["prior.windows={overlap: 3}"], "needs windows: {shape: [ny, nx], overlap: …}"),
    ("methods/windows", ["prior.windows.shape=[24, 128]"], "is more than the 2304 cells that are done by eigenvectors"),
    ("methods/windows", ["prior.windows.shape=[30, 30]"], "windows.shape: [30, 30] is larger than the grid, [24, 96]"),
    (
        "darcy-sparse",
        ["prior={name: two-phase-64, windows: {overlap: 8}}", "grid.shape=[32, 64]"],
        "smaller than a window",
    ),
    ("methods/classifier", ["prior.known.component=chanels"], "unknown component 'chanels'; did you mean 'channels'?"),
    ("methods/classifier", ["grid.shape=[64, 64]"], "grid.shape: [64, 64] is more than the 2304 cells"),
    ("methods/diffusion-em", ["infer=null"], "diffusion-em infers something along; say what, as infer"),
    ("methods/diffusion-em", ["infer={width: {min: 0.1, max: 1}}"], "infer.width: needs one blur among the operators"),
    ("methods/diffusion-em", ["infer={top: {min: 0, max: 1}}"], "infer.top: needs an equation with a value of u"),
    ("methods/diffusion-em", ["infer={gain: {min: 0, max: 1}}"], "infer.gain.min: must be positive, got 0"),
    ("methods/diffusion-em", ["infer={left: {min: 3, max: 1}}"], "infer.left.max: must be more than min"),
    ("methods/dps", ["infer={gain: {min: 1, max: 2}}"], "only methods blind-dps and diffusion-em infer parameters"),
    ("methods/blind-dps", ["infer={gain: {min: 1, max: 2}}"], "blind-dps infers the kernel of one blur"),
    ("methods/control", ["prior={law: log-normal, variogram: {range: 1}}"], "control needs a shipped prior"),
    ("methods/sdedit", ["guidance.start.a=sin(z)"], "guidance.start.a"),
    ("methods/daps", ["guidance={method: dps, start: {a: -1}}"], "guidance.start.a: must be positive everywhere"),
    ("methods/control", ["prior=two-phase-64-joint"], "without an equation there is only a"),
    ("methods/control", ["prior={name: two-phase-64, windows: {overlap: 8}}"], "sees its whole field, not windows"),
    ("methods/control", ["observations.noise={law: poisson, counts: 5}"], "control was trained with Gaussian noise"),
    ("methods/dps", [OPERATOR % "{kind: [blur], width: 1}"], "operator.kind: must be one of blur, average"),
    (
        "methods/dps",
        [OPERATOR % "{kind: mask, x: [0.5, 0.51], y: [0.5, 0.51]}"],
        "there is no cell centre in the box",
    ),
    ("methods/dps", ["guidance.method=[dps]"], "guidance.method: must be one of"),
    ("methods/blind-dps", ["infer.width.max=50"], "infer.width.max: 50 is wider than the domain, 1"),
    ("methods/blind-dps", ["grid.shape=[16, 32]"], "blind-dps needs square cells"),
    ("methods/diffusion-em", ["guidance.iterations=1"], "guidance.iterations: diffusion-em needs at least 2"),
    (
        "methods/diffusion-em",
        ["infer={gain: {min: 1, max: 2}}", "observations.sensors=[{count: 3}, {count: 4}]"],
        "infer.gain: needs exactly one group of sensors",
    ),
    (
        "darcy-smooth",
        ["physics=none", "guidance={method: dps, start: {a: 1}}"],
        "guidance.start: says nothing of u; use a prior of a alone",
    ),
    (
        "darcy-sparse",
        ["guidance={method: daps}", "physics=solver", "prior=two-phase-64-joint"],
        "daps works on all of x_0, and here u follows from a; use proximal or dps",
    ),
]


@pytest.mark.parametrize(("name", "overrides", "message"), WRONG, ids=[message[:40] for *_, message in WRONG])
def test_what_does_not_go_together_is_said(name, overrides, message):
    """One line, which names the key and what would do."""
    with pytest.raises(InputError) as caught:
        load_case(CASES / f"{name}.yaml", overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_method_has_a_case():
    """`cases/methods` shows each method of the grammar, and each validates."""
    shown = {load_case(path).guidance.method for path in METHODS.glob("*.yaml")}
    assert shown == set(OPTIONS)


def test_another_problem_of_an_operator_has_another_truth_and_noise():
    """`--seed` sets no seed where nothing is placed at random."""
    case = load_case(METHODS / "proximal.yaml", seed=3)
    assert case.observations.truth.seed == 3000
    assert [group.seed for group in case.observations.sensors] == [None, 3011]


def test_measurements_of_u_without_an_equation(tmp_path):
    """A file that measures u is refused where there is only a."""
    (tmp_path / "heads.csv").write_text("x,y,field,value,sigma\n0.5,0.5,u,1,0.1\n")
    (tmp_path / "case.yaml").write_text(
        "pde: none\ngrid: {shape: [8, 8]}\nprior: {law: gaussian, variogram: {range: 0.3}}\n"
        "observations: {file: heads.csv}\n"
    )
    with pytest.raises(InputError, match=r"case.yaml:4: observations.file: without an equation there is only a"):
        load_case(tmp_path / "case.yaml")


def test_an_alias_is_the_method_itself():
    """Another name of a method has the same options, and makes the same case."""
    case = load_case(METHODS / "smc.yaml", ["guidance.method=twisted-smc", "guidance.particles=9"])
    assert case.hash == load_case(METHODS / "smc.yaml", ["guidance={method: smc, particles: 9}"]).hash
    assert load_case(METHODS / "dps.yaml", ["guidance.method=twisted-smc"]).guidance.particles == 64


def test_another_method_takes_its_own_options():
    """`--set guidance.method` drops the old method's options, and keeps those that all have."""
    case = load_case(METHODS / "mixture.yaml", ["guidance.accuracy=fast", "guidance.method=moments"])
    assert (case.guidance.particles, case.guidance.levels, case.guidance.sampler) == (None, None, "ddim")
    assert case.guidance.accuracy == "fast"


def test_a_methods_defaults_count_in_its_identity():
    """Writing a default out changes nothing; another value does."""
    plain = load_case(METHODS / "pigdm.yaml").hash
    assert load_case(METHODS / "pigdm.yaml", ["guidance.sampler=ddim", "guidance.eta=1.0"]).hash == plain
    assert load_case(METHODS / "pigdm.yaml", ["guidance.eta=0.0"]).hash != plain


def test_a_case_without_an_equation_resolves_to_what_it_has():
    """No boundary, no source, no physics but none, and a truth that is seen on its own grid."""
    resolved = load_case(METHODS / "dps.yaml").resolved()
    assert not {"boundary", "source"} & resolved.keys()
    assert resolved["physics"] == {"kind": "none"}
    assert resolved["observations"]["truth"] == {"seed": 4, "refine": 1}
