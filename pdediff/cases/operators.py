"""What instruments see of a field, where it is not its value at points: blurs, averages, masks, line integrals.

`operator:` of a sensor group is one of them, or a list, the first nearest to the field. All act on the cells of the
grid, and every value of the outcome is a datum.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from pdediff.cases.choices import OPERATORS
from pdediff.cases.section import Interval, Positive, Section, as_tuple
from pdediff.cases.suggest import nearest


class BlurSection(Section):
    """Every cell sees a Gaussian average of its surroundings."""

    kind: Annotated[str, OPERATORS] = Field(description="blur")
    width: Positive = Field(description="Standard deviation of the Gaussian kernel, in the unit of the domain.")


class AverageSection(Section):
    """Blocks of cells are seen as their mean: super-resolution, or measurements with a large support."""

    kind: Annotated[str, OPERATORS] = Field(description="average")
    factor: int = Field(ge=2, le=1024, description="Cells a side of a block; it divides both numbers of cells.")


class MaskSection(Section):
    """Some cells are seen as they are, and the others not at all."""

    kind: Annotated[str, OPERATORS] = Field(description="mask")
    x: Interval = Field(description="Left and right end of a box, in the unit of the domain.")
    y: Interval = Field(description="Lower and upper end of the box.")
    seen: Literal["outside", "inside"] = Field(
        default="outside",
        description="outside: the box is a hole to be filled (inpainting). inside: all but the box is (outpainting).",
    )


class TomographySection(Section):
    """Integrals along parallel lines, at several angles."""

    kind: Annotated[str, OPERATORS] = Field(description="tomography")
    angles: int = Field(ge=1, le=2000, description="Number of directions, evenly over 180°, the first along x.")
    rays: int = Field(
        ge=1,
        le=5000,
        description="Lines of each direction, evenly across the domain's diagonal; those that miss the domain are left "
        "out.",
    )


KINDS: dict[str, type[Section]] = {
    "blur": BlurSection,
    "average": AverageSection,
    "mask": MaskSection,
    "tomography": TomographySection,
}


def _kind(value: Any) -> str:
    """The section that a value is meant to be: that of its kind, else the one that most of its keys resemble."""
    if isinstance(value, Section):
        return type(value).__name__
    if not isinstance(value, dict):
        return BlurSection.__name__
    kind = value.get("kind")
    name = dict(OPERATORS.aliases).get(kind, kind) if isinstance(kind, str) else None
    if name in KINDS:
        return KINDS[name].__name__
    own = {section: section.model_fields.keys() - {"kind"} for section in KINDS.values()}
    fits = {s: sum(nearest(str(key), keys) is not None for key in value) for s, keys in own.items()}
    return max(fits, key=lambda s: fits[s]).__name__


OperatorSection = Annotated[
    Annotated[BlurSection, Tag("BlurSection")]
    | Annotated[AverageSection, Tag("AverageSection")]
    | Annotated[MaskSection, Tag("MaskSection")]
    | Annotated[TomographySection, Tag("TomographySection")],
    Discriminator(_kind),
]


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, dict | Section) else as_tuple(value)


Operators = Annotated[tuple[OperatorSection, ...], Field(min_length=1, max_length=8), BeforeValidator(_as_list)]
"""Operators in the order in which they act."""
