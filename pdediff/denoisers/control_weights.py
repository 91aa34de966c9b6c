"""Files of trained branches: safetensors for the numbers, a JSON card for everything else, as for denoisers.

The card names the prior that the branch was trained on by the SHA-256 of its weights; beside any other network the
branch's corrections mean nothing, so it is loaded together with that prior or not at all.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors

from pdediff.denoisers import weights
from pdediff.denoisers.control import ControlBranch, ControlledDenoiser
from pdediff.denoisers.grid_operator import GridOperatorDenoiser
from pdediff.denoisers.unet import UNet
from pdediff.solvers.errors import InputError
from pdediff.solvers.files import replacing, write_json

FORMAT = "pdediff-control-1"


def build(card: dict[str, Any], prior: GridOperatorDenoiser) -> ControlBranch:
    """An untrained branch of the card's shape, for a prior with a U-Net."""
    network, shape = prior.network, card["branch"]
    assert isinstance(network, UNet)
    branch = ControlBranch(network, shape["conditions"], tuple(shape["widths"]))
    return branch.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def save(branch: ControlBranch, card: dict[str, Any], path: Path) -> None:
    """Write `path` (.json, the card) and the weights beside it, weights first, each by rename."""
    tensors = {k: v.detach().contiguous().cpu() for k, v in branch.state_dict().items()}
    content = save_tensors(tensors, {"format": FORMAT})
    with replacing(path.with_suffix(".safetensors")) as part:
        part.write_bytes(content)
    write_json({"format": FORMAT, **card, "sha256": hashlib.sha256(content).hexdigest()}, path)


def load(path: Path, prior: Path, device: str | torch.device = "cpu") -> tuple[ControlledDenoiser, dict[str, Any]]:
    """A trained branch on its prior, and the branch's card, from their files (the cards, or the weights beside them).

    Raises InputError when a file is missing, damaged or of another format, or branch and prior do not belong together.
    """
    path = path.with_suffix(".json")
    file = path.with_suffix(".safetensors")
    try:
        card = json.loads(path.read_text())
        content = file.read_bytes()
        tensors = load_file(file)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{path}: not a trained branch: {error}") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise InputError(f"{path}: not the card of a branch: its format is not {FORMAT}")
    if hashlib.sha256(content).hexdigest() != card.get("sha256"):
        raise InputError(f"{file}: not the weights that {path.name} describes (SHA-256 differs)")
    denoiser, prior_card = weights.load(prior, device)
    check_prior(card.get("prior"), prior_card, path)
    try:
        branch = build(card, denoiser)
        branch.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # a card that was edited
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: does not describe a branch with these weights: {reason}") from None
    return ControlledDenoiser(denoiser, branch.to(device).eval().requires_grad_(False)), card


def check_prior(wanted: Any, card: dict[str, Any], path: Path) -> None:
    """Raise InputError, about `path`, unless a card is that of the prior wanted, {"name": …, "sha256": …}."""
    if not isinstance(wanted, dict) or wanted.get("sha256") != card["sha256"]:
        name = wanted.get("name") if isinstance(wanted, dict) else None
        raise InputError(f"{path}: belongs to the prior {name!r}, whose weights are not those of {card['name']!r}")
