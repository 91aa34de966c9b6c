"""The case: everything that determines a run, as frozen settings.

Its attributes follow the case file key by key. Nothing here reads a file or knows a line number: `load` does, and
attaches what it read.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, model_validator

from pdediff.cases.choices import PARAMETERS, PDES
from pdediff.cases.geometry import BoundarySection, GridSection, SourceSection
from pdediff.cases.guidance import GuidanceSection
from pdediff.cases.identity import digest
from pdediff.cases.measurements import Measurements
from pdediff.cases.observing import ObservationsSection
from pdediff.cases.physics import PhysicsSection
from pdediff.cases.prior import Prior
from pdediff.cases.reader import Node
from pdediff.cases.section import Name, Real, Section, Seed, key_error
from pdediff.cases.sensors import Sensors, place_all
from pdediff.solvers.grid import Grid


class InferSection(Section):
    """A parameter that is inferred along, and where it may lie."""

    min: Real = Field(description="Smallest value.")
    max: Real = Field(description="Largest value.")

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        if not self.min < self.max:
            raise key_error("max", f"must be more than min, got {self.min:g} and {self.max:g}")
        return self


class SamplingSection(Section):
    """How many samples, and from which random numbers."""

    samples: int = Field(default=20, ge=1, le=100_000, description="Number of posterior samples.")
    seed: Seed = Field(default=3, description="Seed of the sampler's noise; each sample has its own stream.")
    batch: int = Field(
        default=20,
        ge=1,
        le=10_000,
        description="Samples computed together: memory and speed only, no result depends on it.",
    )


@dataclass(frozen=True)
class Origin:
    """What a case was made from.

    Parameters
    ----------
    path : the case file.
    tree : its values with their lines, options of the command line included.
    measurements : the rows of its data file, if it has one.
    card : the card of its trained prior, if it has one.
    hashes : SHA-256 of the files it names, by dotted key.
    """

    path: Path
    tree: Node
    measurements: Measurements | None = None
    card: Path | None = None
    hashes: dict[str, str] = field(default_factory=dict)


class Case(Section):
    """A case of pdediff: a PDE on a domain, a prior for its coefficient, data, and how to infer."""

    pde: Annotated[str, PDES] = Field(
        description="The equation. darcy: −∇·(a∇u) = f, for a and u. none: there is only a, and it is observed itself."
    )
    grid: GridSection = Field(description="Domain and resolution.")
    boundary: BoundarySection = Field(
        default=BoundarySection(), description="Conditions on the four sides; u = 0 by default."
    )
    source: SourceSection = Field(default=SourceSection(), description="Sources and wells; none by default.")
    prior: Prior = Field(description="The law of a before any datum: a shipped prior's name, a law, or weights.")
    observations: ObservationsSection = Field(description="The data.")
    physics: PhysicsSection = Field(
        default=PhysicsSection(kind="solver"), description="How u is tied to a: solver, residual, none, or a section."
    )
    guidance: GuidanceSection = Field(default=GuidanceSection(), description="The algorithm.")
    infer: Annotated[dict[Annotated[str, PARAMETERS], InferSection], Field(max_length=6)] | None = Field(
        default=None,
        description="What is not known of the instruments or the boundary, with bounds: width (of a blur), gain, or "
        "the value of u at the left, right, bottom or top side. The case's own value is the synthetic truth's.",
    )
    sampling: SamplingSection = Field(default=SamplingSection(), description="Number of samples, seed, batch.")
    compare: Annotated[dict[Name, dict[str, Any]], Field(max_length=100)] = Field(
        default={},
        description="Named variants of the case, for comparisons: keys that replace those above; null removes one.",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_equation(cls, data: Any) -> Any:
        """Where there is no equation nothing is solved, and nothing drives it."""
        if not isinstance(data, dict) or data.get("pde") != "none":
            return data
        for key in ("boundary", "source"):
            if key in data:
                raise key_error(key, "has no meaning without an equation; pde is none")
        observations = data.get("observations")
        if isinstance(observations, dict) and "sensors" in observations:
            truth = observations.get("truth", {})
            if isinstance(truth, dict):
                data = {**data, "observations": {**observations, "truth": {"refine": 1, **truth}}}
        return {"physics": "none", **data}

    _origin: Origin = PrivateAttr(default_factory=lambda: Origin(Path("case.yaml"), Node({}, "case")))

    @property
    def origin(self) -> Origin:
        """Where the case comes from and the content of the files it names."""
        return self._origin

    @property
    def path(self) -> Path:
        """The case file."""
        return self._origin.path

    @property
    def name(self) -> str:
        """The case file's name without its ending."""
        return self._origin.path.stem

    @property
    def measurements(self) -> Measurements | None:
        """The rows of the data file, read and checked when the case was loaded; None for a synthetic truth."""
        return self._origin.measurements

    @property
    def prior_card(self) -> Path | None:
        """The card of the trained prior, with the weights beside it; None for a prior in closed form."""
        return self._origin.card

    def place_sensors(self, grid: Grid | None = None) -> Sensors:
        """The sensors of a synthetic truth, all groups in order; empty for a data file."""
        return place_all(self.observations, grid or self.grid.build())

    def resolved(self) -> dict[str, Any]:
        """All settings as plain data, every default filled in; a file is {name, sha256}."""
        without = {"boundary", "source"} if self.pde == "none" else set()
        data = self.model_dump(mode="json", exclude_none=True, exclude={"compare", *without})
        hashes = self._origin.hashes
        for section, key in (("observations", "file"), ("prior", "weights")):
            if key in data[section]:
                data[section][key] = {"name": data[section][key], "sha256": hashes.get(f"{section}.{key}", "")}
        if "prior.name" in hashes:
            data["prior"]["sha256"] = hashes["prior.name"]
        return {**data, "compare": self.compare}

    @property
    def hash(self) -> str:
        """Short hash of what determines the results: equal for equal problems, whatever their files look like."""
        return digest(self.resolved())
