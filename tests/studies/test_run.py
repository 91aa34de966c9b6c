"""Runs: what a folder holds, resuming, refusing. The case is the CSV one on a coarse grid, in closed form: fast."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pdediff.cases.load import load_case
from pdediff.cases.problem import build_problem
from pdediff.cli.app import run as command_line
from pdediff.posterior.metrics import FIELD_KEYS
from pdediff.solvers.errors import InputError
from pdediff.studies.repeat import averaged, repeat
from pdediff.studies.run import run

CASES = Path(__file__).parents[2] / "cases"
SMALL = (
    "grid.shape=[12, 16]",
    "sampling.samples=4",
    "sampling.batch=2",
    "guidance.accuracy=fast",
)
SYNTHETIC = (
    *SMALL,
    "observations.file=null",
    "observations.truth={seed: 3, refine: 2}",
    "observations.sensors={count: 20, seed: 1}",
    "observations.noise={sigma: 0.03}",
)


@pytest.fixture
def case():
    return load_case(CASES / "darcy-csv.yaml", SMALL)


def test_a_run_leaves_posterior_metrics_figures_and_manifest(case, tmp_path):
    """The files of a run, their keys, and that every sample satisfies its PDE to 1e-9."""
    result = run(case, tmp_path / "out")
    folder = result.folder
    names = ["figures", "manifest.json", "metrics.json", "posterior.nc", "report.html"]
    assert sorted(p.name for p in folder.iterdir()) == names
    summary = json.loads((folder / "metrics.json").read_text())
    entry = summary["variants"]["run"]
    assert summary["case"] == "darcy-csv"
    assert set(entry) == {"a", "u", "observations", "pde", "parameters", "cost"}
    assert set(FIELD_KEYS) <= set(entry["a"]) == set(entry["u"])
    assert entry["a"]["relative_l2"] is None  # no truth is known
    assert entry["pde"]["relative_residual"] < 1e-9
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["complete"]
    assert manifest["hash"] == case.hash
    assert list((folder / "figures").glob("*.png"))
    with xr.open_datatree(folder / "posterior.nc") as tree:
        assert tree["posterior/a"].shape == (1, 4, 12, 16)
        assert tree["posterior/a"].dtype == np.float64
        assert tree["posterior/u"].attrs["units"] == "m"


def test_running_again_reads_and_draws_nothing(case, tmp_path):
    """A finished run is left as it is: no file changes, and the posterior is that of the first time."""
    first = run(case, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    again = run(case, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before
    assert np.array_equal(again.posterior.fields["a"], first.posterior.fields["a"])


def test_an_interrupted_run_goes_on_and_ends_the_same(case, tmp_path):
    """Interrupted after its first batch, a run draws the missing one only; samples are bit for bit the undisturbed."""
    undisturbed = run(case, tmp_path / "undisturbed")

    class Interrupt(Exception):
        pass

    def interrupt(done: int, total: int, what: str) -> None:
        if done > total / 2:
            raise Interrupt

    with pytest.raises(Interrupt):
        run(case, tmp_path / "resumed", progress=interrupt)
    assert len(list((tmp_path / "resumed" / "samples").glob("*.safetensors"))) == 1
    resumed = run(case, tmp_path / "resumed")
    for name in ("a", "u"):
        assert np.array_equal(resumed.posterior.fields[name], undisturbed.posterior.fields[name])


def test_samples_do_not_depend_on_the_batch(case, tmp_path):
    """Sample i has its own noise: batches of 1 and of 4 agree to the inner solves' accuracy (relative 1e-3)."""
    alone = run(load_case(case.path, (*SMALL, "sampling.batch=1")), tmp_path / "one").posterior.fields["u"]
    together = run(load_case(case.path, (*SMALL, "sampling.batch=4")), tmp_path / "four").posterior.fields["u"]
    assert np.abs(alone - together).max() < 1e-3 * np.abs(together).max()


