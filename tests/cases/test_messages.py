"""One clear line from any pydantic model, not only from a case."""

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from pdediff.cases.messages import validate
from pdediff.cases.reader import parse_yaml
from pdediff.solvers.errors import InputError


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Law(Strict):
    name: Literal["two-phase", "log-normal"]
    alpha: float = Field(2.0, gt=0.5)


class Recipe(Strict):
    law: Law
    widths: tuple[int, ...] = Field((64, 128), min_length=1)
    clip: bool = False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("law: {name: two-phase, alhpa: 3}", "r.yaml:1: unknown key 'alhpa' in law; did you mean 'alpha'?"),
        ("law: {name: two-fase}", "r.yaml:1: law.name: unknown 'two-fase'; did you mean 'two-phase'?"),
        ("law: {name: two-phase,\n  alpha: 0.5}", "r.yaml:2: law.alpha: must be greater than 0.5, got 0.5"),
        ("lwa: {name: two-phase}", "r.yaml:1: unknown key 'lwa'; did you mean 'law'?"),
        ("alpha: 3\nlaw: {name: two-phase}", "r.yaml:1: unknown key 'alpha'; did you mean 'law.alpha'?"),
        ("widths: [3]", "r.yaml:1: missing key 'law'"),
        ("law: {name: two-phase}\nwidths: []", "r.yaml:2: widths: needs at least 1, got []"),
        ("law: {name: two-phase}\nwidths: [1, x]", "r.yaml:2: widths[1]: must be a whole number, got 'x'"),
        ("law: {name: two-phase}\nclip: [1]", "r.yaml:2: clip: must be true or false, got [1]"),
        ("law:", "r.yaml:1: law: is empty; give it a value or remove the key"),
    ],
)
def test_message(text: str, message: str) -> None:
    """The place, the key, what is wrong, and what would be right."""
    with pytest.raises(InputError) as caught:
        validate(parse_yaml(text, "r.yaml"), Recipe)
    assert str(caught.value) == message


def test_valid() -> None:
    """And the model itself where nothing is wrong."""
    assert validate(parse_yaml("law: {name: log-normal}", "r.yaml"), Recipe).law.alpha == 2.0
