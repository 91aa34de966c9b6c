"""The command ``run``."""

from pathlib import Path
from typing import Annotated

import typer

from pdediff.cli.interrupt import interruptible
from pdediff.cli.options import CaseFile, Device, DryRun, Force, Json, Quiet, Seed, Set
from pdediff.cli.progress import progress_bar


def run(
    case: CaseFile,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the run; runs/NAME-HASH by default.")
    ] = None,
    set_: Set = None,
    seed: Seed = None,
    device: Device = "cpu",
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw posterior samples for a case; write them, their metrics and figures into a folder."""
    from pdediff.cases.load import load_case
    from pdediff.cli.cases import summary

    loaded = load_case(case, set_ or (), seed)
    folder = out or Path("runs") / f"{loaded.name}-{loaded.hash}"
    from pdediff.report.readings import cautions
    from pdediff.report.tables import print_metrics
    from pdediff.studies.run import check
    from pdediff.studies.run import run as run_case

    if dry_run:
        if check(loaded, folder, device, force):
            typer.echo(f"nothing to do: {folder} holds the finished run of {summary(loaded)}")
        else:
            typer.echo(f"would run {summary(loaded)} into {folder}")
        return
    if not (quiet or as_json):
        typer.echo(summary(loaded))
    with interruptible("the samples in work") as stop, progress_bar("sampling", quiet or as_json) as progress:
        result = run_case(loaded, folder, device, force, progress, stop)
    if as_json:
        typer.echo((folder / "metrics.json").read_text())
    elif not quiet:
        print_metrics(result.metrics)
        for caution in cautions(result.metrics):
            typer.echo(f"warning: {caution}", err=True)
        typer.echo(f"report:  {folder / 'report.html'}")
        typer.echo(f"figures: {folder / 'figures'}/*.png")
        typer.echo(f"samples: {folder / 'posterior.nc'}")
