"""The command ``benchmark``."""

import json
from typing import Annotated, Literal

import typer

from pdediff.cli.options import Json


def benchmark(
    what: Annotated[
        Literal["solver", "guidance"],
        typer.Argument(
            help="solver: batched solves and adjoints against a sparse factorisation. guidance: what one guided step "
            "costs beyond the network and the operator."
        ),
    ] = "solver",
    as_json: Json = False,
) -> None:
    """Time the parts that everything else waits for."""
    if what == "solver":
        from pdediff.solvers.benchmark import solver_benchmark

        rows = solver_benchmark()
    else:
        from pdediff.guidance.overhead import guidance_overhead

        rows = guidance_overhead()
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    from pdediff.report.tables import print_rows

    print_rows(rows)
