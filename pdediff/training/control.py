"""Training of a branch that tells a frozen prior of sensors (`denoisers.control`).

Fresh functions of the prior's law at every step, as for the prior itself; with each a map of what some of its cells
are known to be. How many cells is drawn too, evenly in the logarithm, and one map in ten is empty: the branch learns to
say nothing when nothing is known.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from pdediff import __version__
from pdediff.denoisers import control_weights, weights
from pdediff.denoisers.control import ControlBranch, ControlledDenoiser, sensor_map
from pdediff.training.functions import functions_of
from pdediff.training.loop import Progress, Training
from pdediff.training.recipe import HELD_OUT_SEED, NoiseLevels, Optimisation, Recipe, Widths
from pdediff.training.train import machine

HELD_OUT_RATIOS = (0.5, 1.25, 3.2, 8.0, 20.0, 50.0)  # noise-to-signal ratios at which the branch is measured
HELD_OUT_CELLS = (50, 200, 500)


NOISE = NoiseLevels(mean=1.4, sd=1.5)  # higher than the prior's own: at small ones the field says more than any sensor


class Sensors(BaseModel):
    """Maps of observed cells: their number is drawn evenly in its logarithm, their places uniformly."""

    model_config = Recipe.model_config

    fewest: int = Field(default=20, ge=1, description="smallest number of observed cells of a field")
    most: int = Field(default=800, ge=1, description="largest number of observed cells of a field")
    sigma: float = Field(default=0.05, ge=0, description="standard deviation of the readings' noise, in units of x_0")
    dropout: float = Field(default=0.1, ge=0, le=1, description="probability of an empty map")

    def draw(self, x_0: Tensor, generator: torch.Generator) -> Tensor:
        """Conditions of functions x_0 (count, channels, ny, nx): (count, 2·channels, ny, nx)."""
        count, device = len(x_0), x_0.device
        u = torch.rand(count, generator=generator, device=device)
        cells = self.fewest * (self.most / self.fewest) ** u
        cells = torch.where(torch.rand(count, generator=generator, device=device) < self.dropout, 0.0, cells.round())
        return self.observe(x_0, cells, generator)

    def observe(self, x_0: Tensor, cells: Tensor | int, generator: torch.Generator) -> Tensor:
        """Conditions with so many cells, one number or one for each function (count,)."""
        wanted = torch.as_tensor(cells, device=x_0.device).expand(len(x_0))[:, None, None]
        rank = torch.rand(x_0.flatten(2).shape, generator=generator, device=x_0.device).argsort(-1).argsort(-1)
        noise = torch.randn(x_0.shape, generator=generator, device=x_0.device)
        return sensor_map(x_0 + self.sigma * noise, (rank < wanted).unflatten(-1, x_0.shape[2:]))


class Frozen(BaseModel):
    """The prior that is steered, by name and by the SHA-256 of its weights."""

    model_config = Recipe.model_config

    name: str
    sha256: str


class ControlRecipe(Recipe):
    """A branch's recipe: the law and the network are those of the prior that it steers."""

    prior: Frozen = Field(description="what is steered")
    widths: Widths = Field(default=(32, 64, 64), description="channels of the branch at each level, finest first")
    sensors: Sensors = Field(default=Sensors(), description="what the branch is told")


class ControlPlan(BaseModel):
    """The recipe file of a branch for a shipped prior, whose law and network it takes over."""

    model_config = Recipe.model_config

    steers: str = Field(description="name of the shipped prior")
    widths: Widths = Field(default=(32, 64, 64), description="channels of the branch at each level, finest first")
    sensors: Sensors = Field(default=Sensors(), description="what the branch is told")
    noise: NoiseLevels = Field(default=NOISE, description="how noise levels are drawn")
    training: Optimisation = Field(description="optimiser settings")

    def recipe(self, card: dict[str, Any]) -> ControlRecipe:
        """The recipe, for the prior of a card."""
        return recipe_for(card, self.training, self.noise, widths=self.widths, sensors=self.sensors)


def is_control(recipe: object) -> bool:
    """Whether the content of a recipe file is that of a branch: it says what it steers."""
    return isinstance(recipe, dict) and "steers" in recipe


