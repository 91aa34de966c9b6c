"""The command ``compare``."""

from pathlib import Path
from typing import Annotated

import typer

from pdediff.cli.interrupt import interruptible
from pdediff.cli.options import CaseFile, Device, DryRun, Force, Json, Quiet, Seed, Set
from pdediff.cli.progress import progress_bar

FAILED = 1


def compare(
    case: CaseFile,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder; runs/NAME-HASH-compare (or -paired) by default."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Run this variant only. May be repeated.")
    ] = None,
    problems: Annotated[
        int | None,
        typer.Option("--problems", min=1, help="Compare on problems 1 to N (--seed 1, 2, …), in pairs."),
    ] = None,
    set_: Set = None,
    seed: Seed = None,
    device: Device = "cpu",
    force: Force = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the variants of a case on the same data: with and without physics, other priors, other methods."""
    import json

    from pdediff.cases.load import load_case
    from pdediff.cli.cases import summary

    if problems is not None and seed is not None:
        raise typer.BadParameter("--seed and --problems contradict each other: problem N is --seed N")
    loaded = load_case(case, set_ or (), seed)

    from pdediff.report.tables import print_metrics, print_paired
    from pdediff.studies.compare import check, check_data, chosen, identity, load_variants
    from pdediff.studies.compare import compare as compare_case
    from pdediff.studies.paired import check as check_problems
    from pdediff.studies.paired import main_pairs, paired, with_differences

    variants, names = load_variants(loaded), chosen(loaded, only or ())
    kind = "compare" if problems is None else "paired"
    folder = out or Path("runs") / f"{loaded.name}-{identity(loaded, variants)}-{kind}"
    what = f"{', '.join(names)}" + (f" on problems 1 to {problems}" if problems else "")
    seeds = range(1, (problems or 0) + 1)
    if dry_run:
        if problems is None:
            finished = check(loaded, variants, folder, device, force, only or ())
        else:
            finished = check_problems(case, seeds, folder, set_ or (), device, force, only or ())
        check_data(loaded, variants)
        typer.echo(
            f"would {'read' if finished else 'run'} {what} of {summary(loaded)} {'in' if finished else 'into'} {folder}"
        )
        return
    if not (quiet or as_json):
        typer.echo(f"{summary(loaded)}\nvariants: {what}")
    with interruptible("the samples in work") as stop, progress_bar("comparing", quiet or as_json) as progress:
        if problems is None:
            result = compare_case(loaded, folder, device, force, progress, stop, only or ())
            metrics, failed = result.metrics, result.failed
        else:
            metrics = paired(case, seeds, folder, set_ or (), device, force, progress, stop, only or ())
            failed = metrics["failed"]
    if as_json:
        typer.echo(json.dumps(metrics, indent=1))
    elif not quiet:
        if problems is None:
            print_metrics(metrics)
        else:
            print_paired(with_differences(metrics, main_pairs(list(metrics["averages"]))))
        typer.echo(f"report: {folder / 'report.html'}")
        typer.echo(f"figure: {folder / 'figures'}/*.png")
    for name, why in failed.items():
        typer.echo(f"pdediff: {name}: {why}", err=True)
    if failed:
        raise typer.Exit(FAILED)
