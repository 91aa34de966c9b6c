"""The command ``train``."""

from pathlib import Path
from typing import Annotated

import typer

from pdediff.cli.interrupt import interruptible
from pdediff.cli.options import Device, Quiet
from pdediff.cli.progress import progress_bar


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or a recipe file.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of checkpoints and weights.")] = Path(
        "training"
    ),
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Train a prior from its recipe, or a branch that steers one; go on where an interrupted training stopped."""
    from pdediff.cases.files import read_card, shipped_card, shipped_recipe
    from pdediff.cases.messages import validate
    from pdediff.cases.reader import read_yaml
    from pdediff.training.control import ControlPlan, is_control, train_control
    from pdediff.training.recipe import Recipe

    path = shipped_recipe(recipe)
    tree = read_yaml(path, "recipe")
    control = validate(tree, ControlPlan) if is_control(tree.value) else None
    plan = None if control is not None else validate(tree, Recipe)
    prior = None if control is None else shipped_card(control.steers)

    from pdediff.posterior.files import locked
    from pdediff.solvers.errors import InputError, Interrupted
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

        def on_step(step: int, steps: int, loss: float) -> None:
            bar(step, steps, f"step {step}, loss {loss:.4f}")

        if control is not None and prior is not None:
            if device != "cpu":
                raise InputError(f"--device {device}: a branch is trained on the cpu")
            branch = control.recipe(read_card(prior))
            card = train_control(branch, prior, path.stem, checkpoint, out, on_step, stop)
        else:
            assert plan is not None
            card = train_recipe(plan, path.stem, checkpoint, out, device, on_step, stop)
    if card is None:
        raise Interrupted(f"{checkpoint}: interrupted; the same command goes on from there")
    if quiet:
        return
    if control is not None:
        typer.echo(
            f"mean square error at noise s, of the prior and with so many observed cells: {out / path.stem}.json"
        )
        for row in card["held_out"]:
            typer.echo("   ".join(f"{key} {value:.4g}" for key, value in row.items()))
    else:
        typer.echo(f"noise s   mean square error of {', '.join(card['fields'])}")
        for row in card["held_out"]:
            errors = row["mse"] if isinstance(row["mse"], list) else [row["mse"]]
            typer.echo(f"{row['s']:7.3g}   {'   '.join(f'{error:.4g}' for error in errors)}")
        typer.echo(f"weights: {out / path.stem}.safetensors; in a case: prior: {{weights: {path.stem}.safetensors}}")