def recipe_for(
    card: dict[str, Any],
    training: Optimisation,
    noise: NoiseLevels = NOISE,
    **settings: Any,
) -> ControlRecipe:
    """The recipe of a branch for the prior of a card; `settings` are `widths` and `sensors`."""
    shared = {key: card[key] for key in ("law", "solution", "network") if key in card}
    prior = Frozen(name=card["name"], sha256=card["sha256"])
    return ControlRecipe(**shared, prior=prior, training=training, noise=noise, **settings)


@dataclass
class SensorTask:
    """What `Training` trains: the branch alone, on functions that bring their condition as further channels."""

    denoiser: ControlledDenoiser

    @property
    def network(self) -> ControlBranch:
        """The branch."""
        return self.denoiser.branch

    def loss(self, functions: Tensor, g: Tensor, s: Tensor) -> Tensor:
        """The prior's loss under the condition (B,), of functions and g (B, channels + C, ny, nx) at ratios s (B,)."""
        channels = self.denoiser.space.channels
        x_0, condition = functions[:, :channels], functions[:, channels:]
        return self.denoiser.given(condition).loss(x_0, g[:, :channels], s)


def train_control(
    recipe: ControlRecipe,
    prior: Path,
    name: str,
    folder: Path,
    output: Path,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Train (or go on training) a branch for a prior's files in `folder`; write `output/NAME.safetensors` and `.json`.

    Returns the card, or None when `stop` ended the run early (a checkpoint is left in `folder`). Raises InputError when
    `folder` holds a run of another recipe, or `prior` is not the recipe's.
    """
    frozen, card = weights.load(prior)
    control_weights.check_prior(recipe.prior.model_dump(), card, prior)
    functions = functions_of(recipe)
    torch.manual_seed(recipe.training.seed)
    branch_card: dict[str, Any] = {
        "name": name,
        "prior": recipe.prior.model_dump(mode="json"),
        "branch": {"conditions": 2 * frozen.space.channels, "widths": list(recipe.widths)},
    }
    branch = control_weights.build(branch_card, frozen)
    quick = replace(frozen, precision=getattr(torch, recipe.training.precision))

    def draw(count: int, generator: torch.Generator) -> Tensor:
        x_0 = functions.draw(count, generator)
        return torch.cat([x_0, recipe.sensors.draw(x_0, generator)], dim=1)

    training = Training(recipe, SensorTask(ControlledDenoiser(quick, branch)), draw, folder)
    if not training.run(progress, stop):
        return None
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    x_0 = functions.draw(64, generator)
    branch_card |= {
        "sensors": recipe.sensors.model_dump(mode="json"),
        "parameters": sum(p.numel() for p in branch.parameters()),
        "training": recipe.training.model_dump(mode="json") | {"noise": recipe.noise.model_dump(mode="json")},
        "seconds": round(training.seconds),
        "machine": machine("cpu"),
        "loss": round(training.smoothed, 5),
        "held_out": held_out_errors(ControlledDenoiser(frozen, branch), x_0, recipe.sensors, generator),
        "written": time.strftime("%Y-%m-%d"),
        "versions": {"pdediff": __version__, "torch": version("torch")},
    }
    output.mkdir(parents=True, exist_ok=True)
    control_weights.save(branch, branch_card, output / f"{name}.json")
    return branch_card


@torch.no_grad()
def held_out_errors(
    denoiser: ControlledDenoiser, x_0: Tensor, sensors: Sensors, generator: torch.Generator
) -> list[dict[str, float]]:
    """Mean square errors of predictions of x_0 (B, channels, ny, nx), a row for each noise-to-signal ratio.

    "prior" is the frozen denoiser's; "cells_N" the branch's, given N observed cells of each field.
    """
    rows = []
    for s in HELD_OUT_RATIOS:
        x = x_0 + s * torch.randn(x_0.shape, generator=generator)
        ratios = torch.full((len(x),), s)

        def mse(prediction: Tensor) -> float:
            return float(f"{float((prediction - x_0).square().mean()):.4g}")

        row = {"s": s, "prior": mse(denoiser.denoiser.denoise(x, ratios))}
        for cells in HELD_OUT_CELLS:
            condition = sensors.observe(x_0, min(cells, math.prod(x_0.shape[2:])), generator)
            row[f"cells_{cells}"] = mse(denoiser.given(condition).denoise(x, ratios))
        rows.append(row)
    return rows
