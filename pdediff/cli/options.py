"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

CaseFile: TypeAlias = Annotated[Path, typer.Argument(metavar="CASE", help="Case file (YAML).", show_default=False)]

Set: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key, such as sampling.samples=40. May be repeated."),
]

Seed: TypeAlias = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="Problem number: sets the seeds of truth, sensors, noise and sampling."),
]

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Device: TypeAlias = Annotated[str, typer.Option("--device", metavar="cpu|cuda", help="Where to compute.")]

Force: TypeAlias = Annotated[bool, typer.Option("--force", help="Start anew where the folder holds another case.")]

DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Say what would run, and stop.")]

Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
