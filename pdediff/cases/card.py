"""The card of trained weights: what a prior was trained on, and what its network looks like.

A card is a file that can be edited, exchanged and damaged, and everything that is built of a prior follows it. So what
is used of it is checked here, key by key, before anything is built; what only informs (seeds, times, errors) is not.
"""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pdediff.cases.section import Positive, Real, as_tuple, key_error

FORMAT = "pdediff-denoiser-1"  # as `pdediff.denoisers.weights` writes it; that module needs torch, this one must not


def _as_numbers(value: object) -> object:
    return tuple(value) if isinstance(value, list) else (value,)


Shape: TypeAlias = Annotated[
    tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]], BeforeValidator(as_tuple)
]
Numbers: TypeAlias = Annotated[tuple[Real, ...], BeforeValidator(_as_numbers)]
"""A number, or one for each field."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class Law(_Part):
    """What was drawn: two phases, split by the sign of a Gaussian field."""

    name: Literal["two-phase"]
    shape: Shape
    alpha: Annotated[Real, Field(gt=0.5)]
    tau: Positive
    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _phases_differ(self) -> Self:
        if not self.low < self.high:
            raise key_error("low", f"must be less than high, got {self.low:g} and {self.high:g}")
        return self


class Network(_Part):
    """The network's size."""

    kind: Literal["unet"] = "unet"
    patch: int = Field(ge=1, le=8)
    widths: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], BeforeValidator(as_tuple)] = Field(
        min_length=1, max_length=6
    )
    blocks: int = Field(ge=1, le=8)
    attention: bool


class Preconditioning(_Part):
    """Standard deviation and mean of what the network sees."""

    sigma_data: Numbers
    mean: Numbers = (0.0,)

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if not all(number > 0 for number in self.sigma_data):
            raise key_error("sigma_data", "must be greater than 0")
        return self


class Parametrisation(_Part):
    """From what the network sees to a and u: u = shift + scale · x."""

    u: Annotated[tuple[Real, Positive], BeforeValidator(as_tuple)] | None = None


class Solution(_Part):
    """The equation that the solutions of a joint prior solve."""

    boundary: Real
    source: Real


class Card(_Part):
    """What is used of a card."""

    format: Literal["pdediff-denoiser-1"]
    fields: Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
    shape: Shape
    law: Law
    network: Network
    preconditioning: Preconditioning
    parametrisation: Parametrisation = Parametrisation()
    solution: Solution | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.fields not in (("a",), ("a", "u")):
            raise key_error("fields", f'must be ["a"] or ["a", "u"], got {list(self.fields)}')
        if self.law.shape != self.shape:
            raise key_error("shape", f"{list(self.shape)} is not that of its law, {list(self.law.shape)}")
        for key in ("sigma_data", "mean"):
            if len(getattr(self.preconditioning, key)) not in (1, len(self.fields)):
                raise key_error("preconditioning", f"{key} needs a number for each of {', '.join(self.fields)}")
        if "u" in self.fields and (self.solution is None or self.parametrisation.u is None):
            raise key_error("fields", "with u, the card must have solution and parametrisation.u")
        return self
