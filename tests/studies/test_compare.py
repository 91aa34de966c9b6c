"""Comparisons: the same data for every variant, what a folder holds, resuming, failing, statistics over problems."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from pdediff.cases.load import load_case
from pdediff.cli import compare as command
from pdediff.cli.app import COMMANDS
from pdediff.cli.app import run as command_line
from pdediff.guidance.renoise import ACCURACY
from pdediff.posterior.files import locked
from pdediff.posterior.metrics import FIELD_KEYS
from pdediff.report import figures
from pdediff.solvers.errors import ConvergenceError, InputError, Interrupted
from pdediff.studies import run as runs
from pdediff.studies import sample
from pdediff.studies.compare import compare
from pdediff.studies.paired import main_pairs, paired, statistics

CASE = Path(__file__).parents[2] / "cases" / "darcy-csv.yaml"
SMALL = ("grid.shape=[8, 12]", "sampling.samples=4", "guidance.accuracy=fast")
SYNTHETIC = (
    *SMALL,
    "observations.file=null",
    "observations.truth={seed: 3, refine: 2}",
    "observations.sensors={count: 20, seed: 1}",
    "observations.noise={sigma: 0.03}",
)
TWO = ("compare.few={sampling: {samples: 2}}", "compare.more={}")


def options(changes: tuple[str, ...]) -> list[str]:
    """The command line's `--set` for every change."""
    return [word for change in changes for word in ("--set", change)]


def files(folder: Path) -> dict[Path, int]:
    """Every file below a folder with the time of its last change."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """Few noise levels: these tests are about what is run, not how well. Pictures where a test asks for `pictures`."""
    monkeypatch.setitem(ACCURACY, "fast", replace(ACCURACY["fast"], levels=4))
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(figures, "figures", lambda posterior: iter([("fields", Figure())]))
        monkeypatch.setattr("pdediff.studies.compare.comparison_figure", lambda posteriors: Figure())


@pytest.fixture
def pictures():
    """Ask for this one to have the figures drawn."""


@pytest.fixture
def no_drawing(monkeypatch):
    """Call it, and from then on drawing a sample is an error."""
    return partial(monkeypatch.setattr, sample, "_draw_batch", None)


@pytest.fixture
def case():
    return load_case(CASE, (*SYNTHETIC, *TWO))


@pytest.fixture
def pdediff(monkeypatch):
    """The command line, with the command `compare`."""
    monkeypatch.setitem(COMMANDS, "compare", command.compare)
    return command_line


def test_a_comparison_is_its_variants_runs_side_by_side(case, tmp_path, pictures):
    """The folder's files; metrics of each variant, in order, are its run's; one truth, one set of data."""
    result = compare(case, tmp_path / "out")
    assert sorted(path.name for path in result.folder.iterdir()) == [
        "few",
        "figures",
        "manifest.json",
        "metrics.json",
        "more",
        "report.html",
    ]
    summary = json.loads((result.folder / "metrics.json").read_text())
    assert summary == result.metrics
    assert list(summary) == ["case", "variants"]
    assert list(summary["variants"]) == ["few", "more"]
    for name, entry in summary["variants"].items():
        assert set(FIELD_KEYS) <= set(entry["a"])
        assert entry == json.loads((result.folder / name / "metrics.json").read_text())["variants"]["run"]
    few, more = (runs.load(result.folder / name / "posterior.nc") for name in ("few", "more"))
    assert (few.n, more.n) == (2, 4)
    own = runs.run(case, tmp_path / "plain").posterior  # the variant that changes nothing is the case itself
    assert np.array_equal(own.fields["a"], more.fields["a"])
    assert np.array_equal(few.truth["a"], more.truth["a"])
    assert np.array_equal(few.observations.value, more.observations.value)
    assert json.loads((result.folder / "manifest.json").read_text())["complete"]


@pytest.mark.parametrize(
    ("variant", "key"),
    [
        ("{observations: {noise: {seed: 9}}}", "observations.noise.seed: 2 -> 9"),
        ("{grid: {shape: [10, 12]}}", "grid.shape: [8, 12] -> [10, 12]"),
        ("{source: {value: 0.001}}", "source.value: 0.0008 -> 0.001"),
        ("{prior: {law: log-normal, mean: 3.5, variogram: {range: 150}}}", "prior.mean: 3.0 -> 3.5"),
    ],
)
def test_a_variant_that_changes_the_data_is_refused(pdediff, tmp_path, capsys, variant, key):
    """Truth and data are the case's: exit code 2, one line with the variant and the key, and nothing is written."""
    out = tmp_path / "out"
    changes = (*SYNTHETIC, "compare.same={}", f"compare.other={variant}")
    assert pdediff(["compare", str(CASE), "--out", str(out), "--quiet", *options(changes)]) == 2
    error = capsys.readouterr().err
    assert "compare.other: changes the data" in error
    assert key in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_another_model_of_measured_data_is_a_variant(tmp_path):
    """Data from a file are what they are: another prior, source or grid may be compared on them."""
    changes = (
        *SMALL,
        "compare.long={prior: {law: log-normal, mean: 3, variogram: {range: 400}}}",
        "compare.coarse={grid: {shape: [6, 8]}, source: {value: 0}, sampling: {samples: 1}}",
    )
    result = compare(load_case(CASE, changes), tmp_path)
    assert list(result.metrics["variants"]) == ["long", "coarse"]
    assert result.metrics["variants"]["long"]["observations"]["chi2"] > 0
    assert result.metrics["variants"]["long"]["a"]["relative_l2"] is None


