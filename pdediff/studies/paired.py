"""The variants of a case on many problems: is one better than another, beyond chance?

Problem N is the case with `--seed N`, as for `studies.repeat`, and a comparison in a folder of its own. Problems differ
more than variants do, so variants are compared in pairs: the difference of two of them on the same problem, averaged
over problems, with its standard error.

    DIR/problem-N/       a comparison (see `studies.compare`)
    DIR/metrics.json     {"case", "problems", "failed"} and what `statistics` gives
    DIR/figures/paired.png, DIR/report.html, DIR/manifest.json
"""

from collections.abc import Collection, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from pdediff.cases.case import Case
from pdediff.cases.load import load_case
from pdediff.posterior.files import check_free, clear_parts, locked, write_json
from pdediff.posterior.metrics import pooled_reliability
from pdediff.report.figures import save_figure
from pdediff.report.page import write_report
from pdediff.report.paired import paired_figure
from pdediff.solvers.errors import Interrupted
from pdediff.studies import compare as comparisons
from pdediff.studies.compare import FIGURES, chosen, claim, clear, compare, finish, load_variants, read_manifest
from pdediff.studies.repeat import averaged
from pdediff.studies.run import check_device
from pdediff.studies.sample import Progress, Stop

MANIFEST_FORMAT = "pdediff paired comparison 1"
PROBLEM = "problem-"
STEPS = 1000  # of a problem's progress

Entry = dict[str, Any]


