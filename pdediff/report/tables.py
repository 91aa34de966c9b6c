"""Metrics as a table: for the terminal (rich) and as Markdown.

Each takes the content of a `metrics.json`. A row is left out where no column has a number for it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

Rows: TypeAlias = list[list[str]]
Format: TypeAlias = Callable[[float], str]


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %" if abs(value) < 0.0995 else f"{100 * value:.1f} %"


def _number(value: float) -> str:
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e3 or value == 0 else f"{value:.2e}"


def _integer(value: float) -> str:
    return f"{value:,.0f}"


QUANTITIES: tuple[tuple[str, str, str, Format], ...] = (
    ("a", "sample_error_rate", "a: wrong phase, single sample", _percent),
    ("a", "error_rate", "a: wrong phase, posterior mean", _percent),
    ("a", "sample_relative_l2", "a: relative L2, single sample", _percent),
    ("a", "relative_l2", "a: relative L2, posterior mean", _percent),
    ("a", "crps", "a: CRPS / sd of truth", _number),
    ("a", "coverage_90", "a: coverage of 90 % intervals", _percent),
    ("a", "brier", "a: Brier score", _number),
    ("u", "sample_relative_l2", "u: relative L2, single sample", _percent),
    ("u", "relative_l2", "u: relative L2, posterior mean", _percent),
    ("u", "crps", "u: CRPS / sd of truth", _number),
    ("u", "coverage_90", "u: coverage of 90 % intervals", _percent),
    ("observations", "chi2", "data: chi² (1 is right)", _number),
    ("observations", "rmse", "data: RMSE", _number),
    ("pde", "relative_residual", "PDE: relative residual, largest", _number),
    ("cost", "seconds_per_sample", "seconds a sample", _number),
    ("cost", "network_evaluations", "network evaluations a sample", _integer),
    ("cost", "pde_solves", "PDE solves a sample", _integer),
    ("cost", "peak_memory_mb", "peak memory, MB", _integer),
)
"""(section, key, label, format) of every number in a variant's metrics, in the order of the table."""


def metrics_rows(summary: Mapping[str, Any]) -> Rows:
    """Return the table of a run or a comparison: a heading, then a row a quantity; a column a variant."""
    variants = summary["variants"]

    def cell(variant: Mapping[str, Any], section: str, key: str, show: Format) -> str | None:
        value = variant[section][key]
        return None if value is None else show(value)

    names = [str(summary["case"])] if len(variants) == 1 else list(variants)
    return [["", *names], *_filled(list(variants.values()), cell)]


def averages_rows(summary: Mapping[str, Any]) -> Rows:
    """Return the table of a repetition: mean ± standard error over the problems that have the number."""

    def cell(mean: Mapping[str, Any], section: str, key: str, show: Format) -> str | None:
        row = mean.get(section, {}).get(key)
        if row is None:
            return None
        error = row["standard_error"]
        return show(row["mean"]) if error is None else f"{show(row['mean'])} ± {show(error)}"

    heading = f"{summary['case']}, {len(summary['problems'])} problems"
    return [["", heading], *_filled([summary["mean"]], cell)]


def _filled(columns: Sequence[Any], cell: Callable[[Any, str, str, Format], str | None]) -> Rows:
    """Return a row for each quantity that a column has; the other columns show a dash."""
    rows = []
    for section, key, label, show in QUANTITIES:
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


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print records that share their keys, a line a record; numbers in three digits."""
    keys = list(rows[0]) if rows else []
    body = [[_number(v) if isinstance(v, float) else str(v) for v in (row[key] for key in keys)] for row in rows]
    print_table([keys, *body])