def test_comparing_again_reads(case, tmp_path):
    """A complete comparison is left as it is, and gives the same metrics."""
    first = compare(case, tmp_path)
    before = files(tmp_path)
    assert compare(case, tmp_path).metrics == first.metrics
    assert files(tmp_path) == before


def test_an_interrupted_comparison_goes_on_and_ends_the_same(case, tmp_path):
    """Stopped in its second variant, it keeps the first, and ends with the samples of an undisturbed one."""

    class Interrupt(Exception):
        pass

    def interrupt(done: int, total: int, what: str) -> None:
        if what.startswith("more"):
            raise Interrupt

    with pytest.raises(Interrupt):
        compare(case, tmp_path / "resumed", progress=interrupt)
    kept = files(tmp_path / "resumed" / "few")
    assert not (tmp_path / "resumed" / "metrics.json").exists()
    compare(case, tmp_path / "resumed")
    assert files(tmp_path / "resumed" / "few") == kept
    compare(case, tmp_path / "undisturbed")
    for name in ("few", "more"):
        one, two = (runs.load(tmp_path / kind / name / "posterior.nc") for kind in ("resumed", "undisturbed"))
        assert np.array_equal(one.fields["u"], two.fields["u"])


def test_another_case_is_refused_with_the_difference(pdediff, tmp_path, capsys):
    """A changed key, of the case or of a variant, is named, old and new; nothing is touched. --force starts anew."""
    base = ["compare", str(CASE), "--out", str(tmp_path), "--quiet", *options((*SYNTHETIC, *TWO))]
    assert pdediff(base) == 0
    before = files(tmp_path)
    assert pdediff([*base, "--set", "sampling.seed=4"]) == 2
    assert "sampling.seed: 3 -> 4" in capsys.readouterr().err
    assert pdediff([*base, "--set", "compare.few.sampling.samples=3"]) == 2
    assert "compare.few.sampling.samples: 2 -> 3" in capsys.readouterr().err
    assert files(tmp_path) == before
    assert pdediff([*base, "--set", "compare.few=null", "--set", "compare.new={}", "--force"]) == 0
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"figures", "more", "new"}


