"""Metrics as a table: for the terminal (rich) and as Markdown.

Each takes the content of a `metrics.json`. A row is left out where no column has a number for it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

Rows: TypeAlias = list[list[str]]
Format: TypeAlias = Callable[[float], str]
Quantities: TypeAlias = tuple[tuple[str, str, str, Format], ...]


def percent(value: float) -> str:
    """Return a share in per cent, with two digits after the point below 10 %."""
    return f"{100 * value:.2f} %" if abs(value) < 0.0995 else f"{100 * value:.1f} %"


def number(value: float) -> str:
    """Return a number in three digits, with a power of ten where it is small or large."""
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e3 or value == 0 else f"{value:.2e}"


def integer(value: float) -> str:
    """Return a number without digits after the point."""
    return f"{value:,.0f}"


QUANTITIES: Quantities = (
    ("a", "sample_error_rate", "a: wrong phase, single sample", percent),
    ("a", "error_rate", "a: wrong phase, posterior mean", percent),
    ("a", "sample_relative_l2", "a: relative L2, single sample", percent),
    ("a", "relative_l2", "a: relative L2, posterior mean", percent),
    ("a", "crps", "a: CRPS / sd of truth", number),
    ("a", "coverage_90", "a: coverage of 90 % intervals", percent),
    ("a", "brier", "a: Brier score", number),
    ("u", "sample_relative_l2", "u: relative L2, single sample", percent),
    ("u", "relative_l2", "u: relative L2, posterior mean", percent),
    ("u", "crps", "u: CRPS / sd of truth", number),
    ("u", "coverage_90", "u: coverage of 90 % intervals", percent),
    ("observations", "chi2", "data: chi² (1 is right)", number),
    ("observations", "rmse", "data: RMSE", number),
    ("pde", "relative_residual", "PDE: relative residual, largest", number),
    ("cost", "seconds_per_sample", "seconds a sample", number),
    ("cost", "network_evaluations", "network evaluations a sample", integer),
    ("cost", "pde_solves", "PDE solves a sample", integer),
    ("cost", "peak_memory_mb", "peak memory, MB", integer),
)
"""(section, key, label, format) of every number in a variant's metrics, in the order of the table."""

MAIN: Quantities = tuple(
    row for row in QUANTITIES if row[1] not in ("brier", "rmse", "network_evaluations", "pde_solves", "peak_memory_mb")
)
"""Those that a comparison on many problems prints."""


def metrics_rows(summary: Mapping[str, Any]) -> Rows:
    """Return the table of a run or a comparison: a heading, then a row a quantity; a column a variant."""
    variants = summary["variants"]

    def cell(variant: Mapping[str, Any], section: str, key: str, show: Format) -> str | None:
        value = variant[section][key]
        return None if value is None else show(value)

    names = [str(summary["case"])] if len(variants) == 1 else list(variants)
    return [["", *names], *_filled(list(variants.values()), cell), *_inferred(list(variants.values()))]


def _inferred(variants: Sequence[Mapping[str, Any]]) -> Rows:
    """A row for each parameter that was inferred along: mean ± standard deviation, beside its true value."""
    columns = [variant.get("parameters") or {} for variant in variants]
    rows = []
    for name in dict.fromkeys(name for column in columns for name in column):
        truth = next((column[name]["truth"] for column in columns if name in column), None)
        known = "" if truth is None else f" (truth {number(truth)})"
        cells = [
            with_error(column[name]["mean"], column[name]["sd"], number) if name in column else "–"
            for column in columns
        ]
        rows.append([f"{name}, inferred{known}", *cells])
    return rows


def averages_rows(summary: Mapping[str, Any]) -> Rows:
    """Return the table of a repetition: mean ± standard error over the problems that have the number."""
    heading = f"{summary['case']}, {len(summary['problems'])} problems"
    return [["", heading], *_filled([summary["mean"]], _average)]


