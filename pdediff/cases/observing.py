"""What was measured, where, and how precisely: either numbers from a file, or sensors on a synthetic truth.

The noise of a datum y of a field with true value v has standard deviation sigma, or
sqrt(floor² + (relative·v)²). There is no other knob: the same sigma makes the synthetic noise and weighs the data.
"""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from pdediff.cases.choices import FIELDS, PLACEMENTS
from pdediff.cases.operators import Operators
from pdediff.cases.section import Name, Point, Positive, Section, Seed, Unit, as_number, as_tuple, key_error


def _as_list(value: Any) -> Any:
    """A lone section is a list of one."""
    return (value,) if isinstance(value, dict | Section) else as_tuple(value)


Points: TypeAlias = Annotated[tuple[Point, ...], Field(min_length=1, max_length=50_000), BeforeValidator(as_tuple)]


class TruthSection(Section):
    """A synthetic truth, drawn from the prior and solved on a finer grid than the inference uses."""

    seed: Seed = Field(default=0, description="Seed of the coefficient that is to be recovered.")
    refine: int = Field(
        default=2,
        ge=1,
        le=8,
        description="Its u is solved on cells this many times smaller; 1, the same grid, flatters.",
    )


class NoiseLevel(Section):
    """Standard deviation of the measurement error: sigma, or relative and floor."""

    sigma: Positive | None = Field(
        default=None, description="Absolute standard deviation, in the unit of the measured field."
    )
    relative: Annotated[float, Field(gt=0, le=10), BeforeValidator(as_number)] | None = Field(
        default=None, description="Fraction of the true value (of the measured one in a file)."
    )
    floor: Positive | None = Field(
        default=None, description="Smallest standard deviation, in the unit of the field; needed with `relative`."
    )

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        self._check_scale()
        return self

    def _check_scale(self) -> None:
        if self.sigma is not None and (self.relative is not None or self.floor is not None):
            raise key_error("sigma", "contradicts relative and floor; give sigma alone, or relative and floor")
        if self.sigma is None and self.floor is None:
            if self.relative is not None:
                raise key_error("relative", "needs a floor, or values near 0 would be exact; give both, or sigma alone")
            raise ValueError("needs sigma, or relative and floor")

    @property
    def coefficients(self) -> tuple[float, float]:
        """(floor, relative) of sqrt(floor² + (relative·v)²); a plain sigma is a floor."""
        return self.floor or self.sigma or 0.0, self.relative or 0.0


class NoiseSection(NoiseLevel):
    """Measurement error, and the seed of the synthetic one."""

    law: Literal["gaussian", "poisson"] = Field(
        default="gaussian",
        description="gaussian, with sigma or relative and floor; or poisson, with counts: data are counted events.",
    )
    counts: Positive | None = Field(
        default=None, description="Of poisson: events that a datum of 1 unit stands for, on average."
    )
    seed: Seed = Field(default=2, description="Seed of the synthetic measurement errors.")

    def _check_scale(self) -> None:
        if self.law == "gaussian":
            if self.counts is not None:
                raise key_error("counts", "only poisson noise has counts; law is 'gaussian'")
            super()._check_scale()
            return
        for key in ("sigma", "relative", "floor"):
            if getattr(self, key) is not None:
                raise key_error(key, "poisson noise has no other scale than its counts")
        if self.counts is None:
            raise ValueError("poisson noise needs counts: how many events a datum of 1 unit stands for")


class SensorSection(Section):
    """A group of sensors: points, `count` of them placed by a rule or given, or an `operator` on the whole field."""

    field: Annotated[str, FIELDS] = Field(default="u", description="What is measured: u, the solution, or a.")
    count: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(default=None, description="Number of sensors.")
    placement: Annotated[str, PLACEMENTS] | None = Field(
        default=None,
        description="uniform (the default): uniformly at random in the domain. cells: at cell centres, drawn without "
        "replacement. lattice: a regular lattice, rows × columns = count, half a spacing from the sides.",
    )
    seed: Seed | None = Field(default=None, description="Seed of the places (1 by default).")
    points: Points | None = Field(default=None, description="Places [[x, y], …] instead of count, placement and seed.")
    operator: Operators | None = Field(
        default=None,
        description="What is seen instead of values at points: a blur, average, mask or tomography, or a list of them "
        "in the order in which they act.",
    )
    gain: Positive = Field(
        default=1.0, description="What the instruments multiply by: a datum is gain × what is seen, plus noise."
    )
    name: Name | None = Field(default=None, description="Name of the group in results; the field's name by default.")
    noise: NoiseLevel | None = Field(
        default=None, description="Noise of this group, where it differs from `observations.noise`."
    )

    @model_validator(mode="before")
    @classmethod
    def _rule_or_points(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for own in ("operator", "points"):
            if own in data:
                for key in ("points", "count", "placement", "seed"):
                    if key in data and key != own:
                        raise key_error(key, f"has no meaning beside {own}; remove one of them")
                return data
        if "count" in data:
            return {"placement": "uniform", "seed": 1, **data}
        return data

    @model_validator(mode="after")
    def _placed(self) -> Self:
        if self.count is None and self.points is None and self.operator is None:
            raise ValueError("needs count (with placement and seed), points: [[x, y], …], or operator: {kind: …}")
        return self


class ObservationsSection(Section):
    """The data: `file`, or `sensors` and `noise` on a synthetic `truth`."""

    truth: TruthSection | None = Field(default=None, description="The synthetic truth that sensors measure.")
    file: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="CSV of real measurements: x,y,field,value,sigma."
    )
    sensors: (
        Annotated[tuple[SensorSection, ...], Field(min_length=1, max_length=100), BeforeValidator(_as_list)] | None
    ) = Field(default=None, description="One group of sensors, or a list of groups.")
    noise: NoiseSection | None = Field(
        default=None, description="Noise of all sensors; for a file, of the rows that carry no sigma of their own."
    )
    units: Unit = Field(default="", description="Unit of u, for labels, such as m.")

    @model_validator(mode="before")
    @classmethod
    def _file_or_sensors(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if "file" in data:
            for key in ("truth", "sensors"):
                if key in data:
                    raise key_error(key, "contradicts file: data are either read from a file or made from a truth")
            return data
        if "sensors" in data:
            return {"truth": {}, **data}
        return data

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.file is None:
            if self.sensors is None:
                raise ValueError("needs sensors (and noise) for a synthetic truth, or file: DATA.csv")
            if self.noise is None and any(group.noise is None for group in self.sensors):
                raise ValueError("needs noise: {sigma: …}, the standard deviation of the measurement errors")
        if self.noise is not None and self.noise.law == "poisson":
            if self.file is not None:
                raise key_error("noise", "of a file's data is Gaussian; give sigma, or relative and floor")
            for k, group in enumerate(self.sensors or ()):
                if group.noise is not None or group.field != "a":
                    raise key_error("noise", f"poisson noise is of all sensors, on a; sensors[{k}] differs")
        return self
