"""Names that a key may take, in one place each.

``available`` names run. ``reserved`` names belong to the grammar but not to this version: they are recognised, so that
the message can say so, and are allowed in the variants of ``compare``, which are checked in full when they run.
Adding a method to the library is adding its name to one of these.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from pdediff.cases.suggest import shown, suggestion


@dataclass(frozen=True)
class Choices:
    """The names that one key may take."""

    available: tuple[str, ...]
    reserved: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()

    def check(self, value: object, lenient: bool = False) -> str:
        """The canonical name; ValueError, with the nearest valid one, for others. ``lenient`` admits reserved names."""
        if not isinstance(value, str):
            raise ValueError(f"must be one of {', '.join(self.available)}; got {shown(value)}")
        name = dict(self.aliases).get(value, value)
        if name in self.available or (lenient and name in self.reserved):
            return name
        if name in self.reserved:
            raise ValueError(f"{name!r} is not available in this version; available: {', '.join(self.available)}")
        known = (*self.available, *dict(self.aliases), *(self.reserved if lenient else ()))
        raise ValueError(f"unknown {shown(value)}; {suggestion(value, known)}")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """``Annotated[str, choices]`` validates with :meth:`check`; ``lenient`` comes from the validation context."""

        def validate(value: object, info: ValidationInfo) -> str:
            return self.check(value, lenient=bool((info.context or {}).get("lenient")))

        return core_schema.with_info_plain_validator_function(validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """JSON Schema of the key."""
        return {"type": "string", "enum": [*self.available, *dict(self.aliases)]}


PDES = Choices(("darcy", "none"))
PHYSICS = Choices(("solver", "residual", "none"), reserved=("surrogate",))
METHODS = Choices(
    (
        *("proximal", "dps", "pigdm", "ddrm", "moments", "diffpir", "daps", "smc", "monte-carlo", "loss"),
        *("control", "blind-dps", "diffusion-em", "gradient-search", "prior"),
    ),
    reserved=("esmda", "pinn"),
    aliases=(("twisted-smc", "smc"), ("moment-matching", "moments"), ("none", "prior")),
)
SAMPLERS = Choices(
    ("ddim", "ddpm", "heun", "euler-maruyama", "predictor-corrector", "annealed-langevin", "langevin"),
    aliases=(("sgld", "langevin"),),
)
SCHEDULES = Choices(("functional", "vp", "cosine", "ve"), aliases=(("ddpm", "vp"),))
LOSSES = Choices(("squared", "huber", "absolute"))
LAWS = Choices(("log-normal", "gaussian", "mixture"), reserved=("two-phase", "level-set"))
OPERATORS = Choices(
    ("blur", "average", "mask", "tomography"),
    aliases=(("gaussian-blur", "blur"), ("super-resolution", "average"), ("inpainting", "mask")),
)
SOLUTION_LAWS = Choices(("gaussian",))
VARIOGRAMS = Choices(("matern", "exponential", "squared-exponential"), aliases=(("gaussian", "squared-exponential"),))
PLACEMENTS = Choices(("uniform", "cells", "lattice"), aliases=(("random", "uniform"), ("grid", "lattice")))
PARAMETERS = Choices(("width", "gain", "left", "right", "bottom", "top"))
FIELDS = Choices(("u", "a"))
