"""Loading: the shipped cases, defaults, overrides, seeds, variants, trained priors."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

import pdediff.cases.files
from pdediff.cases.case import Case
from pdediff.cases.load import load_case, load_variant
from pdediff.cases.overrides import LARGEST_SEED
from pdediff.cases.prior import LogNormalPrior, ShippedPrior, WeightsPrior
from pdediff.solvers.boundary import Flux, Value
from pdediff.solvers.errors import InputError

SHIPPED = sorted((Path(__file__).parents[2] / "cases").glob("darcy-*.yaml"))

MINIMAL = """\
pde: darcy
grid: {shape: [8, 12]}
prior: {law: log-normal, variogram: {range: 0.2}}
observations: {sensors: {count: 5}, noise: {sigma: 0.1}}
"""


def card(folder: Path, name: str, shape: tuple[int, int] = (64, 64), weights: bytes = b"weights") -> Path:
    """A card and its weights, as training leaves them."""
    (folder / f"{name}.safetensors").write_bytes(weights)
    path = folder / f"{name}.json"
    digest = hashlib.sha256(weights).hexdigest()
    content = {
        "format": "pdediff-denoiser-1",
        "shape": list(shape),
        "fields": ["a"],
        "law": {"name": "two-phase", "shape": list(shape), "alpha": 2.0, "tau": 3.0, "low": 3.0, "high": 12.0},
        "network": {"patch": 2, "widths": [8, 16], "blocks": 1, "attention": True},
        "preconditioning": {"sigma_data": 1.0, "mean": 0.0},
        "sha256": digest,
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(autouse=True)
def priors(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shipped priors of the right names and shapes, so that these tests do not depend on which are trained."""
    folder = tmp_path_factory.mktemp("priors")
    shipped = {"two-phase-64": card(folder, "two-phase-64"), "two-phase-128": card(folder, "two-phase-128", (128, 128))}
    monkeypatch.setattr(pdediff.cases.files, "shipped_priors", lambda: shipped)


def case_of(folder: Path, text: str, *overrides: str, seed: int | None = None) -> Case:
    path = folder / "case.yaml"
    path.write_text(text)
    return load_case(path, overrides, seed)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_cases_are_valid(path: Path) -> None:
    """Every case that ships loads, with and without another problem number."""
    case = load_case(path)
    assert case.name == path.stem
    assert load_case(path, seed=5).hash != case.hash
    json.dumps(case.resolved(), allow_nan=False)


def test_the_sparse_case_is_the_printed_one() -> None:
    """The numbers that the README's table depends on."""
    case = load_case(next(path for path in SHIPPED if path.stem == "darcy-sparse"))
    assert case.grid.shape == (64, 64)
    assert case.source.value == 1
    assert case.prior == ShippedPrior(name="two-phase-64")
    assert case.observations.truth is not None
    assert (case.observations.truth.seed, case.observations.truth.refine) == (7, 2)
    assert case.observations.noise is not None
    assert (case.observations.noise.sigma, case.observations.noise.seed) == (7.5e-5, 2)
    assert len(case.place_sensors()) == 122
    assert (case.sampling.samples, case.sampling.seed, case.sampling.batch) == (20, 3, 20)
    assert {"none", "residual", "solver"} <= case.compare.keys()


def test_defaults(tmp_path: Path) -> None:
    """Only pde, grid, prior and observations are needed; all seeds differ."""
    case = case_of(tmp_path, MINIMAL)
    assert case.physics.kind == "solver"
    assert (case.guidance.method, case.guidance.accuracy) == ("proximal", "normal")
    assert case.source.value == 0
    assert case.boundary.build().evaluate(case.grid.build())["top"].tolist() == [0] * 12
    assert case.grid.domain.x == case.grid.domain.y == (0, 1)
    assert seeds(case) == [0, 1, 2, 3]
    assert isinstance(case.prior, LogNormalPrior)
    assert case.prior.variogram.smoothness == 1.5
    assert case.prior.variogram.build().range == 0.2


def seeds(case: Case) -> list[int]:
    """Seeds of truth, sensors, noise and sampling."""
    observations = case.observations
    assert observations.truth is not None
    assert observations.noise is not None
    assert observations.sensors is not None
    groups = [group.seed for group in observations.sensors if group.seed is not None]
    return [observations.truth.seed, *groups, observations.noise.seed, case.sampling.seed]


def test_yaml_is_1_2(tmp_path: Path) -> None:
    """1e-3 is a number, 010 is ten, no is a word; numbers keep all their digits."""
    case = case_of(
        tmp_path, MINIMAL.replace("0.1}", "1e-3, seed: 010}").replace("[8, 12]}", "[8, 12], domain: {unit: no}}")
    )
    assert case.observations.noise is not None
    assert case.observations.noise.sigma == 1e-3
    assert case.observations.noise.seed == 10
    assert case.grid.domain.unit == "no"


