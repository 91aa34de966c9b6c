"""Every case of `cases/methods` runs; as it stands (slow), it gives what its comments and docs/methods.md promise."""

from pathlib import Path

import numpy as np
import pytest

from pdediff.cases.load import load_case, load_variant
from pdediff.studies.run import run

METHODS = Path(__file__).parents[1] / "cases" / "methods"
CASES = sorted(path for path in METHODS.glob("*.yaml") if not path.stem.startswith("compare"))
COMPARISONS = sorted(METHODS.glob("compare*.yaml"))
VARIANTS = [(path, name) for path in COMPARISONS for name in load_case(path).compare]
SHORT = {
    "gradient-search": ["guidance.iterations=20"],
    "daps": ["guidance.levels=6", "guidance.iterations=4"],
    "smc": ["guidance.levels=12", "guidance.particles=4"],
    "mixture": ["guidance.levels=12", "guidance.particles=4"],
    "diffusion-em": ["guidance.levels=12", "guidance.particles=2", "guidance.iterations=2"],
    "inversion": ["guidance.levels=30"],
    "langevin": ["guidance.levels=30"],
}

CHI2 = {  # of the case as it stands; 1 is right
    "prior": (20, 1e5),  # the data are ignored
    "gradient-search": (0, 1e-3),  # and here they are believed to the last digit
    "control": (1, 300),  # amortised: knows no sigma
    "pigdm": (0.3, 4),
    "dps": (0.05, 4),
    "diffpir": (0.3, 3),
    "daps": (0.5, 4),
    "langevin": (0.2, 2),  # has not mixed
    "inversion": (0.5, 6),  # one deterministic answer
    "sdedit": (0.5, 3),
    "loss": (0.3, 2),  # not a likelihood of this noise
}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_case_runs_in_a_hurry(path, tmp_path):
    """Two samples on a short ladder: files, finite fields, and predictions of all data."""
    case = load_case(path, ["sampling.samples=2", *SHORT.get(path.stem, ["guidance.levels=12"])])
    result = run(case, tmp_path)
    posterior, entry = result.posterior, result.metrics["variants"]["run"]
    assert all(np.isfinite(values).all() for values in posterior.fields.values())
    assert posterior.observations.predicted.shape == (2, len(posterior.observations))
    assert entry["a"]["sample_relative_l2"] is not None
    assert (entry["pde"]["relative_residual"] is None) == (case.pde == "none")
    assert (entry["parameters"] is None) == (case.infer is None)
    assert (tmp_path / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_case_gives_what_it_promises(path, tmp_path):
    """As it stands: chi² is what the method's bias allows, near 1 for those that have none."""
    entry = run(load_case(path), tmp_path).metrics["variants"]["run"]
    low, high = CHI2.get(path.stem, (0.6, 1.6))
    assert low <= entry["observations"]["chi2"] <= high


@pytest.mark.parametrize(("path", "name"), VARIANTS, ids=lambda value: getattr(value, "stem", value))
def test_every_variant_runs_in_a_hurry(path, name, tmp_path):
    """One sample on a short ladder."""
    hurry = {"smc": ["guidance.particles=2"], "daps": ["guidance.iterations=3"]}.get(name, [])
    variant = load_variant(load_case(path, ["sampling.samples=1"]), name)
    short = load_case(
        path, ["sampling.samples=1", f"guidance={{method: {variant.guidance.method}, levels: 5}}", *hurry]
    )
    entry = run(short, tmp_path).metrics["variants"]["run"]
    assert entry["a"]["sample_relative_l2"] is not None
