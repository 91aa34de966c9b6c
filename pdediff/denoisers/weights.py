"""Files of trained denoisers: safetensors for the numbers, a JSON card for everything else. Never pickles.

`NAME.safetensors` holds the network's weights (`network.*`) and the measured error law (`calibration.*`). `NAME.json`
is the card: the law it was trained on, the network's shape, seed, steps, machine, loss, held-out errors, and the
SHA-256 of the weights.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors

from pdediff.denoisers.base import Preconditioning
from pdediff.denoisers.calibration import CalibratedErrors
from pdediff.denoisers.grid_operator import GridOperatorDenoiser
from pdediff.denoisers.unet import UNet
from pdediff.schedules import FunctionalSchedule
from pdediff.solvers.errors import InputError
from pdediff.solvers.files import replacing, write_json
from pdediff.spaces import FunctionSpace

FORMAT = "pdediff-denoiser-1"
CALIBRATION = ("s", "nodes", "variance", "spectrum")


def build(card: dict[str, Any]) -> GridOperatorDenoiser:
    """An untrained denoiser of the card's shape."""
    network = UNet(
        channels=len(card["fields"]),
        patch=card["network"]["patch"],
        widths=tuple(card["network"]["widths"]),
        blocks=card["network"]["blocks"],
        attention=card["network"]["attention"],
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return GridOperatorDenoiser(
        network=network,
        space=FunctionSpace(tuple(card["fields"]), tuple(card["shape"])),
        preconditioning=Preconditioning(**card["preconditioning"]),
        schedule=FunctionalSchedule(),
    )


def save(denoiser: GridOperatorDenoiser, card: dict[str, Any], path: Path) -> None:
    """Write `path` (.json, the card) and the weights beside it, weights first, each by rename."""
    tensors = {f"network.{k}": v for k, v in denoiser.network.state_dict().items()}
    if denoiser.calibration is not None:
        tensors |= {f"calibration.{k}": getattr(denoiser.calibration, k) for k in CALIBRATION}
    weights = path.with_suffix(".safetensors")
    content = save_tensors({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, {"format": FORMAT})
    with replacing(weights) as part:
        part.write_bytes(content)
    write_json({"format": FORMAT, **card, "sha256": hashlib.sha256(content).hexdigest()}, path)


def load(path: Path, device: str | torch.device = "cpu") -> tuple[GridOperatorDenoiser, dict[str, Any]]:
    """A trained denoiser and its card from `path` (the card, or the weights beside it).

    Raises InputError when a file is missing, truncated, of another format, or weights and card do not belong together.
    """
    path = path.with_suffix(".json")
    weights = path.with_suffix(".safetensors")
    for part in (path, weights):
        if not part.is_file():
            raise InputError(f"{part}: no such file; a prior is a pair NAME.json, NAME.safetensors")
    try:
        card = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a card of weights: {error}") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise InputError(f"{path}: not a card of weights: its format is not {FORMAT}")
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{weights}: truncated or not safetensors: {error}") from None
    if hashlib.sha256(weights.read_bytes()).hexdigest() != card.get("sha256"):
        raise InputError(f"{weights}: not the weights that {path.name} describes (SHA-256 differs)")
    network = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
    try:
        denoiser = build(card)
        denoiser.network.load_state_dict(network)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # a card that was edited
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: does not describe a denoiser with these weights: {reason}") from None
    if "calibration.s" in tensors:
        denoiser.calibration = CalibratedErrors(**{k: tensors[f"calibration.{k}"] for k in CALIBRATION})
    denoiser.network.to(device).eval().requires_grad_(False)
    return denoiser, card
