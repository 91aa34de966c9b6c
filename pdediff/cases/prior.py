"""What the unknown coefficient may look like before any datum is seen.

A network shipped with the library, the user's own weights, a law in closed form (of ln a, of a, or several of a), or
one for a and one for u. In a case file a shipped prior is its bare name; the others are sections. The kind is told by
the keys, so a misspelt key is reported as such and not as so many failures of so many alternatives.
"""

from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from pdediff.cases.choices import LAWS, SOLUTION_LAWS, VARIOGRAMS
from pdediff.cases.geometry import Cells
from pdediff.cases.section import Formula, Name, Positive, Real, Section, Unit, as_number, as_tuple, key_error
from pdediff.cases.suggest import nearest, shown, suggestion

if TYPE_CHECKING:
    from pdediff.datasets.variograms import Variogram

A_UNIT = "Unit of a, for labels, such as m/d."
WINDOWS = "Overlapping windows, for a grid larger than the prior's own."


class WindowsSection(Section):
    """A prior of small fields on a large domain: windows that overlap, and agree at every noise level."""

    overlap: int = Field(ge=0, le=4096, description="Cells that neighbouring windows share.")
    shape: Annotated[tuple[Cells, Cells], BeforeValidator(as_tuple)] | None = Field(
        default=None, description="Cells [ny, nx] of a window: for a prior in closed form. A trained one knows its own."
    )


class ShippedPrior(Section):
    """A trained prior that comes with the library."""

    name: Name = Field(description="Its name, such as two-phase-64.")
    windows: WindowsSection | None = Field(default=None, description=WINDOWS)
    units: Unit = Field(default="", description=A_UNIT)

    @property
    def title(self) -> str:
        """What to call it."""
        return self.name

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data


class WeightsPrior(Section):
    """A prior trained by the user."""

    weights: str = Field(min_length=1, description="File NAME.safetensors, with its card NAME.json beside it.")
    windows: WindowsSection | None = Field(default=None, description=WINDOWS)
    units: Unit = Field(default="", description=A_UNIT)

    @property
    def title(self) -> str:
        """What to call it."""
        return PurePath(self.weights).stem


