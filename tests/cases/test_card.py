"""Cards of weights are files that anybody can edit: what is used of them is checked, with the line."""

import json
from pathlib import Path
from typing import Any

import pytest

from pdediff.cases.files import read_card, sha256, shipped_card
from pdediff.solvers.errors import InputError


def write(folder: Path, card: dict[str, Any]) -> Path:
    """A card and something that has its hash."""
    weights = folder / "mine.safetensors"
    weights.write_bytes(b"weights")
    path = folder / "mine.json"
    path.write_text(json.dumps(card | {"sha256": sha256(weights)}, indent=1))
    return path


@pytest.fixture
def card() -> dict[str, Any]:
    """The shipped prior's."""
    return dict(json.loads(shipped_card("two-phase-64").read_text()))


def test_what_training_writes_is_valid(tmp_path: Path, card: dict[str, Any]) -> None:
    """The shipped card, as it is and with the additions of a joint prior."""
    assert read_card(shipped_card("two-phase-64"))["fields"] == ["a"]
    joint = card | {
        "fields": ["a", "u"],
        "parametrisation": {"kind": "two-phase", "low": 3.0, "high": 12.0, "u": [0.1, 0.05]},
        "solution": {"pde": "darcy", "boundary": 0.0, "source": 1.0, "amplitude": 4.0},
        "preconditioning": {"sigma_data": [1.0, 4.0], "mean": [0.0, 0.0]},
    }
    assert read_card(write(tmp_path, joint))["solution"]["source"] == 1
    del joint["solution"]
    with pytest.raises(InputError, match=r"mine.json:4: fields: with u, the card must have solution"):
        read_card(write(tmp_path, joint))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("fields", ["b"], "fields: must be"),
        ("shape", [64, 32], "shape: [64, 32] is not that of its law, [64, 64]"),
        ("shape", "64", "shape: must be a list"),
        ("law", None, "law: is empty"),
        ("law.name", "level-set", "law.name: unknown 'level-set'; "),
        ("law.low", "3", "law.low: must be a number, got '3'"),
        ("law.low", -3, "law.low: must be greater than 0"),
        ("law.low", 12.5, "law.low: must be less than high, got 12.5 and 12"),
        ("law.alpha", float("nan"), "law.alpha: must be a number, got 'NaN'"),
        ("network.widths", [10**7], "network.widths[0]: must be at most 4096"),
        ("network.patch", 0, "network.patch: must be at least 1"),
        ("network.attention", 1, "network.attention: must be true or false"),
        ("preconditioning.sigma_data", -1.0, "preconditioning.sigma_data: must be greater than 0"),
        ("preconditioning.sigma_data", [1, 2], "preconditioning: sigma_data needs a number for each of a"),
        ("preconditioning.mean", "x", "preconditioning.mean"),
    ],
)
def test_an_edited_card_is_refused(tmp_path: Path, card: dict[str, Any], path: str, value: Any, message: str) -> None:
    """One line, with the card's own line; nothing is built of it."""
    *sections, key = path.split(".")
    part = card
    for section in sections:
        part = part[section]
    part[key] = value
    with pytest.raises(InputError) as caught:
        read_card(write(tmp_path, card))
    assert message in str(caught.value)
    place, line, _ = str(caught.value).split(":", 2)
    assert place == str(tmp_path / "mine.json")
    above = "\n".join((tmp_path / "mine.json").read_text().splitlines()[: int(line)])
    assert above.rfind(f'"{key}"') > above.rfind('"format"') or path.split(".")[0] in above.splitlines()[-1]
