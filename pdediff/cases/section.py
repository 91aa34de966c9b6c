"""The base of every section of a case, and the kinds of value that sections share."""

from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from pdediff.cases.suggest import shown
from pdediff.solvers.expressions import Expression

LARGEST = 1e30  # of any number in a case, and one over the smallest: products of three of them are still finite


class Section(BaseModel):
    """Settings that cannot change, where an unknown key, a number in quotes and an infinite number are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def key_error(key: str, message: str) -> PydanticCustomError:
    """For validators of a whole section: the error is located at ``key`` of it."""
    return PydanticCustomError("at_key", "{message}", {"key": key, "message": message})


def as_tuple(value: Any) -> Any:
    """A YAML list as the tuple that frozen settings hold."""
    return tuple(value) if isinstance(value, list) else value


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"must be printable text, got {shown(text)}")
    return text


def as_number(value: object) -> float:
    """A finite number; ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, got {shown(value)}")
    if not abs(value) <= LARGEST:
        raise ValueError(f"must be finite and at most {LARGEST:g} in size, got {shown(value)}")
    if value != 0 and abs(value) * LARGEST < 1:
        raise ValueError(f"must be at least {1 / LARGEST:g} in size (or 0), got {shown(value)}")
    return float(value)


def _number_or_formula(value: object) -> float | str:
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("is empty text; give a number or an expression in x and y")
        return str(Expression(value))
    if isinstance(value, int | float):
        return as_number(value)
    raise ValueError(f"must be a number or an expression in x and y, got {shown(value)}")


def _data(value: object) -> float | str | tuple[float, ...]:
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError("must be a number, an expression in x and y, or one number a cell face; got an empty list")
        return tuple(as_number(item) for item in value)
    if isinstance(value, str | int | float):
        return _number_or_formula(value)
    raise ValueError(f"must be a number, an expression in x and y, or one number a cell face; got {shown(value)}")


Real: TypeAlias = Annotated[float, BeforeValidator(as_number)]
"""A finite number."""

Positive: TypeAlias = Annotated[float, Field(gt=0), BeforeValidator(as_number)]
"""A finite number greater than 0."""

Interval: TypeAlias = Annotated[tuple[Real, Real], BeforeValidator(as_tuple)]
"""[low, high]."""

Point: TypeAlias = Annotated[tuple[Real, Real], BeforeValidator(as_tuple)]
"""[x, y]."""

Formula: TypeAlias = Annotated[
    float | str,
    PlainValidator(_number_or_formula),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "maxLength": 1000}]}),
]
"""A number, or an expression in x and y such as ``sin(pi*x)``."""

FaceData: TypeAlias = Annotated[
    float | str | tuple[float, ...],
    PlainValidator(_data),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number"},
                {"type": "string", "maxLength": 1000},
                {"type": "array", "items": {"type": "number"}, "minItems": 1},
            ]
        }
    ),
]
"""A number, an expression in x and y, or one number a face of the side (upwards, or rightwards)."""

Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**32)]
"""Seed of a random generator. torch's reads 32 bits: larger seeds would repeat smaller ones."""

Unit: TypeAlias = Annotated[str, Field(max_length=40), AfterValidator(_printable)]
"""A unit as it is to appear in labels."""

Name: TypeAlias = Annotated[str, Field(max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""A name that is safe in a file name."""
