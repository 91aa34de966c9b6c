"""One case on many problems: how good, and how honest, is it on average?

Problem N is the case with `--seed N`: another truth, other sensors, other noise. Each is a run in a folder of its own,
so a repetition that was interrupted or killed goes on where it stopped. Metrics are averaged with their standard error
over problems; phase probabilities are pooled before they are compared with frequencies.

    DIR/problem-N/       a run (see `studies.run`)
    DIR/metrics.json     mean, standard error and count of every metric; pooled reliability
    DIR/figures/reliability.png
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pdediff.cases.load import load_case
from pdediff.posterior.files import clear_parts, is_left_behind, locked, write_json
from pdediff.posterior.metrics import pooled_reliability
from pdediff.report.calibration import reliability_figure
from pdediff.report.figures import save_figure
from pdediff.solvers.errors import InputError
from pdediff.studies.run import run
from pdediff.studies.sample import Progress, Stop

PROBLEM = "problem-"


def repeat(
    case: Path,
    seeds: Sequence[int],
    folder: Path,
    overrides: Sequence[str] = (),
    device: str = "cpu",
    progress: Progress = lambda done, total, what: None,
    stop: Stop = lambda: False,
) -> dict[str, Any]:
    """Run the case file on the problems `seeds`; return and write the averaged metrics.

    Raises InputError as `load_case` and `run` do and when `folder` holds something else; Interrupted as `run` does.
    """
    cases = [load_case(case, overrides, seed) for seed in seeds]  # all of them are checked before the first runs
    _check_folder(folder)
    with locked(folder):
        entries = []
        for done, (seed, loaded) in enumerate(zip(seeds, cases, strict=True)):
            progress(done, len(seeds), f"problem {seed}")
            result = run(loaded, folder / f"{PROBLEM}{seed}", device, stop=stop)
            entries.append(result.metrics["variants"]["run"])
        progress(len(seeds), len(seeds), "done")
        reliability = _pooled(entries)
        summary: dict[str, Any] = {
            "case": cases[0].name,
            "problems": list(seeds),
            "mean": averaged(entries),
            "reliability": reliability,
        }
        write_json(summary, folder / "metrics.json")
        if reliability is not None:
            (folder / "figures").mkdir(exist_ok=True)
            clear_parts(folder / "figures")
            save_figure(reliability_figure(reliability), folder / "figures" / "reliability.png")
    return summary


def averaged(entries: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """{section: {metric: {"mean", "standard_error", "count"}}} over problems, without tables and nulls.

    Of a parameter that was inferred along, its posterior mean is averaged.
    """
    table: dict[str, dict[str, Any]] = {}
    for section, metrics in entries[0].items():
        for name in metrics or ():
            values = [entry[section][name] for entry in entries]
            if section == "parameters":
                values = [value["mean"] for value in values]
            numbers = np.array([v for v in values if isinstance(v, int | float)], dtype=float)
            if len(numbers):
                error = float(numbers.std(ddof=1) / len(numbers) ** 0.5) if len(numbers) > 1 else None
                row = {"mean": float(numbers.mean()), "standard_error": error, "count": len(numbers)}
                table.setdefault(section, {})[name] = row
    return table


def _check_folder(folder: Path) -> None:
    """Raise InputError unless the folder is new, empty, or a repetition's."""
    if not folder.exists():
        return
    content = [path for path in folder.iterdir() if not is_left_behind(path)] if folder.is_dir() else [folder]
    if content and not any(path.name.startswith(PROBLEM) for path in content):
        raise InputError(f"{folder}: is not empty and holds no repetition of pdediff; choose another --out")


def _pooled(entries: Sequence[dict[str, dict[str, Any]]]) -> dict[str, list] | None:
    tables = [entry["a"]["reliability"] for entry in entries if entry["a"]["reliability"] is not None]
    return pooled_reliability(tables) if tables else None