def test_a_folder_of_something_else_is_refused(case, tmp_path):
    """Somebody's files and a run's folder are left alone, with --force too."""
    (tmp_path / "thesis.tex").write_text("important")
    for force in (False, True):
        with pytest.raises(InputError, match="holds no comparison"):
            compare(case, tmp_path, force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    runs.run(case, tmp_path / "run")
    before = files(tmp_path)
    for force in (False, True):
        with pytest.raises(InputError, match="not the manifest of a pdediff comparison"):
            compare(case, tmp_path / "run", force=force)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ((), "has no variants"),
        (("compare.good={}", "compare.figures={}"), "compare.figures: is the name of a file"),
        (("compare.good={}", "compare.bad={physics: surrogate}"), "not available"),
        (("compare.good={}", "compare.bad={prior: {weights: nowhere.safetensors}}"), "nowhere"),
    ],
)
def test_all_variants_are_checked_before_the_first_runs(tmp_path, changes, message):
    """Whatever is wrong with the last variant is found at once; no folder is made."""
    with pytest.raises(InputError, match=message):
        compare(load_case(CASE, (*SMALL, *changes)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_variant_that_fails_is_listed_and_the_others_go_on(pdediff, tmp_path, capsys, monkeypatch):
    """Exit code 1, the variant and its reason on standard error, metrics of the others; a second start tries again."""
    plain = runs.run

    def diverging(variant, folder, *args, **kwargs):
        if folder.name == "few":
            raise ConvergenceError("CG: relative residual 0.1 after 500 iterations")
        return plain(variant, folder, *args, **kwargs)

    arguments = ["compare", str(CASE), "--out", str(tmp_path), "--quiet", *options((*SYNTHETIC, *TWO))]
    monkeypatch.setattr(runs, "run", diverging)
    assert pdediff(arguments) == 1
    assert capsys.readouterr().err == "pdediff: few: CG: relative residual 0.1 after 500 iterations\n"
    assert list(json.loads((tmp_path / "metrics.json").read_text())["variants"]) == ["more"]
    assert "few" in json.loads((tmp_path / "manifest.json").read_text())["failed"]
    assert "CG: relative residual" in (tmp_path / "report.html").read_text()
    monkeypatch.setattr(runs, "run", plain)
    assert pdediff(arguments) == 0
    assert list(json.loads((tmp_path / "metrics.json").read_text())["variants"]) == ["few", "more"]


def test_only_some_variants(pdediff, case, tmp_path, capsys):
    """`--only` runs one; what is finished stays in the metrics; an unknown name is refused with the nearest one."""
    assert list(compare(case, tmp_path, only=["more"]).metrics["variants"]) == ["more"]
    assert not (tmp_path / "few").exists()
    assert list(compare(case, tmp_path, only=["few"]).metrics["variants"]) == ["few", "more"]
    arguments = ["compare", str(CASE), "--out", str(tmp_path), "--only", "mor", *options((*SYNTHETIC, *TWO))]
    assert pdediff(arguments) == 2
    assert "did you mean 'more'" in capsys.readouterr().err


def test_dry_run_writes_nothing(pdediff, tmp_path, capsys):
    """`--dry-run` names the variants; `--seed` and `--problems` together are a contradiction."""
    arguments = ["compare", str(CASE), "--out", str(tmp_path / "out"), *options((*SYNTHETIC, *TWO))]
    assert pdediff([*arguments, "--dry-run"]) == 0
    assert "would run few, more" in capsys.readouterr().out
    assert pdediff([*arguments, "--problems", "2", "--seed", "1"]) == 2
    assert "contradict" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_paired_statistics_over_problems(pdediff, tmp_path, capsys):
    """Means, differences and standard errors are those of the problems' metrics; a second call only reads them."""
    arguments = ["compare", str(CASE), "--out", str(tmp_path), "--problems", "3", *options((*SYNTHETIC, *TWO))]
    assert pdediff(arguments) == 0
    table = capsys.readouterr().out
    assert "darcy-csv, 3 problems" in table
    assert "more − few" in table
    summary = json.loads((tmp_path / "metrics.json").read_text())
    problems = [json.loads((tmp_path / f"problem-{n}" / "metrics.json").read_text())["variants"] for n in (1, 2, 3)]
    few, more = (np.array([problem[name]["u"]["relative_l2"] for problem in problems]) for name in ("few", "more"))
    assert summary["variants"]["few"]["u"]["relative_l2"] == pytest.approx(few.mean())
    assert summary["variants"]["few"]["u"]["coverage_90"] is None  # two samples give no 90 % interval
    assert summary["averages"]["more"]["u"]["relative_l2"]["standard_error"] == pytest.approx(more.std(ddof=1) / 3**0.5)
    (difference,) = summary["differences"]
    assert (difference["from"], difference["of"]) == ("few", "more")
    row = difference["mean"]["u"]["relative_l2"]
    assert row["mean"] == pytest.approx((more - few).mean())
    assert row["standard_error"] == pytest.approx((more - few).std(ddof=1) / 3**0.5)
    assert len(set(few)) == 3  # another truth, other sensors, other noise each
    assert (tmp_path / "figures" / "paired.png").read_bytes().startswith(b"\x89PNG")
    below = {path: time for path, time in files(tmp_path).items() if path.parent != tmp_path}
    assert paired(CASE, [1, 2, 3], tmp_path, (*SYNTHETIC, *TWO)) == summary
    after = files(tmp_path)
    assert all(after[path] == time for path, time in below.items() if path.name != "paired.png")


def test_what_can_be_made_again_is(case, tmp_path, no_drawing):
    """A report or figures that were deleted, of the comparison or of a variant, are back; no sample is drawn."""
    first = compare(case, tmp_path)
    before = set(files(tmp_path))
    no_drawing()
    for lost in ("report.html", "figures/comparison.png", "few/report.html", "few/figures/fields.png"):
        (tmp_path / lost).unlink()
        assert compare(case, tmp_path).metrics == first.metrics
        assert set(files(tmp_path)) == before


def test_force_after_a_kill_while_forcing(case, tmp_path):
    """A variant's folder without its manifest is cleared by its name; the user's own folders stay."""
    expected = compare(case, tmp_path)
    (tmp_path / "few/manifest.json").unlink()
    with pytest.raises(InputError, match="few: is not empty and holds no run"):
        compare(case, tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/manifest.json").write_text("{}")
    again = compare(case, tmp_path, force=True).metrics
    assert again["variants"]["few"]["a"] == expected.metrics["variants"]["few"]["a"]
    assert (tmp_path / "mine/manifest.json").read_text() == "{}"


def test_a_kill_while_forcing_leaves_an_unfinished_comparison(case, tmp_path, monkeypatch):
    """Whichever file was the last to be removed: what is left goes on, with or without --force, to the same end."""
    expected = compare(case, tmp_path / "whole").metrics["variants"]
    unlink = Path.unlink

    class Kill(BaseException):
        pass

    for number in (2, 5, 9):
        out, calls = tmp_path / f"out-{number}", []
        shutil.copytree(tmp_path / "whole", out)

        def killed(path: Path, missing_ok: bool = False, calls: list = calls, number: int = number) -> None:
            if path.name[0] != ".":  # a lock or a part
                calls.append(path)
                if len(calls) == number:
                    raise Kill
            unlink(path, missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", killed)
            with pytest.raises(Kill):
                compare(case, out, force=True)
        variants = compare(case, out, force=number % 2 == 0).metrics["variants"]
        assert {name: entry["u"] for name, entry in variants.items()} == {
            name: entry["u"] for name, entry in expected.items()
        }


def test_forcing_some_variants_keeps_the_others(pdediff, case, tmp_path, capsys):
    """--force --only begins these anew; of another case nothing could stay, so that is refused, in one line."""
    compare(case, tmp_path)
    before = files(tmp_path)
    assert list(compare(case, tmp_path, force=True, only=["few"]).metrics["variants"]) == ["few", "more"]
    after = files(tmp_path)
    assert set(after) == set(before)
    assert all(after[path] == before[path] for path in before if path.parent == tmp_path / "more")
    assert after[tmp_path / "few/posterior.nc"] > before[tmp_path / "few/posterior.nc"]
    arguments = ["compare", str(CASE), "--out", str(tmp_path), "--force", "--only", "few"]
    for more in ([], ["--dry-run"]):
        assert pdediff([*arguments, *more, *options((*SYNTHETIC, *TWO, "sampling.seed=4"))]) == 2
        error = capsys.readouterr().err
        assert "sampling.seed: 3 -> 4); choose another --out, or --force without --only to start anew" in error
        assert error.count("\n") == 1
    assert files(tmp_path) == after


def test_interrupted_says_where(case, tmp_path):
    """The comparison's folder, the variant or problem it was at; the next start goes on."""

    def stop_at(path: Path) -> bool:
        return path.exists()

    rest = "the same command goes on from there"
    out = tmp_path / "one"
    with pytest.raises(Interrupted) as caught:
        compare(case, out, stop=partial(stop_at, out / "more/manifest.json"))
    assert str(caught.value) == f"{out}: interrupted in variant more, 2 of 2; {rest}"
    assert list(compare(case, out).metrics["variants"]) == ["few", "more"]
    out = tmp_path / "many"
    with pytest.raises(Interrupted) as caught:
        paired(CASE, [1, 2], out, (*SYNTHETIC, *TWO), stop=partial(stop_at, out / "problem-2/few/manifest.json"))
    assert str(caught.value) == f"{out}: interrupted in problem 2, 2 of 2; {rest}"


def test_problems_again_draw_nothing(pdediff, tmp_path, capsys, no_drawing):
    """Finished problems are read, whatever is in the summary; --only leaves it incomplete; --force begins anew."""
    arguments = ["compare", str(CASE), "--out", str(tmp_path), "--problems", "1", *options((*SYNTHETIC, *TWO))]
    assert pdediff([*arguments, "--only", "few"]) == 0
    assert not json.loads((tmp_path / "manifest.json").read_text())["complete"]
    assert pdediff(arguments) == 0
    assert json.loads((tmp_path / "manifest.json").read_text())["complete"]
    summary = json.loads((tmp_path / "metrics.json").read_text())
    (tmp_path / "metrics.json").write_text("{}")
    first = files(tmp_path / "problem-1")
    assert pdediff([*arguments, "--force", "--only", "few", "--quiet"]) == 0
    second = files(tmp_path / "problem-1")
    changed = {path.parent.name for path in first if path.name == "posterior.nc" and first[path] != second[path]}
    assert changed == {"few"}
    no_drawing()
    assert pdediff(arguments) == 0
    again = json.loads((tmp_path / "metrics.json").read_text())
    assert again["variants"]["more"] == summary["variants"]["more"]
    assert files(tmp_path / "problem-1") == second
    capsys.readouterr()
    assert pdediff([*arguments, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("would read few, more on problems 1 to 1")


def test_dry_run_with_problems_refuses_as_the_run_would(pdediff, tmp_path, capsys):
    """A folder of something else, and a problem's folder of something else: the same line, with and without."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/thesis.tex").write_text("important")
    paired(CASE, [1], tmp_path / "out", (*SYNTHETIC, *TWO))
    (tmp_path / "out/problem-2").mkdir()
    (tmp_path / "out/problem-2/thesis.tex").write_text("important")
    for name, place in (("thesis", "thesis"), ("out", "out/problem-2")):
        out = str(tmp_path / name)
        arguments = ["compare", str(CASE), "--out", out, "--problems", "2", "--quiet", *options((*SYNTHETIC, *TWO))]
        errors = []
        for more in ([], ["--dry-run"]):
            assert pdediff([*arguments, *more]) == 2
            errors.append(capsys.readouterr().err)
        assert errors[0] == errors[1]
        assert errors[0].startswith(f"{tmp_path / place}: is not empty and holds no comparison")


def test_one_process_at_a_time(case, tmp_path):
    """While a process has the folder, another is refused."""
    with locked(tmp_path / "out"), pytest.raises(InputError, match="is in use by another pdediff process"):
        compare(case, tmp_path / "out")


def test_problems_of_another_case_are_refused(tmp_path):
    """A folder of paired comparisons belongs to its case, whatever the number of problems."""
    paired(CASE, [1], tmp_path, (*SYNTHETIC, *TWO))
    with pytest.raises(InputError, match=r"sampling\.seed: 3 -> 4"):
        paired(CASE, [1, 2], tmp_path, (*SYNTHETIC, *TWO, "sampling.seed=4"))
    with pytest.raises(InputError, match="not the manifest of a pdediff comparison"):
        compare(load_case(CASE, (*SYNTHETIC, *TWO)), tmp_path)


def test_pairs_leave_out_the_problems_where_one_failed():
    """By hand: the second problem has no variant b, so b − a is that of the other two; nulls stay nulls."""

    def entry(crps: float) -> dict:
        return {"a": {"crps": crps, "coverage_90": None, "reliability": None}}

    result = statistics({"a": [entry(1.0), entry(9.0), entry(3.0)], "b": [entry(0.5), None, entry(1.5)]})
    assert result["variants"]["a"]["a"] == {"crps": pytest.approx(13 / 3), "coverage_90": None, "reliability": None}
    assert result["variants"]["b"]["a"]["crps"] == 1.0
    assert result["differences"] == [
        {"from": "a", "of": "b", "mean": {"a": {"crps": {"mean": -1.0, "standard_error": 0.5, "count": 2}}}}
    ]
    assert statistics({"a": [entry(1.0)], "b": [None]})["differences"] == [{"from": "a", "of": "b", "mean": {}}]


def test_every_pair_has_its_difference():
    """All six pairs of four variants, the later less the earlier; the main ones are steps, and those to the last."""

    def column(crps: float) -> list:
        return [{"a": {"crps": crps, "reliability": None}}]

    rows = statistics({"a": column(1.0), "b": column(2.0), "c": column(4.0), "d": column(8.0)})["differences"]
    means = {row["from"] + row["of"]: row["mean"]["a"]["crps"]["mean"] for row in rows}
    assert means == {"ab": 1.0, "ac": 3.0, "ad": 7.0, "bc": 2.0, "bd": 6.0, "cd": 4.0}
    assert ["".join(pair) for pair in main_pairs(list("abcd"))] == ["ab", "bc", "cd", "ad", "bd"]
    assert main_pairs(["a"]) == []