def test_boundary_and_source_reach_the_solver(tmp_path: Path) -> None:
    """Numbers, lists, expressions arrive at the faces; a list is repeated on the truth's finer grid; wells add up."""
    text = MINIMAL + (
        "boundary: {left: {value: y}, right: {flux: [1, 2, 3, 4, 5, 6, 7, 8]}}\n"
        "source: {value: 'x*y', wells: [{x: 0.5, y: 0.5, rate: -2}]}\n"
    )
    case = case_of(tmp_path, text)
    grid = case.grid.build()
    boundary = case.boundary.build()
    assert isinstance(boundary.left, Value)
    assert isinstance(boundary.right, Flux)
    values = boundary.evaluate(grid)
    np.testing.assert_allclose(values["left"], grid.centres()[1])
    np.testing.assert_array_equal(values["right"], range(1, 9))
    fine = case.boundary.build(refine=3).evaluate(grid.refine(3))
    np.testing.assert_array_equal(fine["right"], np.repeat(range(1, 9), 3))
    x, y = grid.mesh()
    assert case.source.build(grid).sum() * grid.cell_area == pytest.approx((x * y).sum() * grid.cell_area - 2)


def test_set_changes_one_key(tmp_path: Path) -> None:
    """Dotted paths, YAML values, list items, whole sections, null for the default, the last one wins."""
    text = MINIMAL.replace("{count: 5}", "[{count: 5}, {points: [[0, 0]]}]")
    case = case_of(
        tmp_path,
        text,
        "sampling.samples=40",
        "sampling.samples=41",
        "observations.noise.sigma=1e-3",
        "observations.sensors.0.count=6",
        "boundary.left={flux: 0}",
        "source.value=where(x == y, 1, 2)",
        "prior.variogram.kind=gaussian",
    )
    assert case.sampling.samples == 41
    assert case.observations.noise is not None
    assert case.observations.noise.sigma == 1e-3
    assert len(case.place_sensors()) == 7
    assert case.boundary.left.flux == 0
    assert case.source.value == "where(x == y, 1, 2)"
    assert case.resolved()["prior"]["variogram"]["kind"] == "squared-exponential"
    assert case_of(tmp_path, text + "sampling: {samples: 3}\n", "sampling=null").sampling.samples == 20


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "sampling.sampels=40",
            "--set sampling.sampels=40: unknown key 'sampels' in sampling; did you mean 'samples'?",
        ),
        ("sampling.samples=no", "--set sampling.samples=no: sampling.samples: must be a whole number, got 'no'"),
        ("sampling.samples", "--set sampling.samples: must be key=value"),
        ("sampling.samples=", "--set sampling.samples=: no value after '='"),
        ("=3", "--set =3: must be key=value"),
        ("prior=null", "--set prior=null: missing key 'prior'"),
        ("sampling.seed=-1", "--set sampling.seed=-1: sampling.seed: must be at least 0, got -1"),
        ("sampling=3", "--set sampling=3: sampling: must be a section with keys samples, seed, batch; got 3"),
        ("pde.kind=1", "--set pde.kind=1: pde is 'darcy', which has no key 'kind'"),
        ("sampling=[1", "--set sampling=[1: not YAML"),
        ("observations.sensors.count.x=1", "--set observations.sensors.count.x=1: observations.sensors.count is 5"),
        ("prior=two-phase-65", "--set prior=two-phase-65: unknown prior 'two-phase-65'; did you mean 'two-phase-64'?"),
        ("observations.sensors={points: [[2, 0]]}", "observations.sensors.points[0]: (2, 0) is outside the domain"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, option: str, message: str) -> None:
    """The option stands where FILE:LINE would."""
    with pytest.raises(InputError) as caught:
        case_of(tmp_path, MINIMAL, option)
    assert message in str(caught.value)
    assert str(caught.value).startswith("--set ")


def test_seed_is_a_new_problem(tmp_path: Path) -> None:
    """All seeds come from N, none is shared between groups or with another N; --set is applied after it."""
    text = MINIMAL.replace("{count: 5}", "[{count: 5}, {count: 5, field: a}, {points: [[0, 0]]}]")
    used = [seed for n in (0, 1, 2, 77) for seed in seeds(case_of(tmp_path, text, seed=n))]
    assert len(used) == 4 * 5 == len(set(used))
    assert seeds(case_of(tmp_path, text, seed=1)) == [1000, 1010, 1011, 1001, 1002]
    assert case_of(tmp_path, text, "sampling.seed=9", seed=1).sampling.seed == 9
    assert not np.array_equal(
        case_of(tmp_path, text, seed=1).place_sensors().x[:5], case_of(tmp_path, text).place_sensors().x[:5]
    )
    largest = seeds(case_of(tmp_path, text, seed=LARGEST_SEED))
    assert largest[0] == 1000 * LARGEST_SEED
    assert 2**32 - 2000 < max(largest) < 2**32  # torch's generators take a seed's low 32 bits: none may be longer
    for seed in (-1, LARGEST_SEED + 1, 2**70):
        with pytest.raises(InputError, match=f"--seed {seed}: must be between 0 and {LARGEST_SEED}"):
            case_of(tmp_path, text, seed=seed)
    with pytest.raises(InputError, match=r"case.yaml:5: sampling: must be a section"):
        case_of(tmp_path, MINIMAL + "sampling: 3\n", seed=1)


