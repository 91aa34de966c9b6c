"""The command ``train``."""

from pathlib import Path
from typing import Annotated

import typer

from pdediff.cli.interrupt import interruptible
from pdediff.cli.options import Device, Quiet
from pdediff.cli.progress import progress_bar


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Name of a shipped prior, or a recipe file.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of checkpoints and weights.")] = Path(
        "training"
    ),
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Train a prior from its recipe; go on where an interrupted training stopped."""
    from pdediff.cases.files import shipped_recipe
    from pdediff.cases.messages import validate
    from pdediff.cases.reader import read_yaml
    from pdediff.training.recipe import Recipe

    path = shipped_recipe(recipe)
    plan = validate(read_yaml(path, "recipe"), Recipe)

    from pdediff.posterior.files import locked
    from pdediff.solvers.errors import Interrupted
    from pdediff.studies.run import check_device
    from pdediff.studies.sample import torch_settings
    from pdediff.training.train import train as train_recipe

    check_device(device)
    checkpoint = out / f"{path.stem}-checkpoint"
    with (
        locked(checkpoint),
        interruptible("the step in work") as stop,
        progress_bar(f"training {path.stem}", quiet) as bar,
        torch_settings(),
    ):
        card = train_recipe(
            plan,
            path.stem,
            checkpoint,
            out,
            device,
            lambda step, steps, loss: bar(step, steps, f"step {step}, loss {loss:.4f}"),
            stop,
        )
    if card is None:
        raise Interrupted(f"{checkpoint}: interrupted; the same command goes on from there")
    if not quiet:
        typer.echo(f"noise s   mean square error of {', '.join(card['fields'])}")
        for row in card["held_out"]:
            errors = row["mse"] if isinstance(row["mse"], list) else [row["mse"]]
            typer.echo(f"{row['s']:7.3g}   {'   '.join(f'{error:.4g}' for error in errors)}")
        typer.echo(f"weights: {out / path.stem}.safetensors; in a case: prior: {{weights: {path.stem}.safetensors}}")