def paired_rows(summary: Mapping[str, Any]) -> Rows:
    """Return the table of a comparison on many problems: mean ± standard error of the main numbers of each variant."""
    averages = summary["averages"]
    return [["", *averages], *_filled(list(averages.values()), _average, MAIN)]


def differences_rows(summary: Mapping[str, Any]) -> Rows:
    """Return the table of paired differences; a star marks those that exceed two standard errors."""
    differences = summary["differences"]
    heading = [f"{pair['of']} \N{MINUS SIGN} {pair['from']}" for pair in differences]
    return [["", *heading], *_filled([pair["mean"] for pair in differences], _difference, MAIN)]


def with_error(mean: float, error: float | None, show: Format) -> str:
    """Return "mean ± error", both with the digits that two of the error's allow; the mean alone without an error."""
    if not error:
        return show(mean)
    factor, unit = (100, " %") if show is percent else (1, "")
    mean, error, size = factor * mean, factor * error, max(abs(factor * mean), factor * error)
    power = 0 if 1e-3 <= size < 1e5 else math.floor(math.log10(size))
    digits = max(0, 1 - math.floor(math.log10(error)) + power)
    text = f"{mean / 10.0**power:.{digits}f} ± {error / 10.0**power:.{digits}f}"
    return f"({text})e{power:+03d}" if power else f"{text}{unit}"


def _average(mean: Mapping[str, Any], section: str, key: str, show: Format) -> str | None:
    row = mean.get(section, {}).get(key)
    return None if row is None else with_error(row["mean"], row["standard_error"], show)


def _difference(mean: Mapping[str, Any], section: str, key: str, show: Format) -> str | None:
    text = _average(mean, section, key, show)
    if text is None:
        return None
    row = mean[section][key]
    star = "*" if row["standard_error"] is not None and abs(row["mean"]) > 2 * row["standard_error"] else ""
    return ("+" if row["mean"] > 0 else "") + text.replace("-", "\N{MINUS SIGN}") + star


def _filled(
    columns: Sequence[Any], cell: Callable[[Any, str, str, Format], str | None], quantities: Quantities = QUANTITIES
) -> Rows:
    """Return a row for each quantity that a column has; the other columns show a dash."""
    rows = []
    for section, key, label, show in quantities:
        cells = [cell(column, section, key, show) for column in columns]
        if any(text is not None for text in cells):
            rows.append([label, *(text or "–" for text in cells)])
    return rows


def markdown(rows: Rows) -> str:
    """Return rows, the first of them the heading, as a Markdown table; numbers stand to the right."""
    heading, *body = ([text.replace("|", "\\|") for text in row] for row in rows)
    ruler = ["---", *("---:" for _ in heading[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (heading, ruler, *body)) + "\n"


def print_table(rows: Rows, console: Console | None = None) -> None:
    """Print rows, the first of them the heading, on the terminal; numbers stand to the right."""
    heading, *body = rows
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, text in enumerate(heading):
        table.add_column(text, justify="right" if i else "left", overflow="fold")
    for row in body:
        table.add_row(*row)
    (console or Console(markup=False, highlight=False)).print(table)


def print_metrics(summary: Mapping[str, Any]) -> None:
    """Print the metrics of a run or a comparison."""
    print_table(metrics_rows(summary))


def print_averages(summary: Mapping[str, Any]) -> None:
    """Print the averaged metrics of a repetition."""
    print_table(averages_rows(summary))


def print_paired(summary: Mapping[str, Any]) -> None:
    """Print a comparison on many problems: the variants, and their paired differences."""
    console = Console(markup=False, highlight=False)
    console.print(f"{summary['case']}, {len(summary['problems'])} problems: mean ± standard error")
    print_table(paired_rows(summary), console)
    if summary["differences"]:
        console.print("\nDifferences on the same problem (* beyond two standard errors)")
        print_table(differences_rows(summary), console)


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print records that share their keys, a line a record; numbers in three digits."""
    keys = list(rows[0]) if rows else []
    body = [[number(v) if isinstance(v, float) else str(v) for v in (row[key] for key in keys)] for row in rows]
    print_table([keys, *body])
