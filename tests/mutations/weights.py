"""Weights and cards that are cut, edited, missing or somebody else's."""

import hashlib
import json
import re
from collections.abc import Iterator

from pdediff.cases.files import shipped_card


def weights_mutations(text: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(name, files) of a case, given with another prior, that gets weights and card of its own."""
    case = re.sub(r"^prior: [^\n]*", "prior: {weights: mine.safetensors}", text, flags=re.MULTILINE).encode()
    weights = bytes(range(256)) * 8
    card = json.loads(shipped_card("two-phase-64").read_text()) | {"sha256": hashlib.sha256(weights).hexdigest()}

    def files(weights: bytes = weights, edited: dict[str, object] | None = None) -> dict[str, bytes]:
        changed = {key: value for key, value in {**card, **(edited or {})}.items() if value is not None}
        return {"case.yaml": case, "mine.safetensors": weights, "mine.json": json.dumps(changed, indent=1).encode()}

    law, network = card["law"], card["network"]
    whole = files()["mine.json"]
    yield "whole", files()
    yield "weights cut", files(weights[:-1])
    yield "weights empty", files(b"")
    yield "a bit of the weights flipped", files(b"\x01" + weights[1:])
    yield "weights of another", files(weights[::-1])
    yield "no weights", {"case.yaml": case, "mine.json": whole}
    yield "no card", {"case.yaml": case, "mine.safetensors": weights}
    for name, content in (
        ("cut", whole[:200]),
        ("empty", b""),
        ("a list", b"[]"),
        ("null", b"null"),
        ("deep", b"[" * 5000),
        ("not text", b"\x80\x04\x95" + bytes(100)),
        ("HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)),
        ("NaN", whole.replace(b'"shape"', b'"x": NaN, "shape"')),
        ("too large", whole + b" " * 2**21),
    ):
        yield f"card {name}", {"case.yaml": case, "mine.safetensors": weights, "mine.json": content}
    edits: dict[str, tuple[object, ...]] = {
        "format": (None, "pdediff-denoiser-9", 1, ["pdediff-denoiser-1"]),
        "shape": (None, [64], [64, 64, 64], [64, 65], [64.0, 64.0], [-64, 64], "64", [True, True], [[64, 64]]),
        "sha256": (None, "", 7, "0" * 64),
        "fields": (None, [], ["b"], ["a", "u"], "a", ["a", "a"]),
        "law": (None, 3, {"name": "two-phase"}, law | {"low": "3"}, law | {"low": -1}, law | {"low": 50.0}),
        "network": (None, {}, network | {"patch": 0}, network | {"widths": [10**7]}, network | {"blocks": True}),
        "preconditioning": (None, {}, {"sigma_data": -1}, {"sigma_data": [1, 1]}, {"sigma_data": 1, "mean": None}),
    }
    for key, values in edits.items():
        for value in values:
            yield f"card with {key} {value!r}", files(edited={key: value})
