"""Tables: which rows, which numbers, for the terminal and as Markdown."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from pdediff.report.tables import (
    averages_rows,
    markdown,
    metrics_rows,
    print_averages,
    print_metrics,
    print_rows,
    print_table,
)

FIELD: dict[str, Any] = dict.fromkeys(
    (
        "relative_l2",
        "sample_relative_l2",
        "error_rate",
        "sample_error_rate",
        "crps",
        "coverage_90",
        "brier",
        "reliability",
    )
)


def variant(**a: float) -> dict[str, dict[str, Any]]:
    return {
        "a": {**FIELD, **a},
        "u": {**FIELD, "relative_l2": 0.0213, "coverage_90": 0.8951},
        "observations": {"chi2": 1.04, "rmse": 7.53e-5, "groups": {}},
        "pde": {"relative_residual": 3.2e-11},
        "cost": {"seconds_per_sample": 3.14, "network_evaluations": 80, "pde_solves": 1210.4, "peak_memory_mb": None},
    }


def test_one_run_has_the_cases_name_and_only_rows_with_numbers() -> None:
    """Errors and coverage in per cent, residuals in powers of ten, counts whole; null keys make no row."""
    rows = metrics_rows({"case": "darcy-sparse", "variants": {"run": variant(error_rate=0.045)}})
    assert rows == [
        ["", "darcy-sparse"],
        ["a: wrong phase, posterior mean", "4.50 %"],
        ["u: relative L2, posterior mean", "2.13 %"],
        ["u: coverage of 90 % intervals", "89.5 %"],
        ["data: chi² (1 is right)", "1.04"],
        ["data: RMSE", "7.53e-05"],
        ["PDE: relative residual, largest", "3.20e-11"],
        ["seconds a sample", "3.14"],
        ["network evaluations a sample", "80"],
        ["PDE solves a sample", "1,210"],
    ]


def test_variants_stand_side_by_side() -> None:
    """A row appears if any variant has the number; the others show a dash."""
    rows = metrics_rows({"case": "c", "variants": {"none": variant(), "solver": variant(crps=0.12)}})
    assert rows[0] == ["", "none", "solver"]
    assert ["a: CRPS / sd of truth", "–", "0.12"] in rows


def test_averages_carry_their_standard_errors() -> None:
    """Mean ± standard error in the same unit; a single problem has no error; absent metrics make no row."""
    mean = {
        "a": {"error_rate": {"mean": 0.045, "standard_error": 0.002, "count": 20}},
        "observations": {"chi2": {"mean": 1.1, "standard_error": None, "count": 1}},
    }
    rows = averages_rows({"case": "c", "problems": list(range(20)), "mean": mean})
    assert rows == [
        ["", "c, 20 problems"],
        ["a: wrong phase, posterior mean", "4.50 ± 0.20 %"],
        ["data: chi² (1 is right)", "1.1"],
    ]


def test_markdown() -> None:
    """A heading, a ruler, aligned to the right from the second column on; bars in names are escaped."""
    assert markdown([["", "a|b"], ["x", "1"]]) == "|  | a\\|b |\n| --- | ---: |\n| x | 1 |\n"


def test_terminal_table_is_plain_text() -> None:
    """Names are printed as they are: "[bold]" in a case's name is no markup."""
    out = StringIO()
    print_table([["", "[bold]case"], ["chi²", "1.04"]], Console(file=out, markup=False, width=60))
    assert out.getvalue().splitlines() == ["      [bold]case", "chi²        1.04"]


def test_printers_write_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Each prints its table; no records print nothing that breaks."""
    print_metrics({"case": "darcy", "variants": {"run": variant()}})
    assert "chi²" in capsys.readouterr().out
    print_averages({"case": "darcy", "problems": [1], "mean": {}})
    assert "darcy, 1 problems" in capsys.readouterr().out
    print_rows([{"n": 64, "ratio": 5.2312}, {"n": 128, "ratio": 4.0}])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["n", "ratio"],
        ["64", "5.23"],
        ["128", "4"],
    ]
    print_rows([])
