"""The command ``run``."""

from pathlib import Path
from typing import Annotated

import typer

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
    if dry_run:
        typer.echo(f"would run {summary(loaded)} into {folder}")
        return
    from pdediff.report.tables import print_metrics
    from pdediff.studies.run import run as run_case

    if not (quiet or as_json):
        typer.echo(summary(loaded))
    with progress_bar("sampling", quiet or as_json) as progress:
        result = run_case(loaded, folder, device, force, progress)
    if as_json:
        typer.echo((folder / "metrics.json").read_text())
    elif not quiet:
        print_metrics(result.metrics)
        typer.echo(f"figures: {folder / 'figures'}/*.png")
        typer.echo(f"samples: {folder / 'posterior.nc'}")
