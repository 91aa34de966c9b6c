"""The command ``benchmark``."""

import json

import typer

from pdediff.cli.options import Json


def benchmark(as_json: Json = False) -> None:
    """Time the batched solver and its adjoint against a sparse factorisation, in one run."""
    from pdediff.solvers.benchmark import solver_benchmark

    rows = solver_benchmark()
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    from pdediff.report.tables import print_rows

    print_rows(rows)