def test_a_folder_of_another_case_is_refused_with_the_difference(case, tmp_path, capsys):
    """Exit code 2, one line that names the changed key, old and new; nothing is touched. --force starts anew."""
    run(case, tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    sets = [word for change in (*SMALL, "sampling.seed=4") for word in ("--set", change)]
    arguments = ["run", str(case.path), "--out", str(tmp_path), *sets, "--quiet"]
    assert command_line(arguments) == 2
    error = capsys.readouterr().err
    assert "sampling.seed: 3 -> 4" in error
    assert error.count("\n") == 1
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert command_line([*arguments, "--force"]) == 0
    assert (tmp_path / "metrics.json").read_bytes() != before[tmp_path / "metrics.json"]


def test_a_folder_that_is_no_run_is_refused(case, tmp_path):
    """A folder with somebody's files, or with a foreign manifest, is left alone."""
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(InputError, match="holds no run"):
        run(case, tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="not a manifest"):
        run(case, tmp_path, force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", "thesis.tex"]


def test_dry_run_and_absent_devices_write_nothing(case, tmp_path, capsys):
    """`--dry-run` says what would run; a device that is not there is exit code 2. Neither makes the folder."""
    out = tmp_path / "out"
    arguments = ["run", str(case.path), "--out", str(out)]
    assert command_line([*arguments, "--dry-run"]) == 0
    assert "would run" in capsys.readouterr().out
    for device in ("tpu", "cuda:99", "cuda:x"):
        for more in ((), ("--dry-run",)):
            assert command_line([*arguments, "--device", device, *more]) == 2
            errors = capsys.readouterr().err
            assert errors.startswith(f"--device {device}: not available on this machine; available: cpu")
            assert errors.count("\n") == 1
    assert not out.exists()


def test_dry_run_refuses_as_the_run_would(case, tmp_path, capsys):
    """A folder of another case, or of no run: the same line and exit code with and without --dry-run."""
    run(case, tmp_path / "run")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/thesis.tex").write_text("important")
    for name in ("run", "thesis"):
        errors = []
        for more in ((), ("--dry-run",)):
            assert command_line(["run", str(case.path), "--out", str(tmp_path / name), "--quiet", *more]) == 2
            errors.append(capsys.readouterr().err)
        assert errors[0] == errors[1] != ""
    sets = [word for change in SMALL for word in ("--set", change)]
    assert command_line(["run", str(case.path), "--out", str(tmp_path / "run"), "--dry-run", *sets]) == 0
    assert capsys.readouterr().out.startswith(f"nothing to do: {tmp_path / 'run'} holds the finished run of darcy-csv")


def test_damaged_metrics_are_said_so(case, tmp_path):
    """A finished run whose metrics somebody has edited into no JSON: one line, not a traceback."""
    run(case, tmp_path)
    (tmp_path / "metrics.json").write_text('{"case":')
    with pytest.raises(InputError, match=r"metrics\.json: damaged; --force starts anew"):
        run(case, tmp_path)


def test_an_error_found_while_building_writes_nothing(tmp_path, capsys):
    """A variogram that no torus holds is found after the case is valid: exit code 2, one line, no folder."""
    out = tmp_path / "out"
    sets = [word for change in (*SMALL, "prior.variogram.range=1e5") for word in ("--set", change)]
    assert command_line(["run", str(CASES / "darcy-csv.yaml"), "--out", str(out), *sets]) == 2
    assert "too long for a domain" in capsys.readouterr().err.splitlines()[-1]
    assert not out.exists()


def test_truth_and_data_come_from_their_seeds():
    """The same seeds give the same truth and data; the noise seed changes the data by noise of the stated size only."""
    one = build_problem(load_case(CASES / "darcy-csv.yaml", SYNTHETIC))
    two = build_problem(load_case(CASES / "darcy-csv.yaml", SYNTHETIC))
    other = build_problem(load_case(CASES / "darcy-csv.yaml", (*SYNTHETIC, "observations.noise.seed=9")))
    assert np.array_equal(one.observations.value, two.observations.value)
    assert np.array_equal(one.truth["a"], other.truth["a"])
    difference = (one.observations.value - other.observations.value) / (0.03 * 2**0.5)
    assert 0.5 < difference.std() < 1.6  # chi with 20 degrees of freedom: 1 ± 0.16, so three deviations and more
    assert not np.array_equal(one.observations.value, one.observations.truth)


def test_repeat_averages_over_problems(tmp_path):
    """Mean and standard error are those of the problems' metrics files; a second call changes nothing."""
    summary = repeat(CASES / "darcy-csv.yaml", [1, 2, 3], tmp_path, SYNTHETIC)
    values = [
        json.loads((tmp_path / f"problem-{seed}" / "metrics.json").read_text())["variants"]["run"]["u"]["relative_l2"]
        for seed in (1, 2, 3)
    ]
    row = summary["mean"]["u"]["relative_l2"]
    assert row["mean"] == pytest.approx(np.mean(values))
    assert row["standard_error"] == pytest.approx(np.std(values, ddof=1) / 3**0.5)
    assert repeat(CASES / "darcy-csv.yaml", [1, 2, 3], tmp_path, SYNTHETIC) == summary


def test_averages_leave_out_what_is_null_or_a_table():
    """A metric that only some problems have is averaged over those; tables and all-null metrics are left out."""
    entries = [
        {"a": {"crps": 1.0, "brier": None, "reliability": {"count": [1]}}},
        {"a": {"crps": 3.0, "brier": None, "reliability": None}},
        {"a": {"crps": None, "brier": None, "reliability": None}},
    ]
    assert averaged(entries) == {"a": {"crps": {"mean": 2.0, "standard_error": 1.0, "count": 2}}}