def test_variants_replace_keys(tmp_path: Path) -> None:
    """Sections merge, null removes, a prior and a side are replaced whole; what is not available fails when used."""
    text = MINIMAL + (
        "boundary: {left: {value: 1}}\n"
        "sampling: {samples: 7, seed: 8}\n"
        "compare:\n"
        "  few: {sampling: {samples: 2}, boundary: {left: {flux: 0}}}\n"
        "  trained: {grid: {shape: [64, 64]}, prior: two-phase-64}\n"
        "  default: {sampling: null}\n"
        "  later: {physics: surrogate}\n"
    )
    case = case_of(tmp_path, text)
    few = load_variant(case, "few")
    assert (few.sampling.samples, few.sampling.seed) == (2, 8)
    assert few.boundary.left.value is None
    assert few.compare == {}
    assert few.name == "case"
    assert isinstance(load_variant(case, "trained").prior, ShippedPrior)
    assert load_variant(case, "default").sampling.samples == 20
    with pytest.raises(InputError, match=r"case.yaml:11: physics: 'surrogate' is not available"):
        load_variant(case, "later")
    with pytest.raises(InputError, match=r"case.yaml:12: missing key 'prior'"):
        case_of(tmp_path, text + "  bare: {prior: null}\n")
    with pytest.raises(InputError, match="unknown variant 'fwe'; did you mean 'few'"):
        load_variant(case, "fwe")


def test_trained_priors(tmp_path: Path) -> None:
    """A shipped name or the user's weights; hash and path are known; shape and integrity are checked."""
    text = MINIMAL.replace("[8, 12]", "[64, 64]").replace("{law: log-normal, variogram: {range: 0.2}}", "two-phase-64")
    shipped = case_of(tmp_path, text)
    assert shipped.prior_card is not None
    assert shipped.prior_card.name == "two-phase-64.json"
    assert len(shipped.resolved()["prior"]["sha256"]) == 64

    own = text.replace("two-phase-64", "{weights: mine.safetensors, units: m/d}")
    with pytest.raises(InputError, match=r"case.yaml:3: .*mine.safetensors: no such file"):
        case_of(tmp_path, own)
    path = card(tmp_path, "mine")
    case = case_of(tmp_path, own)
    assert case.prior == WeightsPrior(weights="mine.safetensors", units="m/d")
    assert case.prior_card == path

    with pytest.raises(InputError, match=r"case.yaml:2: grid.shape: \[64, 64\] does not fit prior 'two-phase-128'"):
        case_of(tmp_path, text.replace("two-phase-64", "two-phase-128"))
    with pytest.raises(InputError, match=r"case.yaml:3: unknown prior 'two_phase_46'; did you mean 'two-phase-64'"):
        case_of(tmp_path, text.replace("two-phase-64", "two_phase_46"))
    with pytest.raises(InputError, match=r"case.yaml:3: prior: must be the name of a shipped prior, or"):
        case_of(tmp_path, text.replace("two-phase-64", "{}"))
    with pytest.raises(InputError, match=r"case.yaml:3: unknown key 'wieghts' in prior; did you mean 'weights'"):
        case_of(tmp_path, own.replace("weights", "wieghts"))
    with pytest.raises(InputError, match=r"case.yaml:3: .*mine.pt: not a .safetensors file"):
        case_of(tmp_path, own.replace("mine.safetensors", "mine.pt"))
    (tmp_path / "mine.safetensors").write_bytes(b"weight")
    with pytest.raises(InputError, match=r"case.yaml:3: .*mine.safetensors: truncated, or not the weights"):
        case_of(tmp_path, own)
    for content in ("{", "[]", '{"format": "other"}', "[" * 9000):
        path.write_text(content)
        with pytest.raises(InputError, match=r"case.yaml:3: .*mine.json: not the card of trained weights"):
            case_of(tmp_path, own)


def test_a_case_cannot_be_changed(tmp_path: Path) -> None:
    """Settings are frozen: what was validated is what runs."""
    case = case_of(tmp_path, MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        case.physics = "none"  # type: ignore[misc]
    assert math.isfinite(case.prior.mean)  # type: ignore[union-attr]


def test_options_that_contradict_a_variant_only(tmp_path):
    """``--set`` may make a variant invalid, which only a comparison has to mind: the case itself loads, and loading the
    variant says what is wrong. A variant that is wrong in the file is refused as before."""
    path = tmp_path / "case.yaml"
    text = Path(__file__).parents[2].joinpath("cases/darcy-sparse.yaml").read_text()
    path.write_text(text)
    case = load_case(path, ["guidance={method: dps}"])
    assert case.guidance.method == "dps"
    with pytest.raises(InputError, match="method 'dps' has no covariance; methods that have: proximal"):
        load_variant(case, "none")
    path.write_text(text.replace("covariance: jacobian", "covariance: jacobia"))
    for options in ([], ["guidance={method: dps}"]):
        with pytest.raises(InputError, match=r"case.yaml:\d+: .*jacobia"):
            load_case(path, options)
