"""How samples are drawn from the posterior: the method, and the options that belong to it.

One key, `method`, and a few that only some methods have. `OPTIONS` says which, with their defaults, which are filled in
so that they count in the case's identity.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pdediff.cases.choices import LOSSES, METHODS, SAMPLERS, SCHEDULES
from pdediff.cases.section import Formula, Positive, Section, key_error

ZETA = 0.01  # stable with a log-normal and with a two-phase prior, where 0.1 met the data better

SAMPLED: dict[str, Any] = {"sampler": "ddim", "eta": 1.0, "start": None}
"""Options of methods that are a posterior denoiser, which any sampler takes."""

OPTIONS: dict[str, dict[str, Any]] = {
    "proximal": {"covariance": None},
    "dps": {"step": "normalised", "zeta": ZETA, **SAMPLED},
    "pigdm": SAMPLED,
    "moments": SAMPLED,
    "diffpir": SAMPLED,
    "monte-carlo": {"draws": 16, **SAMPLED},
    "loss": {"loss": "huber", "scale": 1.0, **SAMPLED},
    "control": {"weight": 1.0, **SAMPLED},
    "prior": SAMPLED,
    "ddrm": {"eta": 0.85},
    "daps": {"iterations": 50},
    "smc": {"particles": 64},
    "gradient-search": {"iterations": 200},
    "blind-dps": {"step": "normalised", "sparsity": None, "kernel_prior": "mixture"},
    "diffusion-em": {"form": "fast", "particles": 8, "iterations": 12},
}
"""The options of each method, and their defaults; None has none, or leaves it to the method."""

STOCHASTIC = ("ddim",)  # samplers whose share of fresh noise may be chosen
LINEAR = ("ddrm",)  # methods that need data that are linear in x_0
NEEDS_LEAST_SQUARES = ("proximal", "pigdm", "moments", "diffpir", "ddrm", "daps")
"""Methods that need Gaussian noise: they linearise the misfit."""


class StartSection(Section):
    """A field to start from instead of pure noise."""

    a: Formula = Field(description="The field: a number or an expression in x and y, in a's unit.")
    s: Positive = Field(
        default=0.5, description="Noise-to-signal ratio at which sampling starts: how much of the field may change."
    )
    by: Literal["noise", "inversion"] = Field(
        default="noise",
        description="How the start is made. noise: the field with fresh noise (SDEdit). inversion: the deterministic "
        "flow run backwards from the field, the same for every sample.",
    )


class GuidanceSection(Section):
    """How samples are drawn from the posterior."""

    method: Annotated[str, METHODS] = Field(
        default="proximal",
        description="The algorithm; docs/methods.md says when to use which. proximal: Gauss–Newton steps and "
        "re-noising. prior: no guidance, the data are ignored.",
    )
    accuracy: Literal["fast", "normal", "high"] = Field(
        default="normal", description="Numbers of noise levels and of inner steps: the only dial of proximal."
    )
    levels: Annotated[int, Field(ge=2, le=100_000)] | None = Field(
        default=None,
        description="Number of noise levels, instead of what accuracy says; of the sampler langevin, of its steps too.",
    )
    schedule: Annotated[str, SCHEDULES] | None = Field(
        default=None,
        description="The noise schedule: functional (default), vp, cosine or ve. The noise levels are the same in all; "
        "only the steps of Euler–Maruyama depend on it.",
    )
    covariance: Literal["measured", "jacobian"] | None = Field(
        default=None,
        description="Of proximal: how the denoiser errs, as measured on held-out functions (default), or by its "
        "Jacobian, which ties the errors of a to those of u; slower, and for physics none only.",
    )
    step: Literal["normalised", "sigma"] | None = Field(
        default=None,
        description="Of dps and blind-dps: the paper's step, divided by the misfit (default), or the true sigma's.",
    )
    zeta: Positive | None = Field(
        default=None,
        description=f"Of dps: length of the normalised step, to be tuned to each problem; {ZETA} by default.",
    )
    sampler: Annotated[str, SAMPLERS] | None = Field(
        default=None,
        description="What integrates from noise to the field, for methods that only condition the denoiser; DDIM by "
        "default.",
    )
    eta: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="Of DDIM and DDRM: part of the noise that is fresh; 1 is ancestral (DDIM's default), 0 "
        "deterministic.",
    )
    start: StartSection | None = Field(default=None, description="A field to start from; pure noise by default.")
    draws: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Of monte-carlo: draws of x_0 given x_t at each level."
    )
    particles: Annotated[int, Field(ge=2, le=100_000)] | None = Field(
        default=None,
        description="Of smc: particles behind each sample; exact as they grow, costly as they do. Of diffusion-em: "
        "samples that the parameters are estimated from.",
    )
    form: Literal["fast", "plain"] | None = Field(
        default=None,
        description="Of diffusion-em: parameters are updated along one diffusion (fast), or after whole ones (plain).",
    )
    iterations: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None,
        description="Of daps: Langevin steps a level. Of gradient-search: steps. Of diffusion-em: maximisations.",
    )
    loss: Annotated[str, LOSSES] | None = Field(
        default=None,
        description="Of loss: what is made small. huber: squares up to 1.5 sigma, then linear (outliers); squared: "
        "−log p(y | x_0), which is dps with the true sigma.",
    )
    scale: Positive | None = Field(default=None, description="Of loss: what the loss is multiplied by.")
    weight: Annotated[float, Field(ge=0, le=20)] | None = Field(
        default=None, description="Of control: 1 trusts the conditional network, more exaggerates it, 0 ignores it."
    )
    sparsity: Annotated[float, Field(ge=0, le=1e6)] | None = Field(
        default=None, description="Of blind-dps: weight lambda of the kernel's sparsity."
    )
    kernel_prior: Literal["mixture", "uniform"] | None = Field(
        default=None,
        description="Of blind-dps: a diffusion prior on the blur kernel (default), or none (the ablation).",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        """The method's own defaults, so that they count in the case's identity."""
        if not isinstance(data, dict):
            return data
        method = data.get("method", "proximal")
        options = OPTIONS.get(dict(METHODS.aliases).get(method, method)) if isinstance(method, str) else None
        if options is None:
            return data
        own = {key: value for key, value in options.items() if value is not None}
        if data.get("step") == "sigma":
            own.pop("zeta", None)
        if "sampler" in own and data.get("sampler", own["sampler"]) not in STOCHASTIC:
            own.pop("eta")
        return {**own, **data}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        own = OPTIONS[self.method]
        for key in sorted({key for options in OPTIONS.values() for key in options}):
            if getattr(self, key) is not None and key not in own:
                having = ", ".join(name for name, options in OPTIONS.items() if key in options)
                raise key_error(key, f"method {self.method!r} has no {key}; methods that have: {having}")
        if self.zeta is not None and self.step == "sigma":
            raise key_error("zeta", "the step of the true sigma has no zeta")
        if self.eta is not None and self.sampler is not None and self.sampler not in STOCHASTIC:
            raise key_error("eta", f"only the sampler ddim has an eta; sampler is {self.sampler!r}")
        if self.method == "diffusion-em" and (self.iterations or 0) < 2:
            raise key_error("iterations", "diffusion-em needs at least 2")
        if self.method == "gradient-search":
            for key in ("levels", "schedule"):
                if getattr(self, key) is not None:
                    raise key_error(key, f"the gradient search has no noise, hence no {key}; only iterations")
        return self
