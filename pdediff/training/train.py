"""From a recipe to a pair of files: build law and network, train, measure the errors, write weights and card."""

import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pdediff import __version__
from pdediff.denoisers import weights
from pdediff.training.errors import measure_errors
from pdediff.training.functions import functions_of
from pdediff.training.loop import Progress, Training
from pdediff.training.recipe import HELD_OUT_SEED, Recipe


def train(
    recipe: Recipe,
    name: str,
    folder: Path,
    output: Path,
    device: str = "cpu",
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Train (or go on training) the recipe in `folder`; write `output/NAME.safetensors` and `output/NAME.json`.

    Returns the card, or None when `stop` ended the run early (a checkpoint is left in `folder`). Raises InputError when
    `folder` holds a run of another recipe.
    """
    functions = functions_of(recipe)
    card: dict[str, Any] = {
        "name": name,
        "shape": list(recipe.law.shape),
        **functions.card,
        "law": recipe.law.model_dump(mode="json"),
        "network": recipe.network.model_dump(mode="json"),
    }
    torch.manual_seed(recipe.training.seed)
    denoiser = weights.build(card)
    denoiser.network.to(device)
    denoiser.precision = getattr(torch, recipe.training.precision)
    training = Training(recipe, denoiser, functions.draw, folder)
    if not training.run(progress, stop):
        return None
    denoiser.precision = torch.float32
    generator = torch.Generator().manual_seed(HELD_OUT_SEED)
    denoiser.calibration, held_out = measure_errors(
        denoiser, lambda n: functions.draw(n, generator).to(device), generator
    )
    card |= {
        "parameters": sum(p.numel() for p in denoiser.network.parameters()),
        "training": recipe.training.model_dump(mode="json") | {"noise": recipe.noise.model_dump(mode="json")},
        "seconds": round(training.seconds),
        "machine": machine(device),
        "loss": round(training.smoothed, 5),
        "held_out": held_out,
        "written": time.strftime("%Y-%m-%d"),
        "versions": {"pdediff": __version__, "torch": version("torch")},
    }
    output.mkdir(parents=True, exist_ok=True)
    weights.save(denoiser, card, output / f"{name}.json")
    return card


def machine(device: str) -> str:
    """The processor in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
