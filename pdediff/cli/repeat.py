"""The command ``repeat``."""

from pathlib import Path
from typing import Annotated

import typer

from pdediff.cli.interrupt import interruptible
from pdediff.cli.options import CaseFile, Device, Json, Set
from pdediff.cli.progress import progress_bar


def repeat(
    case: CaseFile,
    problems: Annotated[int, typer.Option("--problems", min=1, help="Number of problems.")] = 20,
    first: Annotated[int, typer.Option("--first-seed", min=0, help="Problem numbers start here.")] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder; runs/NAME-repeat by default.")
    ] = None,
    set_: Set = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Run a case on many problems (`--seed` 1, 2, …) and average: is it accurate, is it honest?"""
    import json

    from pdediff.report.tables import print_averages
    from pdediff.studies.repeat import repeat as repeat_case

    folder = out or Path("runs") / f"{case.stem}-repeat"
    seeds = range(first, first + problems)
    with interruptible("the samples in work") as stop, progress_bar(f"repeating {case.stem}", as_json) as progress:
        summary = repeat_case(case, seeds, folder, set_ or (), device, progress, stop)
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
    else:
        print_averages(summary)
        typer.echo(f"problems and figures: {folder}")
