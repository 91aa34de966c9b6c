"""The variants of a case on many problems: is one better than another, beyond chance?

Problem N is the case with `--seed N`, as for `studies.repeat`, and a comparison in a folder of its own. Problems differ
more than variants do, so variants are compared in pairs: the difference of two of them on the same problem, averaged
over problems, with its standard error.

    DIR/problem-N/       a comparison (see `studies.compare`)
    DIR/metrics.json     {"case", "problems", "failed"} and what `statistics` gives
    DIR/figures/paired.png, DIR/report.html, DIR/manifest.json
"""

from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pdediff.cases.load import load_case
from pdediff.posterior.files import clear_parts, locked, write_json
from pdediff.posterior.metrics import pooled_reliability
from pdediff.report.figures import save_figure
from pdediff.report.page import write_report
from pdediff.report.paired import paired_figure
from pdediff.studies.compare import FIGURES, chosen, claim, compare, finish, load_variants, read_manifest
from pdediff.studies.repeat import averaged
from pdediff.studies.run import check_device
from pdediff.studies.sample import Progress, Stop

MANIFEST_FORMAT = "pdediff paired comparison 1"
STEPS = 1000  # of a problem's progress

Entry = dict[str, dict[str, Any]]


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

    A problem on which a variant failed counts for the other variants, and for the pairs it is not in.

    Raises InputError as `load_case` and `compare` do, and Interrupted as `run` does.
    """
    case = load_case(path, overrides)
    cases = [load_case(path, overrides, seed) for seed in seeds]
    for problem in cases:  # all of them are checked before the first runs
        load_variants(problem)
    variants, wanted = load_variants(case), chosen(case, only)
    check_device(device)
    read_manifest(folder, MANIFEST_FORMAT, case, variants, force)
    entries: dict[str, list[Entry | None]] = {name: [] for name in variants if name in wanted}
    failed: dict[str, str] = {}
    with locked(folder):
        claim(folder, MANIFEST_FORMAT, case, variants, force)
        for i, (seed, problem) in enumerate(zip(seeds, cases, strict=True)):

            def on_progress(done: int, total: int, what: str, i: int = i, seed: int = seed) -> None:
                progress(i * STEPS + STEPS * done // total, len(seeds) * STEPS, f"problem {seed}, {what}")

            result = compare(problem, folder / f"problem-{seed}", device, False, on_progress, stop, only)
            for name, column in entries.items():
                column.append(result.metrics["variants"].get(name))
            failed |= {f"problem-{seed}/{name}": why for name, why in result.failed.items()}
        summary = {"case": case.name, "problems": list(seeds), **statistics(entries), "failed": failed}
        write_json(summary, folder / "metrics.json")
        (folder / FIGURES).mkdir(exist_ok=True)
        clear_parts(folder / FIGURES)
        figure = save_figure(paired_figure(entries), folder / FIGURES / "paired.png")
        write_report(folder / "report.html", case.resolved(), {}, summary, {}, {"": [figure]})
        finish(folder, failed, complete=not failed)
    return summary


def statistics(entries: dict[str, list[Entry | None]]) -> dict[str, Any]:
    """Averages of each variant over its problems, and of the differences between each variant and the one before it.

    `entries` are the metrics of each variant on the problems, None where it failed. The result has "variants" (means,
    null where there is none; reliability tables are pooled), "averages" (mean, standard error, count) and
    "differences", each {"from", "of", "mean": averages of of − from}.
    """
    known = {name: [entry for entry in column if entry is not None] for name, column in entries.items()}
    averages = {name: averaged(column) if column else {} for name, column in known.items()}
    differences = []
    for before, after in pairwise(entries):
        pairs = [(a, b) for a, b in zip(entries[before], entries[after], strict=True) if a and b]
        rows = [_difference(a, b) for a, b in pairs]
        differences.append({"from": before, "of": after, "mean": averaged(rows) if rows else {}})
    means = {name: _means(column, averages[name]) for name, column in known.items() if column}
    return {"variants": means, "averages": averages, "differences": differences}


def _difference(before: Entry, after: Entry) -> Entry:
    """after − before where both are numbers, else None."""

    def less(a: Any, b: Any) -> float | None:
        return b - a if isinstance(a, int | float) and isinstance(b, int | float) else None

    return {
        section: {key: less(before[section][key], after[section][key]) for key in after[section]} for section in after
    }


def _means(column: list[Entry], averages: dict[str, dict[str, Any]]) -> Entry:
    """An entry of `metrics.json` with the mean of every number; a key without one is null."""
    means = {
        section: {key: averages.get(section, {}).get(key, {}).get("mean") for key in values}
        for section, values in column[0].items()
    }
    tables = [entry["a"]["reliability"] for entry in column if entry["a"]["reliability"] is not None]
    means["a"]["reliability"] = pooled_reliability(tables) if tables else None
    return means
