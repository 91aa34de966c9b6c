"""Recipes of data sets: the shipped ones are valid, and what is wrong with one is one line with its place."""

from pathlib import Path

import pytest

from pdediff.cases.generation import DatasetRecipe, TwoPhaseSection, load_recipe
from pdediff.cases.prior import LogNormalPrior
from pdediff.solvers.errors import InputError

SHIPPED = sorted((Path(__file__).parents[2] / "datasets").glob("*.yaml"))
MINIMAL = "pde: darcy\ngrid: {shape: [8, 8]}\ncoefficient: {law: two-phase}\nsource: {value: 1}\nsamples: 3\n"


def _load(tmp_path: Path, text: str, *overrides: str) -> DatasetRecipe:
    (tmp_path / "recipe.yaml").write_text(text)
    return load_recipe(str(tmp_path / "recipe.yaml"), overrides)[1]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid_by_file_and_by_name(path: Path) -> None:
    """Both ways give the same recipe, called as its file is."""
    assert load_recipe(str(path)) == load_recipe(path.stem)
    assert load_recipe(path.stem)[0] == path.stem


def test_what_is_shipped() -> None:
    """The published benchmark at its size and with its solver; two laws by finite volumes."""
    recipes = {path.stem: load_recipe(path.stem)[1] for path in SHIPPED}
    assert recipes["two-phase-published"].solver.kind == "published"
    assert recipes["two-phase-published"].grid.shape == (128, 128)
    assert recipes["two-phase-published"].coefficient == TwoPhaseSection(law="two-phase")
    assert recipes["two-phase-64"].solver.kind == "finite-volumes"
    assert isinstance(recipes["log-normal-64"].coefficient, LogNormalPrior)


def test_defaults_and_overrides(tmp_path: Path) -> None:
    """The shortest recipe stores a and u; `--set` changes any key; the chunk is no part of what determines samples."""
    recipe = _load(tmp_path, MINIMAL)
    assert recipe.fields == ("a", "u")
    assert (recipe.solver.kind, recipe.solver.refine, recipe.precision) == ("finite-volumes", 1, "float32")
    changed = _load(tmp_path, MINIMAL, "coefficient.high=20", "chunk=7", "fields=[mu]")
    assert changed.coefficient.high == 20
    assert changed.fields == ("mu",)
    assert _load(tmp_path, MINIMAL, "chunk=7").resolved() == recipe.resolved()
    assert changed.resolved() != recipe.resolved()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("samples: 0", ":5: samples: must be at least 1, got 0"),
        ("smaples: 3", ":5: unknown key 'smaples'; did you mean 'samples'?"),
        ("samples: 3\ncoeficient: {}", ":6: unknown key 'coeficient'; did you mean 'coefficient'?"),
        ("samples: 3\nfields: [a, v]", ":6: fields[1]: unknown 'v'; valid: a, u, mu"),
        ("samples: 3\nfields: [a, a]", ":6: fields: names a field twice"),
        ("samples: 3\nfields: []", ":6: fields: needs at least 1"),
        ("samples: 3\nsolver: publshed", ":6: solver: unknown 'publshed'; did you mean 'published'?"),
        ("samples: 3\nsolver: {kind: published, refine: 2}", ":6: solver: the published solver has no refine"),
        ("samples: 3\nsolver: published\nboundary: {top: {flux: 0}}", ":7: boundary: the published solver has u = 0"),
        ("samples: 3\nseed: -1", ":6: seed: must be at least 0"),
        ("samples: 3\nprecision: float16", ":6: precision: unknown 'float16'; did you mean 'float64'?"),
        ("samples: 3\nboundary: {left: {value: 1/x}}", ":6: boundary: "),
    ],
)
def test_a_wrong_recipe_is_one_line_with_its_place(tmp_path: Path, change: str, message: str) -> None:
    """FILE:LINE, what, and the nearest valid spelling."""
    with pytest.raises(InputError) as caught:
        _load(tmp_path, MINIMAL.replace("samples: 3", change))
    assert str(caught.value).startswith(f"{tmp_path / 'recipe.yaml'}{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("coefficient", "message"),
    [
        ("{law: two-phse}", "coefficient.law: unknown 'two-phse'; did you mean 'two-phase'?"),
        ("{law: weather}", "coefficient.law: unknown 'weather'; valid: two-phase, log-normal"),
        ("{laws: two-phase}", "unknown key 'laws' in coefficient; did you mean 'law'?"),
        ("{law: two-phase, tua: 3}", "unknown key 'tua' in coefficient; did you mean 'tau'?"),
        ("{law: two-phase, low: 12, high: 3}", "coefficient.low: must be less than high, got 12 and 3"),
        ("{law: log-normal}", "missing key 'variogram' in coefficient"),
        (
            "{law: log-normal, variogram: {rnge: 1}}",
            "unknown key 'rnge' in coefficient.variogram; did you mean 'range'?",
        ),
        ("7", "coefficient: must be {law: two-phase, …} or {law: log-normal, variogram: …}"),
    ],
)
def test_a_wrong_law_is_refused_by_its_own_keys(tmp_path: Path, coefficient: str, message: str) -> None:
    """The law that is meant is told from its name, misspelt or not."""
    with pytest.raises(InputError) as caught:
        _load(tmp_path, MINIMAL.replace("{law: two-phase}", coefficient))
    assert str(caught.value) == f"{tmp_path / 'recipe.yaml'}:3: {message}"


def test_published_wants_its_own_domain_and_source(tmp_path: Path) -> None:
    """The unit square and one number; both refusals name the section."""
    published = MINIMAL + "solver: published\n"
    assert _load(tmp_path, published).solver.kind == "published"
    for override, section in (("grid.domain.x=[0, 2]", "grid"), ("source.value=x", "source")):
        with pytest.raises(InputError, match=f"{section}: the published solver"):
            _load(tmp_path, published, override)


def test_an_equation_without_steady_state_is_refused(tmp_path: Path) -> None:
    """All walls closed and a source: found before anything is drawn, unless u is not wanted."""
    closed = MINIMAL + "boundary: {left: {flux: 0}, right: {flux: 0}, bottom: {flux: 0}, top: {flux: 0}}\n"
    with pytest.raises(InputError, match=":6: boundary: no steady state"):
        _load(tmp_path, closed)
    assert _load(tmp_path, closed, "fields=[a]").fields == ("a",)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    """A bare name is that of a shipped recipe."""
    with pytest.raises(InputError, match=r"unknown recipe 'two-phase-46' .*; did you mean 'two-phase-64'"):
        load_recipe("two-phase-46")
