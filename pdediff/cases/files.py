"""The files that a case names.

A case travels with its data, and may come from a stranger. So a path written in a case file is relative to the case's
folder and stays inside it; a path typed by the user with ``--set`` may lead anywhere.
"""

import hashlib
import json
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import ModuleType
from typing import Any

import pdediff.priors
from pdediff.cases.card import FORMAT as CARD_FORMAT
from pdediff.cases.card import Card
from pdediff.cases.messages import validate
from pdediff.cases.reader import Node, parse_yaml, read_text
from pdediff.cases.suggest import shown, suggestion
from pdediff.solvers.errors import InputError

LONGEST_PATH = 255


def locate(written: str, folder: Path, node: Node) -> Path:
    """The path that a case means by ``written``, a value of ``node``.

    Raises InputError, without a place, if it leaves the case's folder and was not typed by the user, or if it could not
    be printed in a message.
    """
    if not written.isprintable():
        raise InputError(f"path {shown(written)} has characters that cannot be printed")
    if node.where.startswith("--set"):
        return folder / written
    if len(written) > LONGEST_PATH:
        raise InputError(f"path {shown(written)} has more than {LONGEST_PATH} characters")
    parts = (*PurePosixPath(written).parts, *PureWindowsPath(written).parts)
    if PurePosixPath(written).is_absolute() or PureWindowsPath(written).drive or ".." in parts:
        raise InputError(
            f"path {shown(written)} leaves the folder of the case; move the file there, or give the path with --set"
        )
    return folder / written


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises InputError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def shipped_priors() -> dict[str, Path]:
    """The trained priors that come with the library: name to card."""
    folder = Path(pdediff.priors.__file__).parent
    cards = sorted(folder.glob("*.json"))
    return {card.stem: card for card in cards if card.with_suffix(".safetensors").is_file()}


def shipped_recipe(name: str, package: ModuleType = pdediff.priors) -> Path:
    """A shipped recipe of a package, or `name` itself where it is a file. Raises InputError if it is neither."""
    if Path(name).suffix in (".yaml", ".yml"):
        return Path(name)
    recipes = {path.stem: path for path in sorted(Path(str(package.__file__)).parent.glob("*.yaml"))}
    if name not in recipes:
        raise InputError(
            f"unknown recipe {shown(name)} (a shipped name, or a file NAME.yaml); {suggestion(name, recipes)}"
        )
    return recipes[name]


def shipped_card(name: str) -> Path:
    """The card of a shipped prior. Raises InputError, with the nearest name, if there is none."""
    priors = shipped_priors()
    if name not in priors:
        raise InputError(f"unknown prior {shown(name)}; {suggestion(name, priors)}")
    return priors[name]


def branch_of(name: str) -> Path:
    """The card of the branch that a shipped prior has. Raises InputError if it has none."""
    folder = Path(str(pdediff.priors.__file__)).parent / "control"
    card = folder / f"{name}-control.json"
    if not card.is_file():
        having = ", ".join(sorted(path.stem.removesuffix("-control") for path in folder.glob("*.json")))
        raise InputError(f"prior {name!r} has no conditional branch; priors that have one: {having}")
    return card


def read_card(path: Path) -> dict[str, Any]:
    """The card of trained weights, the JSON file beside them, once the weights are known to be whole.

    Raises InputError if either file is missing, or they are not of this library, or do not belong together.
    """
    card_path, weights = path.with_suffix(".json"), path.with_suffix(".safetensors")
    if path.suffix not in (".json", ".safetensors"):
        raise InputError(f"{path}: not a .safetensors file")
    for part in (weights, card_path):
        if not part.is_file():
            raise InputError(f"{part}: no such file; trained weights are NAME.safetensors with NAME.json beside it")
    text = read_text(card_path, "card")
    try:
        card = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise InputError(f"{card_path}: not the card of trained weights: it is not JSON") from None
    if not isinstance(card, dict) or card.get("format") != CARD_FORMAT:
        raise InputError(f"{card_path}: not the card of trained weights: its format is not {CARD_FORMAT}")
    validate(parse_yaml(text, str(card_path)), Card)  # JSON is YAML, which has lines
    if card["sha256"] != sha256(weights):
        raise InputError(f"{weights}: truncated, or not the weights that {card_path.name} describes")
    return card