def paired(
    path: Path,
    seeds: Sequence[int],
    folder: Path,
    overrides: Sequence[str] = (),
    device: str = "cpu",
    force: bool = False,
    progress: Progress = lambda done, total, what: None,
    stop: Stop = lambda: False,
    only: Collection[str] = (),
) -> dict[str, Any]:
    """Compare the variants of the case file on the problems `seeds`; return and write the statistics.

    A problem on which a variant failed counts for the other variants, and for the pairs it is not in. `force` begins
    all problems in the folder anew, or the variants in `only` on all of them.

    Raises InputError as `check` and `compare` do, and Interrupted as `run` does.
    """
    case, problems = load_case(path, overrides), _problems(path, seeds, folder, overrides)
    _check(case, problems, folder, device, force, only)
    variants, wanted = load_variants(case), chosen(case, only)
    entries: dict[str, list[Entry | None]] = {name: [] for name in variants if name in wanted}
    failed: dict[str, str] = {}
    with locked(folder):
        read_manifest(folder, MANIFEST_FORMAT, case, variants, force, only)
        if force:
            clear(folder, _cleared(folder, only))
        claim(folder, MANIFEST_FORMAT, case, variants)
        for i, (seed, (part, problem)) in enumerate(zip(seeds, problems.items(), strict=True)):

            def on_progress(done: int, total: int, what: str, i: int = i, seed: int = seed) -> None:
                progress(i * STEPS + STEPS * done // total, len(seeds) * STEPS, f"problem {seed}, {what}")

            try:
                result = compare(problem, part, device, False, on_progress, stop, only)
            except Interrupted:
                where = f"problem {seed}, {i + 1} of {len(seeds)}"
                raise Interrupted(f"{folder}: interrupted in {where}; the same command goes on from there") from None
            for name, column in entries.items():
                column.append(result.metrics["variants"].get(name))
            failed |= {f"{part.name}/{name}": why for name, why in result.failed.items()}
        summary = {"case": case.name, "problems": list(seeds), **statistics(entries), "failed": failed}
        write_json(summary, folder / "metrics.json")
        (folder / FIGURES).mkdir(exist_ok=True)
        clear_parts(folder / FIGURES)
        figure = save_figure(paired_figure(entries), folder / FIGURES / "paired.png")
        shown = with_differences(summary, list(pairwise(entries)))
        write_report(folder / "report.html", case.resolved(), {}, shown, {}, {"": [figure]})
        finish(folder, failed, complete=not failed and len(entries) == len(variants))
    return summary


def check(
    path: Path,
    seeds: Sequence[int],
    folder: Path,
    overrides: Sequence[str] = (),
    device: str = "cpu",
    force: bool = False,
    only: Collection[str] = (),
) -> bool:
    """Whether `folder` holds the comparisons on all these problems, complete. Nothing is written.

    Raises InputError as `load_case` does for every problem, and as `studies.compare.check` does for every folder.
    """
    problems = _problems(path, seeds, folder, overrides)
    return _check(load_case(path, overrides), problems, folder, device, force, only)


def _problems(path: Path, seeds: Sequence[int], folder: Path, overrides: Sequence[str]) -> dict[Path, Case]:
    """The problems, each with its folder."""
    return {folder / f"{PROBLEM}{seed}": load_case(path, overrides, seed) for seed in seeds}


def _check(
    case: Case, problems: dict[Path, Case], folder: Path, device: str, force: bool, only: Collection[str]
) -> bool:
    variants = {part: load_variants(problem) for part, problem in problems.items()}
    chosen(case, only)
    check_device(device)
    read_manifest(folder, MANIFEST_FORMAT, case, load_variants(case), force, only)
    check_free(folder)
    if force and not only:
        for part in _cleared(folder, only):
            check_free(part)
        return False
    finished = [
        comparisons.check(problem, variants[part], part, device, force, only) for part, problem in problems.items()
    ]
    return all(finished)


def _cleared(folder: Path, only: Collection[str]) -> list[Path]:
    """The folders that `force` clears: all problems, or the variants in `only` on all of them."""
    problems = [path for path in folder.glob(f"{PROBLEM}*") if path.name.removeprefix(PROBLEM).isdigit()]
    return [path / name for path in problems for name in only] if only else problems


def statistics(entries: dict[str, list[Entry | None]]) -> dict[str, Any]:
    """Averages of each variant over its problems, and of the differences of every pair of variants.

    `entries` are the metrics of each variant on the problems, None where it failed. The result has "variants" (means,
    null where there is none; reliability tables are pooled), "averages" (mean, standard error, count) and
    "differences", each {"from", "of", "mean": averages of of − from}, "of" being the later variant.
    """
    known = {name: [entry for entry in column if entry is not None] for name, column in entries.items()}
    averages = {name: averaged(column) if column else {} for name, column in known.items()}
    differences = []
    for before, after in combinations(entries, 2):
        pairs = [(a, b) for a, b in zip(entries[before], entries[after], strict=True) if a and b]
        rows = [_difference(a, b) for a, b in pairs]
        differences.append({"from": before, "of": after, "mean": averaged(rows) if rows else {}})
    means = {name: _means(column, averages[name]) for name, column in known.items() if column}
    return {"variants": means, "averages": averages, "differences": differences}


def main_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of variants that say most: each with the one before it, then the last with all the others."""
    steps = list(pairwise(names))
    return steps + [(name, names[-1]) for name in names[:-1] if (name, names[-1]) not in steps]


def with_differences(summary: dict[str, Any], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The summary with the differences of these pairs (from, of) only, in this order."""
    found = {(row["from"], row["of"]): row for row in summary["differences"]}
    return summary | {"differences": [found[pair] for pair in pairs]}


def _difference(before: Entry, after: Entry) -> Entry:
    """after − before where both are numbers, else None."""

    def less(a: Any, b: Any) -> float | None:
        return b - a if isinstance(a, int | float) and isinstance(b, int | float) else None

    return {
        section: {key: less(before[section][key], after[section][key]) for key in after[section]}
        for section in after
        if section != "parameters"
    }


def _means(column: list[Entry], averages: dict[str, dict[str, Any]]) -> Entry:
    """An entry of `metrics.json` with the mean of every number; a key without one is null."""
    means: Entry = {
        section: {key: averages.get(section, {}).get(key, {}).get("mean") for key in values}
        for section, values in column[0].items()
        if section != "parameters"
    }
    inferred = {
        name: {"mean": row["mean"], "sd": None, "truth": None} for name, row in averages.get("parameters", {}).items()
    }
    means["parameters"] = inferred or None
    tables = [entry["a"]["reliability"] for entry in column if entry["a"]["reliability"] is not None]
    means["a"]["reliability"] = pooled_reliability(tables) if tables else None
    return means
