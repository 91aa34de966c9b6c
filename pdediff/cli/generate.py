"""The command ``generate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pdediff.cli.interrupt import interruptible
from pdediff.cli.options import DryRun, Quiet, Set
from pdediff.cli.progress import progress_bar

if TYPE_CHECKING:
    from pdediff.cases.generation import DatasetRecipe


def generate(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Recipe file (YAML), or a shipped one's name.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.h5", help="The data set; data/NAME.h5 by default.")
    ] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, max=1024, help="Work in so many processes.")] = 1,
    set_: Set = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Draw coefficients, solve for them, and store both as HDF5; go on where an interrupted start stopped."""
    from pdediff.cases.generation import load_recipe

    name, plan = load_recipe(recipe, set_ or ())
    path = out or Path("data") / f"{name}.h5"

    from pdediff.studies.generate import count_done
    from pdediff.studies.generate import generate as generate_fields

    done = count_done(plan, path)
    if dry_run:
        there = f", {done} of which are there" if done else ""
        typer.echo(f"would generate {summary(name, plan)}{there}, into {path}")
        return
    with interruptible("the chunks in work") as stop, progress_bar(f"generating {name}", quiet) as progress:
        generate_fields(plan, path, processes, progress, stop)
    if not quiet:
        typer.echo(f"{summary(name, plan)}: {path} ({path.stat().st_size / 1e6:.0f} MB)")


def summary(name: str, recipe: "DatasetRecipe") -> str:
    """A recipe in one line."""
    ny, nx = recipe.grid.shape
    solver = f", {recipe.solver.kind}" if "u" in recipe.fields else ""
    return (
        f"{name}: {recipe.samples} samples of {', '.join(recipe.fields)} on {ny} × {nx} cells, "
        f"{recipe.coefficient.law}{solver}, seed {recipe.seed}, {recipe.precision}"
    )