class VariogramSection(Section):
    """Covariance of log a (natural logarithm) as a function of distance h."""

    kind: Annotated[str, VARIOGRAMS] = Field(default="matern", description="Shape of the covariance.")
    range: Real = Field(
        gt=0,
        description="Correlation length l along the main direction, in the unit of the domain: exponential exp(−h/l), "
        "squared-exponential exp(−h²/2l²), matern with r = sqrt(2·smoothness)·h/l.",
    )
    variance: Real = Field(
        default=1.0, gt=0, le=50, description="Variance of log a without the nugget; 1 is a factor e either way."
    )
    smoothness: Annotated[float, Field(ge=0.25, le=10), BeforeValidator(as_number)] | None = Field(
        default=None,
        description="Matérn smoothness (1.5 by default); 0.5 is exponential. Only for kind matern.",
    )
    nugget: Real = Field(
        default=0.0, ge=0, le=50, description="Variance of log a that is independent from cell to cell."
    )
    anisotropy: Real = Field(
        default=1.0, ge=1e-3, le=1, description="Correlation length across the main direction over the one along it."
    )
    angle: Real = Field(
        default=0.0, ge=-180, le=180, description="Main direction, in degrees anticlockwise from the x axis."
    )

    def build(self) -> "Variogram":
        """The variogram of `pdediff.datasets`."""
        from pdediff.datasets.variograms import Variogram

        return Variogram(
            kind=self.kind,
            variance=self.variance,
            range=self.range,
            smoothness=1.5 if self.smoothness is None else self.smoothness,
            anisotropy=self.anisotropy,
            angle=self.angle,
            nugget=self.nugget,
        )

    @model_validator(mode="before")
    @classmethod
    def _smoothness_of_matern(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kind = data.get("kind", "matern")
        if kind == "matern":
            return {"smoothness": 1.5, **data}
        if "smoothness" in data and kind in (*VARIOGRAMS.available, *dict(VARIOGRAMS.aliases)):
            raise key_error("smoothness", f"only a matern variogram has a smoothness; kind is {kind!r}")
        return data


class LogNormalPrior(Section):
    """a = exp(mean + g), g a Gaussian field: closed form, no training."""

    law: Annotated[str, LAWS] = Field(description="The law of a.")
    variogram: VariogramSection = Field(description="Covariance of log a.")
    mean: Real = Field(
        default=0.0,
        ge=-50,
        le=50,
        description="Mean of log a (natural logarithm): exp(mean) is the median of a, in `units`.",
    )
    units: Unit = Field(default="", description=A_UNIT)

    @property
    def title(self) -> str:
        """What to call it."""
        return f"{self.law} {self.variogram.kind}"

    @model_validator(mode="after")
    def _representable(self) -> Self:
        if self.law != "log-normal":
            raise key_error("law", f"must be log-normal here, where a is positive; got {shown(self.law)}")
        if self.variogram.variance + self.variogram.nugget > 50:
            raise key_error("variogram", "variance and nugget add up to more than 50")
        return self


class GaussianPrior(Section):
    """a = mean + g, g a Gaussian field: closed form, no training, and either sign. For problems without an equation."""

    law: Annotated[str, LAWS] = Field(description="gaussian")
    variogram: VariogramSection = Field(description="Covariance of a, in the square of its unit.")
    mean: Real = Field(default=0.0, description="Mean of a.")
    windows: WindowsSection | None = Field(default=None, description=WINDOWS)
    units: Unit = Field(default="", description=A_UNIT)

    @property
    def title(self) -> str:
        """What to call it."""
        return f"{self.law} {self.variogram.kind}"

    @model_validator(mode="after")
    def _windows_have_a_shape(self) -> Self:
        if self.windows is not None and self.windows.shape is None:
            raise key_error("windows", "a prior in closed form needs windows: {shape: [ny, nx], overlap: …}")
        return self


class ComponentSection(Section):
    """One of several laws."""

    variogram: VariogramSection = Field(description="Covariance of a, in the square of its unit.")
    mean: Real = Field(default=0.0, description="Mean of a.")
    weight: Positive = Field(default=1.0, description="How likely it is, relative to the others.")


class KnownSection(Section):
    """The component that is known to be there."""

    component: Name = Field(description="Its name.")
    by: Literal["classifier-free", "classifier"] = Field(
        default="classifier-free",
        description="How the denoiser is told: by its conditional form (classifier-free guidance), or by the gradient "
        "of the probability of the component given the noisy field (classifier guidance).",
    )
    scale: Annotated[float, Field(ge=0, le=20)] = Field(
        default=1.0, description="1 is Bayes' rule; more exaggerates what tells the component from the others."
    )


class MixturePrior(Section):
    """One of several Gaussian laws, nobody knows which: closed form, no training."""

    law: Annotated[str, LAWS] = Field(description="mixture")
    components: Annotated[dict[Name, ComponentSection], Field(min_length=1, max_length=20)] = Field(
        description="The laws, by name."
    )
    known: KnownSection | None = Field(default=None, description="The component, if it is known.")
    units: Unit = Field(default="", description=A_UNIT)

    @property
    def title(self) -> str:
        """What to call it."""
        return f"{self.law} of {', '.join(self.components)}"

    @model_validator(mode="after")
    def _known_is_a_component(self) -> Self:
        if self.known is not None and self.known.component not in self.components:
            raise key_error(
                "known",
                f"unknown component {shown(self.known.component)}; {suggestion(self.known.component, self.components)}",
            )
        return self


class SolutionPrior(Section):
    """u = mean + g, g a Gaussian field: what is known of a solution before the equation is."""

    law: Annotated[str, SOLUTION_LAWS] = Field(description="The law of u.")
    variogram: VariogramSection = Field(description="Covariance of u, in the square of its unit.")
    mean: Formula = Field(default=0.0, description="Mean of u: a number or an expression in x and y.")


class ProductPrior(Section):
    """Independent priors of a and u, for physics that is soft."""

    a: LogNormalPrior = Field(description="The law of a.")
    u: SolutionPrior = Field(description="The law of u.")

    @property
    def title(self) -> str:
        """What to call it."""
        return f"{self.a.title} × {self.u.law} {self.u.variogram.kind}"

    @property
    def units(self) -> str:
        """Unit of a."""
        return self.a.units


KINDS: dict[str, type[Section]] = {
    kind.__name__: kind
    for kind in (ShippedPrior, LogNormalPrior, GaussianPrior, MixturePrior, WeightsPrior, ProductPrior)
}
LAWS_BY_NAME = {"log-normal": LogNormalPrior, "gaussian": GaussianPrior, "mixture": MixturePrior}


def _kind(value: Any) -> str | None:
    """The kind of prior that a value is meant to be: that of its law, else the one that most of its keys resemble."""
    if isinstance(value, Section):
        return type(value).__name__
    if isinstance(value, str):
        return "ShippedPrior"
    if not isinstance(value, dict):
        return None
    law = value.get("law")
    if isinstance(law, str) and law in LAWS_BY_NAME:
        return LAWS_BY_NAME[law].__name__
    own = {name: kind.model_fields.keys() - {"units"} for name, kind in KINDS.items()}
    matches = {name: sum(nearest(str(key), keys) is not None for key in value) for name, keys in own.items()}
    best = max(matches, key=lambda name: matches[name])
    return best if matches[best] else None


Prior = Annotated[
    Annotated[ShippedPrior, Tag("ShippedPrior")]
    | Annotated[LogNormalPrior, Tag("LogNormalPrior")]
    | Annotated[GaussianPrior, Tag("GaussianPrior")]
    | Annotated[MixturePrior, Tag("MixturePrior")]
    | Annotated[WeightsPrior, Tag("WeightsPrior")]
    | Annotated[ProductPrior, Tag("ProductPrior")],
    Discriminator(
        _kind,
        custom_error_type="prior",
        custom_error_message="must be the name of a shipped prior, or {law: log-normal, variogram: …, mean: …}, "
        "or another law (gaussian, mixture), or {weights: FILE}, or {a: …, u: …}",
    ),
]
"""Any of them."""
