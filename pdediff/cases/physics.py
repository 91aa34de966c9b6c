"""How the solution is tied to the coefficient.

In a case file a kind of physics is its bare name; a soft one may say how soft, in a section.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pdediff.cases.choices import PHYSICS
from pdediff.cases.section import Positive, Section, Seed, key_error

RELATIVE = 0.25
"""Size of the residual, on 64 × 64 cells, of two-phase solutions from a grid twice as fine. As white noise it moves u
by about twice what that discretisation error does: a cautious default."""
POINTS = 200


class PhysicsSection(Section):
    """How u is tied to a."""

    kind: Annotated[str, PHYSICS] = Field(
        description="solver: u solves the equation exactly. residual: the equation holds to within a model error. "
        "none: u and a are tied by a joint prior alone."
    )
    form: Literal["finite-volume", "strong"] | None = Field(
        default=None,
        description="Residual of the discrete balance in every cell (default), or of the differential equation at "
        "points, for smooth coefficients.",
    )
    sigma: Positive | None = Field(
        default=None, description="Standard deviation of the residual, in the unit of the source per unit area."
    )
    relative: Positive | None = Field(
        default=None,
        description=f"The same relative to the root mean square over the cells of the source, wells apart; {RELATIVE} "
        "by default.",
    )
    points: Annotated[int, Field(ge=1, le=4000)] | None = Field(
        default=None,
        description=f"Number of points of the strong form, each a datum of its own: twice as many weigh twice as much; "
        f"{POINTS} by default.",
    )
    seed: Seed | None = Field(default=None, description="Seed of the points' places; 0 by default.")

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        """A bare name as a section, and the defaults of a residual."""
        if isinstance(data, str):
            data = {"kind": data}
        if not isinstance(data, dict) or data.get("kind") != "residual":
            return data
        data = {"form": "finite-volume", **data}
        if data.get("sigma") is None:
            data.setdefault("relative", RELATIVE)
        if data["form"] == "strong":
            data = {"points": POINTS, "seed": 0, **data}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind != "residual":
            for key in ("form", "sigma", "relative", "points", "seed"):
                if getattr(self, key) is not None:
                    raise key_error(key, f"only the residual has a {key}; kind is {self.kind!r}")
        if self.sigma is not None and self.relative is not None:
            raise key_error("relative", "give sigma or relative, not both")
        for key in ("points", "seed"):
            if getattr(self, key) is not None and self.form != "strong":
                raise key_error(key, "only the strong form has points; the finite-volume residual is of every cell")
        return self

    @property
    def title(self) -> str:
        """What to call it."""
        return f"{self.kind} ({self.form})" if self.form == "strong" else self.kind
